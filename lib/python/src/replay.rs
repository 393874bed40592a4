//! The walk over a snapshot: what `pyst-py` does.

use crate::exceptions::exceptions;
use crate::variables::variables;
use crate::walk::{VERSION_UNKNOWN, Walked, walk};
use pyst_memory::Image;
use pyst_snapshot::payload::{
    Capture, Diagnostic, GilState, Payload, Python, PythonState, Runtime, RuntimePhase, Severity, ThreadReading,
    Threads, Variables, Verdicts,
};
use pyst_snapshot::{PayloadError, SectionKind, Snapshot, Tid};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The sections of a snapshot that [`walk_snapshot`] and [`variables_of_snapshot`] read.
pub const SECTIONS_READ: [SectionKind; 5] =
    [SectionKind::CAPTURE, SectionKind::THREADS, SectionKind::RUNTIME, SectionKind::MEMORY, SectionKind::VERDICTS];

/// Walks the Python runtime that a snapshot holds; `None` where it holds none, or too little of it. The diagnostics say
/// why, and what could not be had.
#[must_use]
pub fn walk_snapshot(snapshot: &Snapshot) -> (Option<Python>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let capture = section::<Capture>(snapshot, &mut diagnostics).unwrap_or_default();
    let threads = section::<Threads>(snapshot, &mut diagnostics).unwrap_or_default();
    let broken = diagnostics.len();
    let Some(runtime) = section::<Runtime>(snapshot, &mut diagnostics) else {
        if diagnostics.len() == broken {
            let message = "The snapshot does not say where the Python runtime is, for its capture did not get that far: \
                           take it again.";
            diagnostics.push(Diagnostic::new(missing_python(&capture), "no-python", message));
        }
        return (None, diagnostics);
    };
    let Some(found) = runtime.found else {
        diagnostics.push(no_python(&capture, &runtime));
        return (None, diagnostics);
    };
    let (memory, errors) = Image::of_snapshot(snapshot);
    diagnostics.extend(errors.iter().map(section_lost));
    let Walked { mut python, diagnostics: mut walked, .. } = walk(&found, &threads.threads, &memory);
    let unknown = walked.iter_mut().find(|diagnostic| diagnostic.code == VERSION_UNKNOWN);
    if let Some(unknown) = unknown {
        if capture.python_only() {
            unknown.severity = Severity::FAILURE;
        }
        diagnostics.extend(walked);
        return (None, diagnostics);
    }
    let verdicts = section::<Verdicts>(snapshot, &mut diagnostics);
    if let Some(verdicts) = &verdicts {
        excuse(verdicts, &python, &mut walked);
    }
    diagnostics.extend(walked);
    diagnostics.extend(exceptions(&found, &python, &memory).add_to(&mut python));
    if let Some(verdicts) = verdicts.filter(|verdicts| !verdicts.locks_verified) {
        forget_locks(&verdicts, &mut python);
    }
    diagnostics.extend(phase(python.phase));
    (Some(python), diagnostics)
}

/// The arguments and locals of the frames that a snapshot's walk found, where the capture was asked for them.
#[must_use]
pub fn variables_of_snapshot(snapshot: &Snapshot, python: &Python) -> Option<(Variables, Vec<Diagnostic>)> {
    let mut said = Vec::new();
    let limit = section::<Capture>(snapshot, &mut said)?.locals()?;
    let found = section::<Runtime>(snapshot, &mut said)?.found?;
    // What is wrong with sections has been said by the walk.
    let (memory, _) = Image::of_snapshot(snapshot);
    let verdicts = section::<Verdicts>(snapshot, &mut said);
    Some(variables(&found, &sound(python, verdicts.as_ref()), &memory, limit))
}

/// What was found without the frames of states that could not be verified: what hangs on them may be anything.
fn sound<'a>(python: &'a Python, verdicts: Option<&Verdicts>) -> Cow<'a, Python> {
    let Some(verdicts) = verdicts else { return Cow::Borrowed(python) };
    let mut sound = python.clone();
    for state in sound.states.iter_mut().filter(|state| !is_verified(state, verdicts)) {
        state.frames.clear();
    }
    Cow::Owned(sound)
}

