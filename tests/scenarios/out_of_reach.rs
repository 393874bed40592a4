//! Memory that somebody else has to bring, and does not: the target goes on, and what was read is told.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Output, Pipeline, Report, Scenario, Target, grab, interpreters, wait_until};
use std::fs;

/// How often a target whose memory comes and goes is captured: most often that happens between the look and the stop.
const CAPTURES: usize = 6;

/// How deep its thread is.
const DEPTH: usize = 600;

#[test]
fn memory_that_never_comes_costs_what_lies_there_and_no_more() {
    let scenario = Scenario::new("memory out of reach");
    on_each(&scenario, "gone", costs_what_lies_there);
    scenario.finish();
}

#[test]
fn memory_of_a_file_system_that_answers_no_more_costs_what_lies_there_and_no_more() {
    let scenario = Scenario::new("memory of silent files");
    on_each(&scenario, "silent", costs_what_lies_there);
    scenario.finish();
}

fn costs_what_lies_there(target: &Target) -> Result<()> {
    let output = captured(target)?;
    ensure!(output.status == Some(3), "{:?} {}", output.status, output.stderr);
    let report = report(&output)?;
    ensure!(report.codes().contains(&"memory-out-of-reach".to_owned()), "{:?}", report.codes());
    ensure!(!report.thread(target.pid())?.python_frames()?.is_empty(), "the main thread has no frames");
    let deep = deepest(&report)?;
    ensure!((1..DEPTH).contains(&deep), "{deep} frames of the thread whose memory is gone");
    Ok(())
}

#[test]
fn memory_that_comes_and_goes_never_holds_the_target() {
    let scenario = Scenario::new("memory that comes and goes");
    on_each(&scenario, "comes and goes", |target| {
        for _ in 0..CAPTURES {
            let output = captured(target)?;
            let report = report(&output)?;
            let (deep, codes) = (deepest(&report)?, report.codes());
            let is_said = || codes.iter().any(|code| code == "stop-limit" || code == "memory-out-of-reach");
            match output.status {
                Some(0) => ensure!(deep >= DEPTH, "complete, with {deep} frames"),
                Some(3) => ensure!(is_said(), "partial, and why is not said: {codes:?}"),
                _ => anyhow::bail!("{:?} {}", output.status, output.stderr),
            }
        }
        Ok(())
    });
    scenario.finish();
}

/// Runs a check on a target of each interpreter whose frames lie in pages of their own.
fn on_each(scenario: &Scenario, mode: &str, check: impl Fn(&Target) -> Result<()>) {
    for interpreter in interpreters() {
        if interpreter.version < (3, 11) {
            scenario.has_none(&interpreter.name, "its frames share pages with other objects");
            continue;
        }
        let target = match start(interpreter, mode) {
            Ok((target, said)) if said == "gone" => target,
            Ok((_, said)) => {
                scenario.skip(&interpreter.name, &said);
                continue;
            }
            Err(error) => {
                scenario.on(&interpreter.name, || Err(error));
                continue;
            }
        };
        scenario.on(&interpreter.name, || check(&target));
    }
}

/// The target, and what it says of the page.
fn start(interpreter: &Interpreter, mode: &str) -> Result<(Target, String)> {
    let target = Target::start_awake(interpreter, "out_of_reach.py", &[mode])?;
    let said = wait_until("the target to lose a page", 20, || fs::read_to_string(target.folder().join("page")).ok())?;
    Ok((target, said))
}

/// One capture, while and after which the target counts on.
fn captured(target: &Target) -> Result<Output> {
    let count = || fs::read_to_string(target.folder().join("count")).ok()?.parse::<u64>().ok();
    let output = grab([target.pid().to_string()])?;
    let after = wait_until("the target to count", 20, count)?;
    wait_until("the target to count on", 20, || count().filter(|count| *count > after + 3))?;
    let status = fs::read_to_string(format!("/proc/{}/status", target.pid()))?;
    ensure!(status.contains("TracerPid:\t0\n"), "still traced");
    Ok(output)
}

fn report(output: &Output) -> Result<Report> {
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&output.stdout)?;
    Report::parse(&outputs.last().context("no stage")?.stdout)
}

/// How many Python frames the thread has that has most.
fn deepest(report: &Report) -> Result<usize> {
    let counts: Result<Vec<usize>> = report.threads().iter().map(|thread| Ok(thread.python_frames()?.len())).collect();
    counts?.into_iter().max().context("no thread")
}
