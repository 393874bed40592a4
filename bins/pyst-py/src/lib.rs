//! `pyst-py`: adds Python frames to a snapshot.

mod args;

pub use args::Args;

use pyst_cli::{Added, Exit, Task, run_stage};
use pyst_python::{SECTIONS_READ, variables_of_snapshot, walk_snapshot};
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, Python, Runtime, Severity, Stage};
use pyst_snapshot::{SectionKind, Snapshot};

/// What this stage is.
const TASK: Task = Task {
    stage: Stage::PY,
    tool: "pyst-py",
    adds: "Python frames",
    reads: &SECTIONS_READ,
    writes: &[SectionKind::PYTHON, SectionKind::VARIABLES],
};

/// Walks every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    run_stage(&TASK, input, &args.output.to, args.verbose, |snapshot| python_of(snapshot, args.verbose))
}

fn python_of(snapshot: &Snapshot, verbose: bool) -> Added {
    let (python, diagnostics) = walk_snapshot(snapshot);
    let mut added = Added { diagnostics, ..Added::default() };
    if let Some(python) = python {
        if verbose {
            added.notes = describe(snapshot, &python);
        }
        let variables = variables_of_snapshot(snapshot, &python);
        let mut fits = added.add(&python);
        if let Some((variables, said)) = variables {
            added.diagnostics.extend(said);
            fits = fits.and_then(|()| added.add(&variables));
        }
        if let Err(error) = fits {
            added.diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string()));
        }
    }
    added
}

fn describe(snapshot: &Snapshot, python: &Python) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(Some(Runtime { found: Some(found), .. })) = snapshot.get() {
        let FoundRuntime { layout, layout_source, found_by, .. } = &found;
        let (version, by, source) = (found.version(), found_by.name(), layout_source.name());
        let address = found.address;
        lines.push(format!("pyst-py: Python {version} at {address}, found by {by}; layout {layout} ({source})"));
    }
    let frames: usize = python.states.iter().map(|state| state.frames.len()).sum();
    let (interpreters, states) = (python.interpreters.len(), python.states.len());
    lines.push(format!("pyst-py: {interpreters} interpreters, {states} thread states, {frames} frames"));
    lines
}
