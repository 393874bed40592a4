//! JSON: one document a report, laid out for people or on one line. It may end up on a terminal as text does, so what would
//! drive one is written as an escape, which JSON has for any character; readers of JSON see no difference.

use crate::assemble::Assembly;
use crate::model::{Diagnostic, Process, Python, Report, SnapshotInfo};
use pyst_snapshot::first_unsafe;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};
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
    write_any(report, layout, out)
}

/// Writes a report as its threads are made.
///
/// # Errors
/// Those of `out`.
pub fn write_assembly(assembly: &Assembly, layout: Layout, out: &mut impl Write) -> io::Result<()> {
    let Report { schema, version, snapshot, process, python, threads: _, diagnostics, python_was_sought: _ } =
        assembly.head();
    let threads = assembly;
    write_any(&Document { schema, version, snapshot, process, python, threads, diagnostics }, layout, out)
}

/// A [`Report`] whose threads are made one at a time.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'a str,
    version: &'a u32,
    snapshot: &'a SnapshotInfo,
    process: &'a Option<Process>,
    python: &'a Option<Python>,
    #[serde(serialize_with = "threads_of")]
    threads: &'a Assembly<'a>,
    diagnostics: &'a [Diagnostic],
}

fn threads_of<S: serde::Serializer>(assembly: &Assembly, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(assembly.threads.iter())
}

fn write_any(report: &impl Serialize, layout: Layout, out: &mut impl Write) -> io::Result<()> {
    match layout {
        Layout::Pretty => serialize(report, PrettyFormatter::new(), out)?,
        Layout::Line => serialize(report, CompactFormatter, out)?,
    }
    writeln!(out)
}

fn serialize(report: &impl Serialize, layout: impl Formatter, out: &mut impl Write) -> serde_json::Result<()> {
    report.serialize(&mut Serializer::with_formatter(out, Escaping(layout)))
}

/// A layout, with every unsafe character escaped that JSON itself would let through.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = first_unsafe(rest) {
            let (plain, tail) = rest.split_at(at);
            self.0.write_string_fragment(writer, plain)?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = tail.get(character.len_utf8()..).unwrap_or_default();
        }
        self.0.write_string_fragment(writer, rest)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_snapshot::is_unsafe;

    #[test]
    fn what_drives_a_terminal_is_escaped_and_reads_back_as_it_was() {
        let hostile = "a\u{9b}31m\u{7f}\u{202e}b\u{e0041}\u{1b}\n\"é関🦀";
        let report = Report { diagnostics: vec![], ..crate::Report::of_snapshot(&pyst_snapshot::Snapshot::default()) };
        let tool = Some(hostile.to_owned());
        let report = Report { snapshot: crate::model::SnapshotInfo { tool, ..report.snapshot.clone() }, ..report };
        for layout in [Layout::Pretty, Layout::Line] {
            let mut out = Vec::new();
            write(&report, layout, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(!text.chars().any(|character| character != '\n' && is_unsafe(character)));
            assert!(text.contains("a\\u009b31m\\u007f\\u202eb\\udb40\\udc41\\u001b\\n\\\"é関🦀"));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["snapshot"]["tool"], hostile);
        }
    }

    #[test]
    fn the_layouts_are_serde_jsons() {
        let report = Report::of_snapshot(&pyst_snapshot::Snapshot::default());
        let mut out = Vec::new();
        write(&report, Layout::Pretty, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}\n", serde_json::to_string_pretty(&report).unwrap()));
        let mut out = Vec::new();
        write(&report, Layout::Line, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}\n", serde_json::to_string(&report).unwrap()));
    }
}
