//! A capture takes nothing from its target, whatever becomes of pyst-grab: signals arrive, a stopped process stays stopped, a
//! running one runs on. The targets know themselves whether something is missing.

mod interrupted;
mod outputs;
mod processes;
mod signals;
mod stopped;
mod trace;
mod unchanged;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Program, Tool, build, has_program, run, wait_until};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A program that counts the signals it gets without end, and knows how many there were.
struct Storm(Program);

impl Storm {
    fn start() -> Result<Storm> {
        let folder = tempfile::tempdir()?;
        let program = build("gcc", "storm.c", &["-O1", "-pthread"], folder.path())?;
        Ok(Storm(Program::start(&mut Command::new(program), folder)?.context("the program ended at once")?))
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Ends the signals. How many there were, if all arrived.
    fn end(self) -> Result<u64> {
        untraced(self.pid())?;
        fs::write(self.0.folder().join("end"), "")?;
        let told = wait_until("the program to count its signals", 60, || {
            fs::read_to_string(self.0.folder().join("told")).ok()
        })?;
        let (verdict, count) = told.split_once('\n').context("half an account")?;
        ensure!(verdict == "whole", "{verdict}");
        count.trim().trim_end_matches(" signals").parse().with_context(|| format!("how many: {count}"))
    }
}

/// Nobody traces a thread of the process, and none is in a tracer's stop.
fn untraced(pid: u32) -> Result<()> {
    let free = wait_until("the target to be free", 20, || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let held = |status: String| !status.contains("TracerPid:\t0\n") || status.contains("\nState:\tt");
        let mut statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        (!statuses.any(held)).then_some(())
    });
    if free.is_err() && fs::metadata(format!("/proc/{pid}")).is_err() {
        bail!("the target is gone");
    }
    free
}

/// Whether this machine lacks a program that the scenario needs.
fn lacks(scenario: &pyst_tests::Scenario, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has_program(program));
    if let Some(program) = missing {
        scenario.skip("all", &format!("{program} is not installed"));
    }
    missing.is_some()
}

/// The exit status of a pyst-grab (that writes to `file`) to which `signal` is sent when one of its threads does `call` for the
/// `when`th time: `None` if it died of it, for strace dies as what it runs died.
fn killed_at(pid: u32, call: &str, when: u32, signal: Signal, file: Option<&Path>) -> Result<Option<i32>> {
    let inject = format!("inject={call}:signal={}:when={when}", signal.as_str());
    // Under `nohup`, and in some jobs, SIGHUP is ignored from the outset.
    let mut strace = Command::new("env");
    strace.args(["--default-signal", "strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject]);
    strace.arg(Tool::Grab.path()).arg(pid.to_string());
    if let Some(file) = file {
        strace.arg("-o").arg(file);
    }
    Ok(run(&mut strace)?.status)
}
