//! Whether what is shown of a thread was there at one moment.

use crate::model::Thread;
use crate::sections::Sections;
use crate::words::Word;
use pyst_snapshot::payload::{self as wire, Blocking, PythonState, ThreadReading};

/// What the snapshot says of that.
pub(crate) enum Verdicts<'a> {
    /// All was, for nothing ran.
    AllStopped(Option<ThreadReading>),
    Given(&'a wire::Verdicts),
    Unknown,
}

impl Verdicts<'_> {
    pub(crate) fn of_sections(sections: &Sections) -> Verdicts<'_> {
        match (&sections.verdicts, sections.capture.as_ref().map(|capture| capture.blocking)) {
            (Some(given), _) => Verdicts::Given(given),
            (None, Some(Blocking::STOPPED)) => Verdicts::AllStopped(Some(ThreadReading::STOPPED)),
            (None, Some(Blocking::NOT_APPLICABLE)) => Verdicts::AllStopped(None),
            _ => Verdicts::Unknown,
        }
    }

    /// Adds them to a thread with these states.
    pub(crate) fn add_to(&self, thread: &mut Thread, states: &[&PythonState]) {
        let tid = thread.tid.map(pyst_snapshot::Tid);
        let reading = match self {
            Verdicts::AllStopped(reading) => *reading,
            Verdicts::Given(given) => tid.and_then(|tid| given.of_thread(tid)).map(|verdict| verdict.reading),
            Verdicts::Unknown => None,
        };
        thread.reading = reading.filter(|_| tid.is_some()).map(Word);
        for (shown, state) in thread.python_states.iter_mut().zip(states) {
            let verdict = match self {
                Verdicts::AllStopped(_) => Some((true, 0)),
                Verdicts::Given(given) => {
                    given.of_state(state.address).map(|verdict| (verdict.verified, verdict.retries))
                }
                Verdicts::Unknown => None,
            };
            (shown.verified, shown.retries) = verdict.unzip();
        }
    }
}
