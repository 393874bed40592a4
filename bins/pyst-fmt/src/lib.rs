//! `pyst-fmt`: renders snapshots as text or JSON.

mod args;

pub use args::{Args, Color, Format};

use anyhow::Context;
use pyst_cli::{Exit, Outcome, Output, OutputArgs, say, snapshots};
use pyst_report::json::{self, Layout};
use pyst_report::{Assembly, Incoming, schema, text};
use std::env;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write, stdout};

/// Renders every snapshot of the input, and says what went wrong with any of them.
///
/// # Errors
/// There is no input, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.schema {
        let mut out = args.output.open()?;
        out.write_all(schema::generate().as_bytes())?;
        out.finish()?;
        return Ok(Exit::Complete);
    }
    let input = args.input.open()?;
    let mut out = args.output.open()?;
    let mut outcome = Outcome::default();
    let mut snapshots = snapshots::<Incoming>(input).peekable();
    let mut index = 0;
    while let Some(sections) = snapshots.next() {
        // Where it says itself that others follow, those may not have been taken yet.
        let several = index > 0 || sections.is_one_of_several() || snapshots.peek().is_some();
        let process = sections.process_of_several();
        let report = Assembly::of_sections(&sections);
        let diagnostics = report.head().wire_diagnostics();
        outcome.add(diagnostics.iter().map(|(_, diagnostic)| diagnostic));
        if args.format != Format::Text || report.has_content() {
            let options = text::Options {
                native_internals: args.native_internals,
                native_last: args.native_last,
                all_threads: args.all_threads,
                color: colored(args.color, &args.output),
                snapshot: several.then_some(index),
            };
            write(&report, args.format, &options, &mut out).context("cannot write the report")?;
            // A stream may go on for as long as its process lives.
            out.flush().context("cannot write the report")?;
        }
        say(&diagnostics, process, args.verbose);
        index += 1;
    }
    out.finish()?;
    Ok(outcome.exit())
}

fn write(report: &Assembly, format: Format, options: &text::Options, out: &mut Output) -> std::io::Result<()> {
    match format {
        Format::Text => text::write_assembly(report, options, out),
        Format::Json => json::write_assembly(report, Layout::Pretty, out),
        Format::Jsonl => json::write_assembly(report, Layout::Line, out),
    }
}

/// Whether the text has colours: <https://no-color.org> and <https://bixense.com/clicolors> when nobody says.
fn colored(color: Color, output: &OutputArgs) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_zero = |name| env::var_os(name).as_deref() == Some(OsStr::new("0"));
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if is_set("NO_COLOR") || is_zero("CLICOLOR") => false,
        Color::Auto if is_set("CLICOLOR_FORCE") && !is_zero("CLICOLOR_FORCE") => true,
        Color::Auto => output.path().is_none() && stdout().is_terminal(),
    }
}
