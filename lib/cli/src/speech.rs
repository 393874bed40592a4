//! Who says what went wrong, and how.

use nix::sys::stat::{SFlag, fstat};
use pyst_snapshot::payload::{Capture, Diagnostic, Diagnostics, Process, Severity, Stage};
use pyst_snapshot::{PayloadError, Safe, Snapshot, Tid};
use std::collections::HashMap;
use std::io::{Write, stderr, stdout};
use std::path::Path;

/// As many threads are named when several have the same to say.
const MAX_NAMED: usize = 4;

/// As many messages of one kind are said in full; what befalls all threads of a process would bury everything else.
const MAX_ALIKE: usize = 3;

/// Whether this tool is the last to see the snapshot for now, and so the one that says what went wrong: its output is a
/// file, a terminal or nothing. In a pipe the next tool will say it.
#[must_use]
pub fn speaks_here(output: Option<&Path>) -> bool {
    if output.is_some() {
        return true;
    }
    let pipe = fstat(stdout()).is_ok_and(|stat| {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK
    });
    !pipe
}

/// All diagnostics a snapshot holds, each with its stage; a section that does not decode says so itself.
#[must_use]
pub fn diagnostics_of(snapshot: &Snapshot) -> Vec<(Stage, Diagnostic)> {
    snapshot.all::<Diagnostics>().flat_map(diagnostics_in).collect()
}

/// The diagnostics of a section, each with its stage.
pub(crate) fn diagnostics_in(section: Result<Diagnostics, PayloadError>) -> Vec<(Stage, Diagnostic)> {
    match section {
        Ok(Diagnostics { stage, items }) => items.into_iter().map(|item| (stage, item)).collect(),
        Err(error) => {
            let item = Diagnostic::new(Severity::WARNING, "section-unusable", error.to_string());
            vec![(Stage::STREAM, item)]
        }
    }
}

/// The process that a snapshot is of, where it is one of several.
#[must_use]
pub fn process_of_several(snapshot: &Snapshot) -> Option<u32> {
    let Ok(Some(capture)) = snapshot.get::<Capture>() else { return None };
    let Ok(Some(process)) = snapshot.get::<Process>() else { return None };
    capture.has_children().then_some(process.pid)
}

/// Prints diagnostics to standard error, one line each, each once; with the process that they are about, where there are
/// several. Those that only inform are left out unless `verbose`.
pub fn say(diagnostics: &[(Stage, Diagnostic)], process: Option<u32>, verbose: bool) {
    let mut err = stderr().lock();
    for line in lines(diagnostics, process, verbose) {
        // Nothing useful can be done when standard error is gone.
        let _ = writeln!(err, "{line}");
    }
}

/// One line a message, named after the tool that found it first: what is wrong with a section, each stage that reads it finds.
/// Threads that have the same to say share a line.
fn lines(diagnostics: &[(Stage, Diagnostic)], process: Option<u32>, verbose: bool) -> Vec<String> {
    let mut index = HashMap::new();
    let mut said: Vec<Said<'_>> = Vec::new();
    for (stage, diagnostic) in diagnostics {
        if diagnostic.severity <= Severity::INFO && !verbose {
            continue;
        }
        let Diagnostic { code, message, tid, .. } = diagnostic;
        let at = *index.entry((message, tid.is_some())).or_insert_with(|| {
            said.push(Said { stage: *stage, code, message, tids: Vec::new() });
            said.len() - 1
        });
        if let Some(said) = said.get_mut(at) {
            said.tids.extend(tid);
        }
    }
    let mut alike: HashMap<_, usize> = HashMap::new();
    let mut lines = Vec::new();
    for Said { stage, code, message, tids } in said {
        let count = alike.entry((stage, code)).or_default();
        *count += 1;
        if verbose || *count <= MAX_ALIKE {
            let named = process.map(|pid| format!("process {pid}")).filter(|named| !message.contains(named));
            let process = named.map_or(String::new(), |named| format!("{named}: "));
            lines.push(format!("{}: {process}{}{}", speaker(stage), about(tids), Safe(message)));
        }
    }
    let mut rest: Vec<_> = alike.into_iter().filter(|(_, count)| !verbose && *count > MAX_ALIKE).collect();
    rest.sort_unstable();
    lines.extend(rest.into_iter().map(|((stage, code), count)| {
        let more = count - MAX_ALIKE;
        format!(
            "{}: {more} more like that ({}): --verbose or pyst-fmt --format json has them",
            speaker(stage),
            Safe(code)
        )
    }));
    lines
}

/// A message, and the threads it is about.
struct Said<'a> {
    stage: Stage,
    code: &'a str,
    message: &'a str,
    tids: Vec<Tid>,
}

fn speaker(stage: Stage) -> String {
    if stage == Stage::STREAM { "pyst".to_owned() } else { format!("pyst-{}", stage.name()) }
}

fn about(mut tids: Vec<Tid>) -> String {
    tids.sort_unstable();
    tids.dedup();
    let named: Vec<String> = tids.iter().take(MAX_NAMED).map(Tid::to_string).collect();
    let named = named.join(", ");
    match tids.len() {
        0 => String::new(),
        1 => format!("thread {named}: "),
        count if count <= MAX_NAMED => format!("threads {named}: "),
        count => format!("threads {named} and {} more: ", count - MAX_NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_said_once_for_all_its_threads() {
        let loss = |message: &str| Diagnostic::new(Severity::LOSS, "x", message);
        let info = Diagnostic::new(Severity::INFO, "x", "by the way");
        let mut all: Vec<_> = (1..=6).rev().map(|tid| (Stage::UNWIND, loss("no stack").on(Tid(tid)))).collect();
        all.extend([(Stage::STREAM, loss("cut\x1b[2J off\n")), (Stage::GRAB, info), (Stage::UNWIND, loss("no stack"))]);
        all.extend([(Stage::PY, loss("no stack")), (Stage::PY, loss("no stack").on(Tid(2)))]);
        let expected = [
            "pyst-unwind: threads 1, 2, 3, 4 and 2 more: no stack",
            "pyst: cut\\x1b[2J off\\n",
            "pyst-unwind: no stack",
        ];
        assert_eq!(lines(&all, None, false), expected);
        assert_eq!(lines(&all, None, true).len(), 4);
    }

    #[test]
    fn of_several_processes_the_one_is_named_that_it_is_about() {
        let all =
            ["no stack", "process 7 has no stack"].map(|said| (Stage::PY, Diagnostic::new(Severity::LOSS, "x", said)));
        assert_eq!(lines(&all, Some(7), false), ["pyst-py: process 7: no stack", "pyst-py: process 7 has no stack"]);
    }

    #[test]
    fn what_befalls_every_thread_does_not_bury_the_rest() {
        let lost = |tid: u32| Diagnostic::new(Severity::LOSS, "lost", format!("nothing at {tid:#x}")).on(Tid(tid));
        let mut all: Vec<_> = (1..=40).map(|tid| (Stage::PY, lost(tid))).collect();
        all.push((Stage::UNWIND, Diagnostic::new(Severity::LOSS, "other", "the rest")));
        let expected = [
            "pyst-py: thread 1: nothing at 0x1",
            "pyst-py: thread 2: nothing at 0x2",
            "pyst-py: thread 3: nothing at 0x3",
            "pyst-unwind: the rest",
            "pyst-py: 37 more like that (lost): --verbose or pyst-fmt --format json has them",
        ];
        assert_eq!(lines(&all, None, false), expected);
        assert_eq!(lines(&all, None, true).len(), 41);
    }
}
