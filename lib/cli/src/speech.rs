//! Who says what went wrong.

use nix::sys::stat::{SFlag, fstat};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity};
use std::io::{Write, stderr, stdout};
use std::path::Path;

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

/// All diagnostics a snapshot holds, of every stage; a section that does not decode says so itself.
#[must_use]
pub fn diagnostics_of(snapshot: &Snapshot) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for diagnostics in snapshot.all::<Diagnostics>() {
        match diagnostics {
            Ok(diagnostics) => all.extend(diagnostics.items),
            Err(error) => all.push(Diagnostic::new(Severity::WARNING, "section-unknown", error.to_string())),
        }
    }
    all
}

/// Prints diagnostics to standard error, one line each, each once. Those that only inform are left out unless `verbose`.
pub fn say(tool: &str, diagnostics: &[Diagnostic], verbose: bool) {
    let mut said: Vec<&Diagnostic> = Vec::new();
    let mut err = stderr().lock();
    for diagnostic in diagnostics {
        let silent = diagnostic.severity <= Severity::INFO && !verbose;
        if silent || said.contains(&diagnostic) {
            continue;
        }
        said.push(diagnostic);
        let thread = diagnostic.tid.map(|tid| format!("thread {tid}: ")).unwrap_or_default();
        let message = printable(&diagnostic.message);
        // Nothing useful can be done when standard error is gone.
        let _ = writeln!(err, "{tool}: {thread}{message}");
    }
}

/// The message with everything that could drive a terminal written as an escape: it may quote the target.
fn printable(message: &str) -> String {
    let drives = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    message.chars().map(|c| if drives(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{202e}d é"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d é");
    }
}
