//! `pyst-unwind`: adds native frames to a snapshot.

mod args;
mod local;

pub use args::Args;

use pyst_cli::{Adding, Begins, Exit, Task, run_stage};
use pyst_elf::{ElfFiles, Files};
use pyst_native::{SECTIONS_READ, unwind_each_from_snapshot};
use pyst_snapshot::payload::{Diagnostic, Native, NativePacker, NativeStack, Severity, Stage};
use pyst_snapshot::{SectionKind, Snapshot};

/// What this stage is.
const TASK: Task = Task {
    stage: Stage::UNWIND,
    tool: "pyst-unwind",
    adds: "native frames",
    reads: &SECTIONS_READ,
    writes: &[SectionKind::NATIVE],
    begins: Begins::AtTheEnd,
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
    run_stage(&TASK, input, &args.output.to, args.verbose, |snapshot, adding| {
        files = (!args.snapshot_only).then(|| local::files_of(snapshot, &args.search)).flatten();
        add_native(snapshot, files.as_ref().map(|(files, _)| files), args.verbose, adding);
        adding.diagnostics.extend(files.as_ref().and_then(|(_, reach)| reach.diagnostic()));
    })
}

fn add_native(snapshot: &Snapshot, local: Option<&ElfFiles<'_>>, verbose: bool, adding: &mut Adding<'_>) {
    let mut packer = NativePacker::default();
    let mut packed = Ok(());
    let mut add = |stack: NativeStack, known: &Native| {
        if verbose {
            adding.notes.push(describe(&stack));
        }
        if packed.is_ok() {
            packed = packer.add(stack, known);
        }
        if packer.is_full() && packed.is_ok() {
            packed = std::mem::take(&mut packer).finish().map(|section| adding.put(section));
        }
    };
    let local = local.map(|files| files as &dyn Files);
    let (_, diagnostics) = unwind_each_from_snapshot(snapshot, local, &mut add);
    adding.diagnostics.extend(diagnostics);
    // One without stacks, too: there is none that is missing.
    match packed.and_then(|()| packer.finish()) {
        Ok(section) => adding.put(section),
        Err(error) => adding.diagnostics.push(Diagnostic::new(Severity::FAILURE, "too-large", error.to_string())),
    }
}

fn describe(stack: &NativeStack) -> String {
    format!("pyst-unwind: thread {}: {} frames, then {}", stack.tid, stack.frames.len(), stack.end.name())
}
