//! The command line of `pyst-fmt`.

use clap::{Parser, ValueEnum};
use pyst_cli::{OutputArgs, StageInput};

/// Renders a snapshot as text or JSON
///
/// Reads snapshots, merges native and Python frames by address, and prints every thread. It needs nothing but the snapshot;
/// stages that were left out leave out their frames.
#[derive(Parser, Clone, Debug)]
#[command(name = "pyst-fmt", version, long_version = pyst_cli::long_version!())]
#[command(after_help = "Exit status: 0 complete, 1 failed, 2 usage, 3 partial.")]
pub struct Args {
    /// Where the snapshots come from.
    #[command(flatten)]
    pub input: StageInput,

    /// What to print
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Show threads without Python frames too
    #[arg(long)]
    pub all_threads: bool,

    /// Show the interpreter's own native frames too
    #[arg(long)]
    pub native_internals: bool,

    /// Of native frames show only those that the innermost Python frame called
    #[arg(long)]
    pub native_last: bool,

    /// Colour the text: auto means on a terminal, unless NO_COLOR is set or CLICOLOR is 0
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArgs,

    /// Print the JSON Schema of the report, and exit
    #[arg(long)]
    pub schema: bool,

    /// Print diagnostics that only inform, too
    #[arg(short, long)]
    pub verbose: bool,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one block a thread, most recent call last
    Text,
    /// One indented JSON document per snapshot
    Json,
    /// One JSON document per snapshot, each on a line
    Jsonl,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_line_names_the_report_schema() {
        let schema = format!("report schema {}", pyst_report::model::VERSION);
        assert!(pyst_cli::long_version!().ends_with(&schema));
    }
}
