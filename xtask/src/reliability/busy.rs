//! A busy program is captured again and again: it must not notice, and no stack may be one that it never had.

use super::sampling::{BATCH, Program, each_report};
use super::target::Target;
use super::{Bench, Finding};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn script(bench: &Bench<'_>) -> PathBuf {
    bench.root.join("xtask/src/reliability/busy.py")
}

/// The program, whose threads have all begun.
pub(super) fn start(bench: &Bench<'_>) -> Result<Target> {
    let folder = tempfile::Builder::new().prefix("busy-").tempdir_in(bench.folder.path())?.keep();
    fs::write(folder.join("health"), [0; 16])?;
    let target = Target::start(Command::new(bench.python).arg(script(bench)), &folder, "health")?;
    target.goes_on()?;
    Ok(target)
}

pub(super) fn run(bench: &mut Bench<'_>, times: usize) -> Result<Finding> {
    let mut target = start(bench)?;
    let program = Program::read(&script(bench))?;
    let stream = bench.folder.path().join("busy.pyst");
    let (mut captured, mut partial, mut stacks, mut pairs) = (0, 0, 0usize, 0usize);
    let (mut impossible, mut harm) = (Vec::new(), Vec::new());
    while captured < times {
        let batch = BATCH.min(times - captured);
        let mut file = File::create(&stream)?;
        for _ in 0..batch {
            let output = bench.tool("pyst-grab").arg(target.pid().to_string()).stdin(Stdio::null()).output()?;
            ensure!(matches!(output.status.code(), Some(0 | 3)), "pyst-grab: {:?}", output.status);
            partial += usize::from(output.status.code() == Some(3));
            file.write_all(&output.stdout)?;
            harm.extend(target.is_free().err());
        }
        drop(file);
        let count = each_report(bench, &stream, |report| {
            for thread in &report.threads {
                let frames = program.frames(thread);
                stacks += usize::from(!frames.is_empty());
                pairs += frames.len().saturating_sub(1);
                impossible.extend(program.impossible(&frames));
            }
            Ok(())
        })?;
        ensure!(count == batch, "{count} of {batch} snapshots");
        captured += batch;
        harm.extend(target.goes_on().err());
        ensure!(harm.len() < 10, "harm without end: {harm:#?}");
    }
    let (checks, wrong) = target.health().context("the target's health")?;
    harm.iter().for_each(|error| println!("{error:#}"));
    impossible.iter().take(20).for_each(|pair| println!("impossible: {pair}"));
    let result = format!(
        "{} captures left it stopped, traced or stuck; of its checks of itself {wrong} failed, each of its threads made {checks}; \
         {} of {stacks} stacks with {pairs} calls impossible; {partial} captures partial",
        harm.len(),
        impossible.len()
    );
    let what = format!("{times} captures of a busy program with 50 threads that checks itself");
    let seen = stacks > 40 * captured;
    Ok(Finding { what, result, well: harm.is_empty() && wrong == 0 && impossible.is_empty() && seen })
}
