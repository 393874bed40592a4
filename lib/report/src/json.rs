//! JSON: one document a report, laid out for people or on one line.

use crate::model::Report;
use std::io::{self, Write};

/// How a document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Indented by two.
    Pretty,
    /// On one line: JSON Lines.
    Line,
}

/// Writes a report and the end of its last line.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, layout: Layout, out: &mut impl Write) -> io::Result<()> {
    match layout {
        Layout::Pretty => serde_json::to_writer_pretty(&mut *out, report)?,
        Layout::Line => serde_json::to_writer(&mut *out, report)?,
    }
    writeln!(out)
}
