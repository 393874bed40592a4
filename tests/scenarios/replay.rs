//! Replay: what is made of a snapshot in an empty root, where no interpreter, library or source file exists, equals byte for byte
//! what is made of it on the spot. And the stages commute: the order in which they run leaves no trace.

use crate::empty_root::EmptyRoot;
use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Scenario, Target, Tool, gcore, grab, has_program, representatives};

const TARGETS: [&str; 5] = ["eight_threads.py", "ctypes_callback.py", "coroutine_throw.py", "closures.py", "names.py"];

const JSON: [&str; 3] = ["--format", "json", "--all-threads"];

#[test]
fn a_snapshot_says_the_same_in_an_empty_root() {
    let scenario = Scenario::new("replay in an empty root");
    let root = match EmptyRoot::new() {
        Ok(root) => root,
        Err(reason) => return scenario.skip("all", &format!("{reason:#}")),
    };
    for interpreter in representatives() {
        for script in TARGETS {
            let mut target = None;
            scenario.on(&format!("{}, {script}", interpreter.name), || {
                let target = target.insert(Target::start(interpreter, script, &[])?);
                same_in(&root, &grab([target.pid().to_string()])?.snapshot()?)
            });
            let Some(target) = target.filter(|_| has_program("gcore") && script == "eight_threads.py") else {
                continue;
            };
            scenario.on(&format!("{}, {script}, gcore", interpreter.name), || {
                same_in(&root, &grab([gcore(&target)?])?.snapshot()?)
            });
        }
    }
    scenario.finish();
}

fn same_in(root: &EmptyRoot, snapshot: &[u8]) -> Result<()> {
    for format in [&JSON[..], &["--format", "text", "--all-threads"], &["--format", "jsonl"]] {
        let here = Pipeline::from_snapshot_only(format);
        let there = root.pipeline(format);
        let (here, there) = (result(&here, snapshot)?, result(&there, snapshot)?);
        ensure!(!here.is_empty(), "no report");
        if here != there {
            let [a, b] = [&here, &there].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let (a, b) = a.lines().zip(b.lines()).find(|(a, b)| a != b).unwrap_or(("(longer)", "(shorter)"));
            anyhow::bail!("{format:?} differs: here {a:?}, there {b:?}");
        }
    }
    Ok(())
}

fn result(pipeline: &Pipeline, snapshot: &[u8]) -> Result<Vec<u8>> {
    let outputs = pipeline.run(snapshot)?;
    for output in &outputs {
        ensure!(output.status == Some(0), "exit status {:?}: {}", output.status, output.stderr);
    }
    Ok(outputs.last().context("no stage")?.stdout.clone())
}

#[test]
fn the_order_of_the_stages_leaves_no_trace() {
    let scenario = Scenario::new("stages commute");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            let of = |stages: &[Tool]| {
                let unwind = || (Tool::Unwind, vec!["--snapshot-only".to_owned()]);
                let stages =
                    stages.iter().map(|one| if *one == Tool::Unwind { unwind() } else { (*one, Vec::new()) }).collect();
                result(&Pipeline { stages, ..Pipeline::from_snapshot_only(&JSON) }, &snapshot)
            };
            let usual = of(&[Tool::Unwind, Tool::Py])?;
            ensure!(usual == of(&[Tool::Py, Tool::Unwind])?, "py | unwind differs from unwind | py");
            let twice = of(&[Tool::Py, Tool::Unwind, Tool::Unwind, Tool::Py, Tool::Py])?;
            ensure!(usual == twice, "running stages again changes the report");
            let native = String::from_utf8(of(&[Tool::Unwind])?)?;
            ensure!(native.contains("\"native\"") && !native.contains("\"kind\": \"python\""), "unwind | fmt");
            let python = String::from_utf8(of(&[Tool::Py])?)?;
            ensure!(python.contains("\"kind\": \"python\"") && !python.contains("\"kind\": \"native\""), "py | fmt");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_stream_may_hold_any_number_of_snapshots() {
    let scenario = Scenario::new("concatenated snapshots");
    let interpreter = &representatives()[0];
    scenario.on(&interpreter.name, || {
        let [one, other] = [(); 2].map(|()| Target::start(interpreter, "five_frames.py", &[]));
        let (one, other) = (one?, other?);
        let first = grab([one.pid().to_string()])?.snapshot()?;
        let second = grab([other.pid().to_string()])?.snapshot()?;
        let pipeline = Pipeline::from_snapshot_only(&["--format", "jsonl"]);
        let both = result(&pipeline, &[first.clone(), second.clone()].concat())?;
        let apart = [result(&pipeline, &first)?, result(&pipeline, &second)?].concat();
        ensure!(both == apart, "two snapshots in one stream are not the two of them");
        ensure!(both.iter().filter(|byte| **byte == b'\n').count() == 2, "one line a snapshot");
        Ok(())
    });
    scenario.finish();
}
