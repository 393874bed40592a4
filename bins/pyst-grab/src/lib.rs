//! `pyst-grab`: takes a snapshot of a living process or a core file.

mod args;

pub use args::Args;

use anyhow::Context;
use pyst_capture::{Options, capture, failed_snapshot};
use pyst_cli::{Exit, Outcome, SearchArgs, diagnostics_of, say, speaks_here};
use pyst_elf::{Search, split_list};
use pyst_snapshot::payload::{Capture, Runtime};
use pyst_snapshot::{Snapshot, write_snapshot};
use std::sync::Arc;
use std::time::Duration;

/// Captures, writes, and says what was lost.
///
/// # Errors
/// The command line makes no sense, or the snapshot cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let target = args.target()?;
    let options = Options {
        python_only: args.python_only,
        source: !args.no_source,
        debug_info: args.debug_info,
        exhaustive: args.exhaustive,
        locals: args.locals.then_some(args.locals_limit),
        search: Arc::new(search(&args.search)),
        stop_limit: Duration::from_millis(args.stop_limit),
        ..Options::default()
    };
    let snapshot = match capture(target, &options) {
        Ok(captured) => captured.snapshot,
        Err(error) => failed_snapshot(&error, &options),
    };
    let diagnostics = diagnostics_of(&snapshot);
    let mut outcome = Outcome::default();
    outcome.add(diagnostics.iter().map(|(_, diagnostic)| diagnostic));
    // A file is for a snapshot to keep: a failure leaves an earlier one alone.
    if outcome.exit() != Exit::Failed || args.output.to.path().is_none() {
        let mut out = args.output.to.open()?;
        write_snapshot(&snapshot, &mut out).with_context(|| args.output.to.cannot_write())?;
        out.finish()?;
    }
    if args.verbose {
        describe(&snapshot);
    }
    if args.verbose || speaks_here(args.output.to.path()) {
        say(&diagnostics, args.verbose);
    }
    Ok(outcome.exit())
}

fn search(args: &SearchArgs) -> Search {
    let folders = args.lib_search_path.as_deref().map(split_list).unwrap_or_default();
    Search::new(folders, args.lib_search_root.clone(), args.debug_dir.clone())
}

/// What `--verbose` says: how long, how much, and how the runtime was found.
fn describe(snapshot: &Snapshot) {
    if let Ok(Some(Capture { stopped_ns: Some(stopped), stopped_bytes, .. })) = snapshot.get() {
        let microseconds = stopped / 1000;
        let bytes = stopped_bytes.unwrap_or_default();
        eprintln!("pyst-grab: the process was stopped for {microseconds} µs, in which {bytes} bytes were read");
    }
    if let Ok(Some(Runtime { found, tried })) = snapshot.get() {
        for step in tried {
            eprintln!("pyst-grab: runtime: {step}");
        }
        if let Some(found) = found {
            let (version, by, layout) = (found.version(), found.found_by.name(), &found.layout);
            let source = found.layout_source.name();
            eprintln!("pyst-grab: Python {version} at {}, found by {by}; layout {layout} ({source})", found.address);
        }
    }
    for section in &snapshot.sections {
        eprintln!("pyst-grab: section {:<12} {:>9} bytes", section.kind.name(), section.payload.len());
    }
}
