//! `pyst-unwind`: adds native frames to a snapshot.

mod args;
mod local;

pub use args::Args;

use pyst_cli::{Exit, run_stage};
use pyst_elf::Files;
use pyst_native::unwind_from_snapshot;
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Diagnostic, Native, Severity, Stage};

/// Unwinds every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    run_stage(Stage::UNWIND, input, &args.output.to, args.verbose, |snapshot| add_native(snapshot, args))
}

fn add_native(snapshot: &mut Snapshot, args: &Args) -> Vec<Diagnostic> {
    let local = (!args.snapshot_only).then(|| local::files_of(snapshot, &args.search)).flatten();
    let (native, mut diagnostics) = unwind_from_snapshot(snapshot, local.as_ref().map(|files| files as &dyn Files));
    if args.verbose {
        describe(&native);
    }
    if let Err(error) = snapshot.replace(&native) {
        diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string()));
    }
    diagnostics
}

fn describe(native: &Native) {
    for stack in &native.stacks {
        eprintln!("pyst-unwind: thread {}: {} frames, then {}", stack.tid, stack.frames.len(), stack.end.name());
    }
}
