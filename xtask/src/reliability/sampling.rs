//! Stacks of programs of which each line that calls names the function that it calls: whether they can have been.

use super::Bench;
use anyhow::{Context, Result, ensure};
use pyst_report::Report;
use pyst_report::model::{Frame, PythonFrame, Thread};
use pyst_snapshot::StreamReader;
use std::fs;
use std::path::Path;

/// How many snapshots are analysed at once.
pub(super) const BATCH: usize = 250;

/// The text of a program.
pub(super) struct Program {
    lines: Vec<String>,
    name: String,
}

impl Program {
    pub(super) fn read(path: &Path) -> Result<Program> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
        Ok(Program { lines: text.lines().map(str::to_owned).collect(), name })
    }

    /// Its frames in a thread, outermost first.
    pub(super) fn frames<'a>(&self, thread: &'a Thread) -> Vec<&'a PythonFrame> {
        let python = thread.frames.iter().filter_map(|frame| match frame {
            Frame::Python(frame) => Some(frame),
            Frame::Native(_) => None,
        });
        let own = |frame: &&PythonFrame| frame.file.as_deref().is_some_and(|file| file.ends_with(&self.name));
        python.filter(own).collect()
    }

    /// What of these frames cannot have been: a caller whose line does not call what it is said to have called.
    pub(super) fn impossible(&self, frames: &[&PythonFrame]) -> Option<String> {
        let pair = frames.iter().zip(frames.iter().skip(1)).find(|(caller, callee)| !self.calls(caller, callee))?;
        let shown = |frame: &PythonFrame| {
            format!("{} line {}", frame.function.as_deref().unwrap_or("?"), frame.line.unwrap_or_default())
        };
        Some(format!("{} has called {}", shown(pair.0), shown(pair.1)))
    }

    fn calls(&self, caller: &PythonFrame, callee: &PythonFrame) -> bool {
        let line = caller.line.and_then(|line| self.lines.get((line as usize).checked_sub(1)?));
        let name = callee.function.as_deref().unwrap_or("?");
        line.is_some_and(|line| {
            line.match_indices(&format!("{name}(")).any(|(at, _)| {
                let before = line.get(..at).and_then(|before| before.chars().next_back());
                before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_')
            })
        })
    }
}

/// What `pyst-py` makes of a stream of snapshots, one by one.
pub(super) fn each_report(
    bench: &Bench<'_>,
    stream: &Path,
    mut look: impl FnMut(&Report) -> Result<()>,
) -> Result<usize> {
    let output = bench.tool("pyst-py").arg(stream).output()?;
    ensure!(!output.stdout.is_empty(), "pyst-py: {}", String::from_utf8_lossy(&output.stderr));
    let mut count = 0;
    for snapshot in StreamReader::new(output.stdout.as_slice()) {
        look(&Report::of_snapshot(&snapshot?))?;
        count += 1;
    }
    Ok(count)
}
