//! Golden snapshots: whatever an earlier version took is read by this one, and still says what the target said of itself
//! and gdb of its stacks when it was taken. `tests/tools/make-golden` makes them; none is ever made anew.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Account, GdbFrame, Pipeline, Report, golden_dir};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn golden_snapshots_still_say_what_their_targets_said() {
    let mut checked = 0;
    for path in snapshots() {
        check(&path).with_context(|| path.display().to_string()).unwrap();
        checked += 1;
    }
    // One for each interpreter that the first format was made with.
    assert!(checked >= 4, "only {checked} golden snapshots");
}

#[test]
fn golden_snapshots_are_written_as_they_were_read() {
    for path in snapshots() {
        let bytes = fs::read(&path).unwrap();
        let mut written = Vec::new();
        for snapshot in pyst_snapshot::StreamReader::new(bytes.as_slice()) {
            pyst_snapshot::write_snapshot(&snapshot.unwrap(), &mut written).unwrap();
        }
        assert!(written == bytes, "{}", path.display());
    }
}

fn snapshots() -> Vec<PathBuf> {
    let files = fs::read_dir(golden_dir()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "pyst")).collect()
}

fn check(path: &Path) -> Result<()> {
    let account: Account = serde_json::from_slice(&fs::read(path.with_extension("account.json"))?)?;
    let gdb: BTreeMap<u32, Vec<GdbFrame>> = serde_json::from_slice(&fs::read(path.with_extension("gdb.json"))?)?;
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&fs::read(path)?)?;
    let last = outputs.last().context("no stage")?;
    ensure!(last.status == Some(0), "exit status {:?}: {}", last.status, last.stderr);
    let report = Report::parse(&last.stdout)?;
    ensure!(report.frames_agree_with(&account)? > 0, "the account is empty");
    for (tid, frames) in gdb {
        let found = report.thread(tid)?.native_frames();
        let found: Vec<_> = found.iter().rev().map(|frame| frame["address"].as_str().unwrap_or_default()).collect();
        let expected: Vec<_> = frames.iter().map(|frame| format!("{:#x}", frame.pc)).collect();
        ensure!(found == expected, "thread {tid}: native frames {found:?}, gdb has {expected:?}");
    }
    Ok(())
}