fn is_verified(state: &PythonState, verdicts: &Verdicts) -> bool {
    verdicts.of_state(state.address).is_some_and(|verdict| verdict.verified)
}

/// Frames of a state that could not be verified need not hold together, and that has been said.
fn excuse(verdicts: &Verdicts, python: &Python, diagnostics: &mut [Diagnostic]) {
    let doubtful = python.states.iter().filter(|state| !is_verified(state, verdicts));
    let doubtful: BTreeSet<Option<Tid>> = doubtful.map(|state| state.tid).collect();
    let of_code = |code: &str| code == "python-code-lost" || code == "python-items-lost";
    for diagnostic in diagnostics.iter_mut().filter(|diagnostic| diagnostic.severity == Severity::LOSS) {
        let is_of_one = diagnostic.tid.is_some() || diagnostic.code == "python-frames-lost";
        if (is_of_one && doubtful.contains(&diagnostic.tid)) || (of_code(&diagnostic.code) && !doubtful.is_empty()) {
            diagnostic.severity = Severity::INFO;
        }
    }
}

/// Who had the GIL changed while the threads were read. What a sleeper waits for did not.
fn forget_locks(verdicts: &Verdicts, python: &mut Python) {
    for interpreter in &mut python.interpreters {
        (interpreter.gil_holder, interpreter.gc_collecting, interpreter.world_stopped) = (None, None, None);
    }
    for state in &mut python.states {
        let reading = state.tid.and_then(|tid| verdicts.of_thread(tid)).map(|verdict| verdict.reading);
        let waits = matches!(state.gil, Some(GilState::WAITING | GilState::DROPPING));
        if !(waits && reading == Some(ThreadReading::SLEPT)) {
            state.gil = None;
        }
        state.gc_collecting = None;
    }
}

fn section<P: Payload>(snapshot: &Snapshot, diagnostics: &mut Vec<Diagnostic>) -> Option<P> {
    snapshot.get().unwrap_or_else(|error| {
        diagnostics.push(section_lost(&error));
        None
    })
}

fn section_lost(error: &PayloadError) -> Diagnostic {
    Diagnostic::new(Severity::LOSS, "section-lost", error.to_string())
}

fn missing_python(capture: &Capture) -> Severity {
    if capture.python_only() { Severity::FAILURE } else { Severity::INFO }
}

/// What there is to say of a target without a Python runtime: a failure where nothing but Python was asked for.
#[must_use]
pub fn no_python(capture: &Capture, runtime: &Runtime) -> Diagnostic {
    let tried = if runtime.tried.is_empty() { "nothing to look in".to_owned() } else { runtime.tried.join("; ") };
    let advice = if capture.python_only() {
        "If it is a Python process, take the snapshot without --python-only to see its native stacks."
    } else {
        "Its native stacks are shown all the same."
    };
    let exhaustive = if capture.exhaustive() {
        ""
    } else {
        " If it is a Python process all the same, pyst-grab --exhaustive searches the rest of its memory."
    };
    let message = format!("No Python runtime was found in the process: {tried}. {advice}{exhaustive}");
    // In a tree of processes some are tools that Python started, or what started it.
    let severity = if capture.has_children() { Severity::INFO } else { missing_python(capture) };
    Diagnostic::new(severity, "no-python", message)
}

fn phase(phase: RuntimePhase) -> Option<Diagnostic> {
    const HINT: &str = "pyst-fmt --all-threads shows the native side of every thread.";
    let warning = |code, what| Diagnostic::new(Severity::WARNING, code, format!("{what}; {HINT}"));
    match phase {
        RuntimePhase::STARTING => {
            Some(warning("interpreter-starting", "The Python interpreter is still starting, or was shut down"))
        }
        RuntimePhase::FINALIZING => Some(warning(
            "interpreter-finalizing",
            "The Python interpreter is shutting down: threads may have lost their Python state",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
