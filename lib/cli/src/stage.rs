//! The loop that `pyst-unwind` and `pyst-py` are: read a snapshot, add to it, write it, say what went wrong.

use crate::exit::{Exit, Outcome};
use crate::input::{Input, InputError};
use crate::output::OutputArgs;
use crate::progress::Progress;
use crate::speech::{diagnostics_of, process_of_several, say, speaks_here};
use anyhow::Context;
use clap::Args;
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Process, Severity, Stage};
use pyst_snapshot::{Payload, Snapshot, StreamError, StreamReader, WireError, write_snapshot};
use std::io::{Read, Write};
use std::path::PathBuf;

/// The input of a stage.
#[derive(Args, Clone, Debug, Default)]
pub struct StageInput {
    /// A snapshot file; standard input when it is absent or "-"
    #[arg(value_name = "SNAPSHOT")]
    pub file: Option<PathBuf>,
}

impl StageInput {
    /// Opens it.
    ///
    /// # Errors
    /// Those of [`Input::open`].
    pub fn open(&self) -> Result<Input, InputError> {
        Input::open(self.file.as_deref())
    }
}

/// Runs `apply` on every snapshot of the input and writes each with its sections and diagnostics added. `apply` gets each
/// snapshot without what an earlier run of the same stage had to say, and returns what it has to say now.
///
/// # Errors
/// Writing fails.
pub fn run_stage(
    stage: Stage,
    input: impl Read,
    output: &OutputArgs,
    verbose: bool,
    mut apply: impl FnMut(&mut Snapshot) -> Vec<Diagnostic>,
) -> anyhow::Result<Exit> {
    let mut out = output.open()?;
    let mut outcome = Outcome::default();
    let mut has_passed_on = false;
    for mut snapshot in snapshots(input) {
        forget(stage, &mut snapshot);
        let defects = snapshot.defect_diagnostics();
        add_diagnostics(Stage::STREAM, defects, &mut snapshot)?;
        if !has_failed(&snapshot) {
            let progress = Progress::of(stage_tool(stage));
            if !has_passed_on {
                progress.say(|| doing(stage, &snapshot));
            }
            let items = apply(&mut snapshot);
            add_diagnostics(stage, items, &mut snapshot)?;
        }
        // The next one may be taken minutes later.
        write_snapshot(&snapshot, &mut out).and_then(|()| out.flush()).with_context(|| output.cannot_write())?;
        has_passed_on = !speaks_here(output.path());
        let all = diagnostics_of(&snapshot);
        outcome.add(all.iter().map(|(_, diagnostic)| diagnostic));
        if verbose || speaks_here(output.path()) {
            say(&all, process_of_several(&snapshot), verbose);
        }
    }
    out.finish()?;
    Ok(outcome.exit())
}

fn stage_tool(stage: Stage) -> &'static str {
    if stage == Stage::UNWIND { "pyst-unwind" } else { "pyst-py" }
}

fn doing(stage: Stage, snapshot: &Snapshot) -> String {
    let what = if stage == Stage::UNWIND { "native frames" } else { "Python frames" };
    match snapshot.get::<Process>() {
        Ok(Some(process)) => format!("{what} of process {}", process.pid),
        _ => what.to_owned(),
    }
}

fn add_diagnostics(stage: Stage, items: Vec<Diagnostic>, snapshot: &mut Snapshot) -> Result<(), WireError> {
    if items.is_empty() { Ok(()) } else { snapshot.append(&Diagnostics { stage, items }) }
}

/// The snapshots of a stream. What is no snapshot, or a stream without any, becomes one that holds a diagnostic saying so.
pub fn snapshots(input: impl Read) -> impl Iterator<Item = Snapshot> {
    let mut reader = StreamReader::new(input);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match reader.next() {
            Some(Ok(snapshot)) => Some(snapshot),
            Some(Err(error)) => Some(only(of_stream_error(&error))),
            None => {
                ended = true;
                reader.was_empty().then(|| only(empty_input()))
            }
        }
    })
}

/// A snapshot that holds nothing but the reason why.
fn only(reason: Diagnostic) -> Snapshot {
    let mut snapshot = Snapshot::default();
    // A single diagnostic fits any section.
    let _ = add_diagnostics(Stage::STREAM, vec![reason], &mut snapshot);
    snapshot
}

fn empty_input() -> Diagnostic {
    let message = "the input is empty: the tool before this one wrote nothing, or the file is not a snapshot";
    Diagnostic::new(Severity::FAILURE, "empty-input", message)
}

fn of_stream_error(error: &StreamError) -> Diagnostic {
    let code = match error {
        StreamError::Io(_) => "read-failed",
        StreamError::NotASnapshot(_) => "not-a-snapshot",
        StreamError::NewerFormat { .. } => "newer-format",
    };
    Diagnostic::new(Severity::FAILURE, code, error.to_string())
}

/// Whether an earlier stage found nothing usable: there is nothing to add to.
fn has_failed(snapshot: &Snapshot) -> bool {
    diagnostics_of(snapshot).iter().any(|(_, diagnostic)| diagnostic.severity == Severity::FAILURE)
}

/// Removes what an earlier run of `stage` had to say.
fn forget(stage: Stage, snapshot: &mut Snapshot) {
    snapshot.sections.retain(|section| {
        section.kind != Diagnostics::KIND
            || !Diagnostics::decode(section.version, &section.payload).is_ok_and(|earlier| earlier.stage == stage)
    });
}
