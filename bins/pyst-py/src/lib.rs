//! `pyst-py`: adds Python frames to a snapshot.

mod args;

pub use args::Args;

use pyst_cli::{Adding, Begins, Exit, Task, run_stage};
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
    begins: Begins::Early,
};

/// Walks every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    let verbose = args.verbose;
    run_stage(&TASK, input, &args.output.to, verbose, |snapshot, adding| add_python(snapshot, verbose, adding))
}

fn add_python(snapshot: &Snapshot, verbose: bool, adding: &mut Adding<'_>) {
    let (python, diagnostics) = walk_snapshot(snapshot);
    adding.diagnostics.extend(diagnostics);
    let Some(python) = python else { return };
    if verbose {
        adding.notes.extend(describe(snapshot, &python));
    }
    let variables = variables_of_snapshot(snapshot, &python);
    let mut fits = adding.add(&python);
    if let Some((variables, said)) = variables {
        adding.diagnostics.extend(said);
        fits = fits.and_then(|()| adding.add(&variables));
    }
    if let Err(error) = fits {
        adding.diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string()));
    }
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
