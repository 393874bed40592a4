//! What is said of threads that were not stopped.

use super::Target;
use crate::error::CaptureError;
use pyst_snapshot::Tid;
use pyst_snapshot::payload::{Diagnostic, Python, PythonState, Severity, Thread, ThreadReading, Verdicts};
use std::collections::BTreeSet;

/// The code of what is said of frames that may not be of one moment.
const NOT_VERIFIED: &str = "not-verified";

const MAY_BE_MIXED: &str = "the frames shown of it may not all have been on its stack at one time";

/// What is to be thought of a thread.
pub(super) struct Doubts<'a> {
    pub(super) thread: &'a Thread,
    pub(super) reading: ThreadReading,
    pub(super) verified: bool,
    /// It was not there from the beginning.
    pub(super) is_new: bool,
    /// The list of thread states does not lead to its own.
    pub(super) is_unlisted: bool,
}

impl Doubts<'_> {
    /// What there is to say of it. Without the thread's id, so that threads share the message.
    pub(super) fn diagnostic(&self, target: &Target<'_>) -> Option<Diagnostic> {
        let thread = self.thread;
        if matches!(thread.state, Some(b'Z' | b'X')) {
            return None;
        }
        let lacks_registers = target.stacks && thread.registers.is_none();
        let (severity, code, message) = match self.verified {
            // A moment earlier it would not have been there: what there was then is not lost.
            false if self.is_new => {
                (Severity::INFO, NOT_VERIFIED, format!("it began while others were read: {MAY_BE_MIXED}"))
            }
            false => (Severity::LOSS, NOT_VERIFIED, self.not_verified(target)),
            true if lacks_registers && !target.may_stop => (Severity::INFO, "not-asleep", not_asleep(target)),
            true if lacks_registers && self.is_new => {
                let message = "it began while others were read: its native frames are missing";
                (Severity::INFO, "not-asleep", message.to_owned())
            }
            true => return None,
        };
        Some(Diagnostic::new(severity, code, message).on(thread.tid))
    }

    fn not_verified(&self, target: &Target<'_>) -> String {
        let advice = match target {
            Target { is_traced: true, .. } => {
                ", or without the process that traces it: while that does, pyst-grab cannot stop such threads"
            }
            Target { may_stop: true, .. } => "",
            _ => ", or with --no-block=fallback, which stops such threads",
        };
        let what = match self.reading {
            _ if self.is_unlisted => {
                return "other threads came and went all the time, so that the process's list of them could not be followed to this \
                     one: its Python frames are missing; try again"
                    .to_owned();
            }
            ThreadReading::RAN => "it ran while it was read, and was another each time",
            _ => "what its frames lead to became another's while it was read",
        };
        format!("{what}: {MAY_BE_MIXED}; try again{advice}")
    }
}

fn not_asleep(target: &Target<'_>) -> String {
    let advice = match target.is_traced {
        true => "another process traces it, so that pyst-grab cannot stop it",
        false => "--no-block=fallback stops such threads",
    };
    format!(
        "it did not sleep while it was read, and of a thread that runs and is not stopped no registers are known, so that its \
         native frames are missing; {advice}"
    )
}

/// What there is to say of thread states that could not be verified, and of whose threads nothing was `said`: those have
/// ended since they were listed, or are just beginning, so that nothing is lost of what there was at one moment.
pub(super) fn of_states_alone(walked: &Python, verdicts: &Verdicts, said: &[Diagnostic]) -> Option<Diagnostic> {
    let said: BTreeSet<Tid> = said.iter().filter(|one| one.code == NOT_VERIFIED).filter_map(|one| one.tid).collect();
    let is_verified = |state: &PythonState| verdicts.of_state(state.address).is_some_and(|verdict| verdict.verified);
    let alone = walked.states.iter().filter(|state| state.tid.is_none_or(|tid| !said.contains(&tid)));
    let count = alone.filter(|state| !is_verified(state)).count();
    let message = format!(
        "Python thread states that no thread runs any more, or not yet, changed while they were read ({count}): the frames \
         shown of them may not all have been on one stack at one time"
    );
    (count > 0).then(|| Diagnostic::new(Severity::INFO, NOT_VERIFIED, message))
}

/// What there is to say where threads may not be stopped.
pub(super) fn of_refusal(error: &CaptureError) -> Diagnostic {
    let message = format!("the threads of which something is missing could not be stopped: {error}");
    Diagnostic::new(Severity::LOSS, error.code(), message)
}
