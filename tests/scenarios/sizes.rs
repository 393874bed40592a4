//! A snapshot is small, however large the heap; threads have their names, however many there are; and for how long the target was
//! stopped.

use anyhow::{Context, Result, ensure};
use pyst_snapshot::payload::Native;
use pyst_snapshot::{Payload, SectionKind, StreamReader};
use pyst_tests::{Interpreter, Scenario, Target, Tool, analyse, grab, representatives, run_with_input, tool};
use std::collections::HashMap;

#[test]
fn a_script_five_frames_deep_takes_less_than_64_kib() {
    below("size, 5 frames", "five_frames.py", 64 << 10);
}

#[test]
fn fifty_threads_take_less_than_512_kib() {
    below("size, 50 threads", "fifty_threads.py", 512 << 10);
}

/// Whose names lie behind thousands of others in the dicts that lead to them.
#[test]
fn threads_have_their_names_in_a_crowd() {
    let scenario = Scenario::new("names in a crowd");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "crowded_names.py", &[])?;
            analyse(&grab([target.pid().to_string()])?.snapshot()?)?.agrees_with(target.account())?;
            Ok(())
        });
    }
    scenario.finish();
}

/// More than one section's worth of native stacks. Those of a pool of threads are all the same.
#[test]
fn of_a_thousand_threads_each_has_its_stack() {
    let scenario = Scenario::new("a thousand threads");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "fifty_threads.py", &["1000"])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            let unwound = run_with_input(&mut tool(Tool::Unwind), &snapshot)?.expect_status(0)?.stdout;
            let sections = StreamReader::new(&unwound[..]).next().context("no snapshot")??.sections;
            let native = sections.iter().filter(|section| section.kind == SectionKind::NATIVE);
            let native: Vec<Native> =
                native.map(|one| Native::decode(one.version, &one.payload)).collect::<Result<_, _>>()?;
            ensure!(native.len() > 1, "all in one section");
            let mut tids: Vec<u32> = native.iter().flat_map(|one| &one.stacks).map(|stack| stack.tid.0).collect();
            ensure!(tids.len() == 1000 && tids.is_sorted(), "{} stacks", tids.len());
            tids.dedup();
            ensure!(tids.len() == 1000, "some are there twice");
            let report = analyse(&snapshot)?;
            report.agrees_with(target.account())?;
            let mut kinds: HashMap<Vec<String>, usize> = HashMap::new();
            for thread in report.threads() {
                let names = thread.native_frames().iter().map(|frame| frame["function"].to_string()).collect();
                *kinds.entry(names).or_default() += 1;
            }
            let mut times: Vec<(usize, usize)> = kinds.iter().map(|(names, times)| (*times, names.len())).collect();
            times.sort_unstable();
            // The main thread, and workers of five depths, which only the oldest and the newest loops tell apart.
            ensure!((2..=6).contains(&times.len()), "{times:?}");
            ensure!(times.iter().all(|(_, frames)| *frames > 4), "{times:?}");
            Ok(())
        });
    }
    scenario.finish();
}

fn below(name: &'static str, script: &str, limit: usize) {
    let scenario = Scenario::new(name);
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let size = size_of(&Target::start(interpreter, script, &[])?)?;
            scenario.figure(&interpreter.name, &format!("{size} bytes"));
            ensure!(size < limit, "{size} bytes");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn the_size_does_not_grow_with_the_heap() {
    let scenario = Scenario::new("size, large heaps");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let small = heap(interpreter, "bytes", 1)?;
            let two_gib = heap(interpreter, "bytes", 2 << 30)?;
            // About 300 MB of small objects.
            let objects = heap(interpreter, "objects", 1_500_000)?;
            scenario.figure(
                &interpreter.name,
                &format!("{small} bytes; 2 GiB heap {two_gib}; 300 MB of objects {objects}"),
            );
            ensure!(two_gib.max(objects) <= small + small / 20, "grows: {small}, {two_gib}, {objects}");
            Ok(())
        });
    }
    scenario.finish();
}

fn heap(interpreter: &Interpreter, kind: &str, count: u64) -> Result<usize> {
    let target = Target::start(interpreter, "heap.py", &[kind, &count.to_string()])?;
    size_of(&target)
}

fn size_of(target: &Target) -> Result<usize> {
    let snapshot = grab([target.pid().to_string()])?.snapshot()?;
    // A small snapshot that says nothing would be no feat.
    analyse(&snapshot)?.agrees_with(target.account())?;
    Ok(snapshot.len())
}

/// Not a test of time: a figure for people, for machines differ. `tests/run` runs it when nothing else runs.
#[test]
#[ignore = "a benchmark, to be run alone"]
fn the_target_is_stopped_briefly() {
    let scenario = Scenario::new("stop");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "five_frames.py", &[])?;
            let mut stops = Vec::new();
            for _ in 0..51 {
                let snapshot = grab([target.pid().to_string()])?.snapshot()?;
                let report = analyse(&snapshot)?;
                stops.push(report.json["snapshot"]["stopped_ns"].as_u64().unwrap_or(u64::MAX));
            }
            stops.sort_unstable();
            let (median, longest) = (stops[stops.len() / 2] / 1000, stops[stops.len() - 1] / 1000);
            scenario
                .figure(&interpreter.name, &format!("stopped for {median} µs (median of 51; longest {longest} µs)"));
            Ok(())
        });
    }
    scenario.finish();
}
