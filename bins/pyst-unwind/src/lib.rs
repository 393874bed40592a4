//! `pyst-unwind`: adds native frames to a snapshot.

mod args;
mod local;

pub use args::Args;

use pyst_cli::{Exit, run_stage};
use pyst_elf::{ElfFiles, Files};
use pyst_native::unwind_each_from_snapshot;
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Diagnostic, NativePacker, NativeStack, Severity, Stage};

/// Unwinds every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    // To unmap the files takes longer than to write the snapshot, which the next tool waits for.
    let mut files = None;
    run_stage(Stage::UNWIND, input, &args.output.to, args.verbose, |snapshot| {
        files = (!args.snapshot_only).then(|| local::files_of(snapshot, &args.search)).flatten();
        add_native(snapshot, files.as_ref(), args.verbose)
    })
}

fn add_native(snapshot: &mut Snapshot, local: Option<&ElfFiles<'_>>, verbose: bool) -> Vec<Diagnostic> {
    let mut packer = NativePacker::default();
    let mut packed = Ok(());
    let mut add = |stack: NativeStack| {
        if verbose {
            describe(&stack);
        }
        if packed.is_ok() {
            packed = packer.add(&stack);
        }
    };
    let local = local.map(|files| files as &dyn Files);
    let (functions, mut diagnostics) = unwind_each_from_snapshot(snapshot, local, &mut add);
    match packed.and_then(|()| packer.finish(&functions)) {
        Ok(section) => snapshot.replace_by(section),
        Err(error) => diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string())),
    }
    diagnostics
}

fn describe(stack: &NativeStack) {
    eprintln!("pyst-unwind: thread {}: {} frames, then {}", stack.tid, stack.frames.len(), stack.end.name());
}
