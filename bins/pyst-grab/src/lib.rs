//! `pyst-grab`: takes a snapshot of a living process or a core file, of its children, or some one after the other.

mod args;
mod describe;
mod pace;
mod sink;

pub use args::{Args, NoBlockArg};

use pace::Pace;
use pyst_capture::{CaptureError, Member, NoBlock, Options, failed_snapshot};
use pyst_cli::{Exit, Progress, SearchArgs};
use pyst_elf::{Search, split_list};
use pyst_snapshot::Payload;
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity};
use sink::Sink;
use std::sync::Arc;
use std::time::Duration;

/// Captures, writes, and says what was lost.
///
/// # Errors
/// The command line makes no sense, or the snapshots cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    args.output.refuse_terminal()?;
    let target = args.target()?;
    let root = if args.children || args.count > 1 { Member::of(target) } else { Member::once(target) };
    let options = options(args);
    let progress = Progress::of("pyst-grab");
    let mut sink = Sink::open(args, &progress)?;
    let mut pace = Pace::new(args.count, args.interval, args.children);
    while pace.next_round(&progress) {
        let members = if args.children { root.with_descendants() } else { vec![root.clone()] };
        let mut is_root_captured = false;
        for (index, member) in members.iter().enumerate() {
            if pace.interrupted().is_some() {
                break;
            }
            progress.say(|| doing(member, index, members.len(), &pace, &options));
            let failed = |error| {
                let reason = if index == 0 { reason(error, member, &pace) } else { error.diagnostic() };
                member.failed(reason, &options).sections
            };
            match member.capture(&options) {
                Ok(captured) => {
                    is_root_captured |= index == 0;
                    // One that fails later is of no use either, whatever came before.
                    let why =
                        |error| failed(error).into_iter().filter(|section| section.kind == Diagnostics::KIND).collect();
                    sink.put(captured.flat_map(|section| section.map_or_else(why, |section| vec![section])))?;
                }
                Err(error) => sink.put(failed(error))?,
            }
        }
        if !is_root_captured && (pace.begun() == 1 || root.ended_pid().is_some()) {
            break;
        }
    }
    if let Some(signal) = pace.interrupted() {
        let reason = interrupted(signal, &sink);
        sink.put(failed_snapshot(reason, &options).sections)?;
    }
    sink.finish()
}

/// What is going on.
fn doing(member: &Member, index: usize, members: usize, pace: &Pace, options: &Options) -> String {
    let round =
        if pace.count() > 1 { format!("capture {} of {}: ", pace.begun(), pace.count()) } else { String::new() };
    let place = if members > 1 { format!(" ({} of {members})", index + 1) } else { String::new() };
    let how = if options.exhaustive { ", all of its memory" } else { "" };
    format!("{round}{}{place}{how}", member.target())
}

/// Why the process could not be captured that all begins with: it has been there, and is missed when it is gone. Its children
/// are listed anew each time.
fn reason(error: CaptureError, member: &Member, pace: &Pace) -> Diagnostic {
    let taken = pace.begun().saturating_sub(1);
    match member.ended_pid().filter(|_| taken > 0) {
        Some(pid) => CaptureError::ExitedBetween { pid, taken, count: pace.count() }.diagnostic(),
        None => error.diagnostic(),
    }
}

fn interrupted(signal: &str, sink: &Sink<'_>) -> Diagnostic {
    let message = format!("ended by {signal} after {} snapshots, which are kept: the others are missing", sink.count());
    Diagnostic::new(Severity::FAILURE, "interrupted", message)
}

fn options(args: &Args) -> Options {
    Options {
        python_only: args.python_only,
        source: !args.no_source,
        debug_info: args.debug_info,
        exhaustive: args.exhaustive,
        locals: args.locals.then_some(args.locals_limit),
        search: Arc::new(search(&args.search)),
        children: args.children,
        count: args.count,
        no_block: args.no_block.map(|no_block| match no_block {
            NoBlockArg::Never => NoBlock::Never,
            NoBlockArg::Fallback => NoBlock::Fallback,
        }),
        stop_limit: Duration::from_millis(args.stop_limit),
        ..Options::default()
    }
}

fn search(args: &SearchArgs) -> Search {
    let folders = args.lib_search_path.as_deref().map(split_list).unwrap_or_default();
    Search::new(folders, args.lib_search_root.clone(), args.debug_dir.clone())
}
