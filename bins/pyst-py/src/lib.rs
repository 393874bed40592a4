//! `pyst-py`: adds Python frames to a snapshot.

mod args;

pub use args::Args;

use pyst_cli::{Exit, run_stage};
use pyst_python::{variables_of_snapshot, walk_snapshot};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, Python, Runtime, Severity, Stage};

/// Walks every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    run_stage(Stage::PY, input, &args.output.to, args.verbose, |snapshot| add_python(snapshot, args.verbose))
}

fn add_python(snapshot: &mut Snapshot, verbose: bool) -> Vec<Diagnostic> {
    let (python, mut diagnostics) = walk_snapshot(snapshot);
    if let Some(python) = python {
        if verbose {
            describe(snapshot, &python);
        }
        let variables = variables_of_snapshot(snapshot, &python);
        let replaced = snapshot.replace(&python);
        let replaced = match variables {
            Some((variables, said)) => {
                diagnostics.extend(said);
                replaced.and_then(|()| snapshot.replace(&variables))
            }
            None => replaced,
        };
        if let Err(error) = replaced {
            diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string()));
        }
    }
    diagnostics
}

fn describe(snapshot: &Snapshot, python: &Python) {
    if let Ok(Some(Runtime { found: Some(found), .. })) = snapshot.get() {
        let FoundRuntime { layout, layout_source, found_by, .. } = &found;
        let (version, by, source) = (found.version(), found_by.name(), layout_source.name());
        eprintln!("pyst-py: Python {version} at {}, found by {by}; layout {layout} ({source})", found.address);
    }
    let frames: usize = python.states.iter().map(|state| state.frames.len()).sum();
    let (interpreters, states) = (python.interpreters.len(), python.states.len());
    eprintln!("pyst-py: {interpreters} interpreters, {states} thread states, {frames} frames");
}
