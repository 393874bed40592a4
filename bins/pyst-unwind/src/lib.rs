//! `pyst-unwind`: adds native frames to a snapshot.

mod args;
mod local;

pub use args::Args;

use pyst_cli::{Added, Exit, Task, run_stage};
use pyst_elf::{ElfFiles, Files};
use pyst_native::{SECTIONS_READ, unwind_each_from_snapshot};
use pyst_snapshot::payload::{Diagnostic, NativePacker, NativeStack, Severity, Stage};
use pyst_snapshot::{SectionKind, Snapshot};

/// What this stage is.
const TASK: Task = Task {
    stage: Stage::UNWIND,
    tool: "pyst-unwind",
    adds: "native frames",
    reads: &SECTIONS_READ,
    writes: &[SectionKind::NATIVE],
};

/// Unwinds every snapshot of the input.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let input = args.input.open()?;
    // To unmap the files takes longer than to write the snapshot, which the next tool waits for.
    let mut files = None;
    run_stage(&TASK, input, &args.output.to, args.verbose, |snapshot| {
        files = (!args.snapshot_only).then(|| local::files_of(snapshot, &args.search)).flatten();
        let mut added = native_of(snapshot, files.as_ref().map(|(files, _)| files), args.verbose);
        added.diagnostics.extend(files.as_ref().and_then(|(_, reach)| reach.diagnostic()));
        added
    })
}

fn native_of(snapshot: &Snapshot, local: Option<&ElfFiles<'_>>, verbose: bool) -> Added {
    let mut added = Added::default();
    let mut packer = NativePacker::default();
    let mut packed = Ok(());
    let mut add = |stack: NativeStack| {
        if verbose {
            added.notes.push(describe(&stack));
        }
        if packed.is_ok() {
            packed = packer.add(&stack);
        }
    };
    let local = local.map(|files| files as &dyn Files);
    let (functions, diagnostics) = unwind_each_from_snapshot(snapshot, local, &mut add);
    added.diagnostics = diagnostics;
    match packed.and_then(|()| packer.finish(&functions)) {
        Ok(section) => added.sections.push(section),
        Err(error) => added.diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string())),
    }
    added
}

fn describe(stack: &NativeStack) -> String {
    format!("pyst-unwind: thread {}: {} frames, then {}", stack.tid, stack.frames.len(), stack.end.name())
}
