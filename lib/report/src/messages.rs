//! The diagnostics of a report as lines for standard error, each said once.

use crate::model::{Diagnostic, Report};
use crate::text::escape::Safe;
use pyst_snapshot::payload::Severity;

/// As many threads are named when several have the same to say.
const MAX_NAMED: usize = 4;

/// One line a diagnostic: `pyst: thread 123: …`. Threads that have the same to say share a line. Those that are merely
/// good to know come with `verbose` only; `pid` names the process, where a stream has several.
#[must_use]
pub fn lines(report: &Report, verbose: bool, pid: Option<u32>) -> Vec<String> {
    let process = pid.map(|pid| format!("process {pid}: ")).unwrap_or_default();
    let wanted = report.diagnostics.iter().filter(|diagnostic| verbose || diagnostic.severity.0 != Severity::INFO);
    let said = |(about, message): (String, &str)| format!("pyst: {process}{about}{}", Safe(message));
    by_message(wanted).into_iter().map(|(tids, message)| said((about(&tids), message))).collect()
}

/// The distinct messages, in the order of their first occurrence, each with the threads it is about.
fn by_message<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> Vec<(Vec<u32>, &'a str)> {
    let mut index = std::collections::HashMap::new();
    let mut messages: Vec<(Vec<u32>, &str)> = Vec::new();
    for diagnostic in diagnostics {
        let at = *index.entry((diagnostic.tid.is_some(), diagnostic.message.as_str())).or_insert_with(|| {
            messages.push((Vec::new(), &diagnostic.message));
            messages.len() - 1
        });
        if let Some((tids, _)) = messages.get_mut(at) {
            tids.extend(diagnostic.tid);
        }
    }
    for (tids, _) in &mut messages {
        tids.sort_unstable();
        tids.dedup();
    }
    messages
}

fn about(tids: &[u32]) -> String {
    let named: Vec<String> = tids.iter().take(MAX_NAMED).map(u32::to_string).collect();
    let named = named.join(", ");
    match tids.len() {
        0 => String::new(),
        1 => format!("thread {named}: "),
        count if count <= MAX_NAMED => format!("threads {named}: "),
        count => format!("threads {named} and {} more: ", count - MAX_NAMED),
    }
}
