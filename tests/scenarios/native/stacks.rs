//! What the stacks of a report are held against.

use anyhow::{Context, Result, ensure};
use pyst_tests::{GdbFrame, Report, Scenario, Thread, grab, has_program};
use std::ffi::OsStr;
use tempfile::TempDir;

pub(crate) fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("pyst-native-").tempdir()?)
}

pub(crate) fn lacks(scenario: &Scenario, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has_program(program));
    if let Some(missing) = missing {
        scenario.skip("all", &format!("{missing} is not installed"));
    }
    missing.is_some()
}

pub(crate) fn same_frames(thread: &Thread<'_>, gdb: &[GdbFrame]) -> Result<()> {
    let expected: Vec<u64> = gdb.iter().map(|frame| frame.pc).collect();
    ensure!(
        pcs(thread) == expected,
        "{:?}, gdb has {:?}",
        shown(thread),
        gdb.iter().map(|frame| (format!("{:#x}", frame.pc), &frame.name)).collect::<Vec<_>>()
    );
    Ok(())
}

/// The frames of functions that wrote of themselves are those that they wrote of: all of them, or the innermost ones.
pub(crate) fn only_true_frames(thread: &Thread<'_>, returns: &[u64], all: bool) -> Result<()> {
    let pcs = pcs(thread);
    let found: Vec<u64> = pcs.iter().copied().filter(|pc| returns.contains(pc)).collect();
    let is_right = if all { found == returns } else { returns.ends_with(&found) };
    ensure!(is_right, "{:?} do not have just {returns:x?}", shown(thread));
    Ok(())
}

pub(crate) fn contains_functions(thread: &Thread<'_>, functions: &[&str]) -> Result<()> {
    let frames = thread.frames();
    let mut names = frames.iter().filter_map(|frame| frame["function"].as_str());
    for function in functions {
        // gcc names copies and parts: `outer.constprop.0`, `f(int) [clone .cold]`.
        let is_it = |name: &str| {
            name == *function || name.strip_prefix(function).is_some_and(|rest| rest.starts_with(['.', ' ']))
        };
        ensure!(names.any(is_it), "{function} is missing: {:?}", shown(thread));
    }
    Ok(())
}

pub(crate) fn pcs(thread: &Thread<'_>) -> Vec<u64> {
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    thread.native_frames().iter().filter_map(|frame| address(frame["address"].as_str()?)).collect()
}

/// For messages; of a deep stack both ends.
pub(crate) fn shown(thread: &Thread<'_>) -> Vec<String> {
    let text =
        |frame: &serde_json::Value| format!("{} {} by {}", frame["address"], frame["function"], frame["found_by"]);
    let all: Vec<String> = thread.native_frames().iter().map(text).collect();
    if all.len() <= 60 { all } else { [&all[..30], &all[all.len() - 30..]].concat() }
}

/// The report of stages that may end with 3.
pub(super) fn partial_report_of<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Report> {
    let snapshot = grab(arguments)?;
    ensure!(matches!(snapshot.status, Some(0 | 3)), "pyst-grab: {:?} {}", snapshot.status, snapshot.said()?);
    partial_report(&snapshot.stdout)
}

pub(super) fn partial_report(snapshot: &[u8]) -> Result<Report> {
    let pipeline = pyst_tests::Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]);
    let outputs = pipeline.run(snapshot)?;
    Report::parse(&outputs.last().context("no stage")?.stdout)
}
