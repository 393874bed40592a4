//! What is said of threads that were not stopped.

use super::Target;
use pyst_snapshot::Tid;
use pyst_snapshot::payload::{Diagnostic, Python, PythonState, Severity, Thread, ThreadReading, Verdicts};
use std::collections::BTreeSet;

/// What there is to say of a thread that was not stopped.
pub(super) fn of_thread(
    target: &Target<'_>,
    thread: &Thread,
    reading: ThreadReading,
    verified: bool,
) -> Option<Diagnostic> {
    if matches!(thread.state, Some(b'Z' | b'X')) {
        return None;
    }
    // Without the thread's id, so that threads share the message.
    if !verified {
        let what = match reading {
            ThreadReading::RAN => "it ran while it was read, and was another each time",
            _ => "what its frames lead to became another's while it was read",
        };
        let advice = match target {
            Target { is_traced: true, .. } => {
                ", or without the process that traces it: while that does, pyst-grab cannot stop such threads"
            }
            Target { may_stop: true, .. } => "",
            _ => ", or with --no-block=fallback, which stops such threads",
        };
        let message =
            format!("{what}: the frames shown of it may not all have been on its stack at one time; try again{advice}");
        return Some(Diagnostic::new(Severity::LOSS, "not-verified", message).on(thread.tid));
    }
    if target.stacks && thread.registers.is_none() && !target.may_stop {
        let advice = match target.is_traced {
            true => "another process traces it, so that pyst-grab cannot stop it",
            false => "--no-block=fallback stops such threads",
        };
        let message = format!(
            "it did not sleep while it was read, and of a thread that runs and is not stopped no registers are known, so \
             that its native frames are missing; {advice}"
        );
        return Some(Diagnostic::new(Severity::INFO, "not-asleep", message).on(thread.tid));
    }
    None
}

/// What there is to say of thread states that could not be verified, and of whose threads nothing was `said`: those have
/// ended since they were listed, or are just beginning.
pub(super) fn of_states_alone(walked: &Python, verdicts: &Verdicts, said: &[Diagnostic]) -> Option<Diagnostic> {
    let said: BTreeSet<Tid> = said.iter().filter(|one| one.code == "not-verified").filter_map(|one| one.tid).collect();
    let is_verified = |state: &PythonState| verdicts.of_state(state.address).is_some_and(|verdict| verdict.verified);
    let alone = walked.states.iter().filter(|state| state.tid.is_none_or(|tid| !said.contains(&tid)));
    let count = alone.filter(|state| !is_verified(state)).count();
    let message = format!(
        "Python thread states that no thread runs any more, or not yet, changed while they were read ({count}): the frames \
         shown of them may not all have been on one stack at one time; try again"
    );
    (count > 0).then(|| Diagnostic::new(Severity::LOSS, "not-verified", message))
}
