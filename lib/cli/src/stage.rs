//! The loop that `pyst-unwind` and `pyst-py` are: read a snapshot, add to it, write it, say what went wrong.

use crate::exit::{Exit, Outcome};
use crate::input::{Input, InputError};
use crate::output::OutputArgs;
use crate::passage::{Passage, Passed};
use crate::progress::Progress;
use crate::snapshots::{empty_input, of_stream_error};
use crate::speech::{process_of_several, say, speaks_here};
use crate::task::{Adding, Task};
use clap::Args;
use pyst_snapshot::payload::Process;
use pyst_snapshot::{Parts, Snapshot};
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

/// Runs `work` on every snapshot of the input and writes each with what it added. `work` gets those sections of a snapshot that
/// the task reads. What else there is, is written as it comes, without waiting for the work.
///
/// # Errors
/// Writing fails.
pub fn run_stage(
    task: &Task,
    input: impl Read,
    output: &OutputArgs,
    verbose: bool,
    work: impl FnMut(&Snapshot, &mut Adding<'_>),
) -> anyhow::Result<Exit> {
    let mut out = output.open()?;
    let outcome = pass_all(task, input, &mut out, output, verbose, work)?;
    out.finish()?;
    Ok(outcome.exit())
}

/// The same, to an output that is open.
fn pass_all(
    task: &Task,
    input: impl Read,
    out: &mut impl Write,
    output: &OutputArgs,
    verbose: bool,
    mut work: impl FnMut(&Snapshot, &mut Adding<'_>),
) -> anyhow::Result<Outcome> {
    let speaks = speaks_here(output.path());
    let mut outcome = Outcome::default();
    let mut has_passed_on = false;
    let mut parts = Parts::new(input);
    loop {
        let first = parts.next();
        if first.is_none() && !parts.was_empty() {
            return Ok(outcome);
        }
        let mut work = |kept: &Snapshot, adding: &mut Adding<'_>| {
            let progress = Progress::of(task.tool);
            if !has_passed_on {
                progress.say(|| doing(task, kept));
            }
            work(kept, adding);
        };
        let passage = Passage::begin(task, &mut *out, output, &mut work)?;
        let passed = match first {
            Some(Ok(_)) => passage.run(&mut parts)?,
            Some(Err(error)) => passage.fail(of_stream_error(&error))?,
            None => passage.fail(empty_input())?,
        };
        has_passed_on = !speaks;
        let Passed { kept, diagnostics } = passed;
        outcome.add(diagnostics.iter().map(|(_, diagnostic)| diagnostic));
        if verbose || speaks {
            say(&diagnostics, process_of_several(&kept), verbose);
        }
        if parts.was_empty() {
            return Ok(outcome);
        }
    }
}

fn doing(task: &Task, snapshot: &Snapshot) -> String {
    match snapshot.get::<Process>() {
        Ok(Some(process)) => format!("{} of process {}", task.adds, process.pid),
        _ => task.adds.to_owned(),
    }
}

#[cfg(test)]
mod tests;
