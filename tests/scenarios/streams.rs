//! Streams that are empty, cut off, damaged, or something else: a clear line, the right exit status, no panic, no hang.

use crate::random::{Random, seed};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Output, Pipeline, Report, Scenario, Target, Tool, grab, representatives, run_with_input, tool};
use std::collections::HashMap;

fn snapshot() -> Result<(Target, Vec<u8>)> {
    let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
    let snapshot = grab([target.pid().to_string()])?.snapshot()?;
    Ok((target, snapshot))
}

/// Runs the pipeline on `input`: nothing panics, every line is said once, and by the last tool only.
fn sound(input: &[u8]) -> Result<Output> {
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(input)?;
    let mut lines: HashMap<String, usize> = HashMap::new();
    for output in &outputs {
        let status = output.status.with_context(|| format!("a signal: {}", output.stderr))?;
        ensure!([0, 1, 3].contains(&status), "exit status {status}: {}", output.stderr);
        ensure!(!output.stderr.contains("panicked"), "{}", output.stderr);
        for line in output.stderr.lines() {
            let words = line.split_once(": ").map_or(line, |(_, words)| words);
            *lines.entry(words.to_owned()).or_default() += 1;
        }
    }
    ensure!(lines.values().all(|times| *times == 1), "said more than once: {lines:?}");
    let (last, before) = outputs.split_last().context("no stage")?;
    ensure!(before.iter().all(|output| output.stderr.is_empty()), "said in the middle of the pipe: {lines:?}");
    ensure!(last.status == Some(0) || !lines.is_empty(), "exit status {:?} without a word", last.status);
    Ok(last.clone())
}

#[test]
fn an_empty_stream() {
    let scenario = Scenario::new("error: empty stream");
    for stage in [Tool::Unwind, Tool::Py, Tool::Fmt] {
        scenario.on(stage.name(), || {
            let output = run_with_input(&mut tool(stage), b"")?;
            ensure!(output.status == Some(1), "exit status {:?}", output.status);
            let said = usize::from(stage == Tool::Fmt);
            ensure!(output.stderr.lines().count() == said, "{}", output.stderr);
            Ok(())
        });
    }
    scenario.on("the pipeline", || {
        let last = sound(b"")?;
        ensure!(last.status == Some(1) && last.stderr.lines().count() == 1, "{last:?}");
        ensure!(last.stderr.contains("empty"), "{}", last.stderr);
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_stream_of_something_else() {
    let scenario = Scenario::new("error: no snapshot");
    for (what, input) in [
        ("a text", &b"Traceback for thread 1 (python3) [] (most recent call last):\n"[..]),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03 and what follows"),
        ("an ELF file", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0"),
        ("zeros", &[0; 4096]),
        ("text-mode transfer", b"\x89PYS\n\x1a\n\x01\0\0\0\0\0\0\0\0\0\0"),
        ("a newer format", b"\x89PYS\r\n\x1a\n\x63\0\0\0\0\0\0\0"),
    ] {
        scenario.on(what, || {
            let last = sound(input)?;
            ensure!(last.status == Some(1) && last.stderr.lines().count() == 1, "{last:?}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_stream_that_is_cut_off_anywhere() {
    let scenario = Scenario::new("error: cut-off stream");
    scenario.on("every 97th byte and around every section", || {
        let (target, snapshot) = snapshot()?;
        let mut points: Vec<usize> = (1..snapshot.len()).step_by(snapshot.len() / 150 + 1).collect();
        points.extend(1..48);
        points.extend((1..48).map(|back| snapshot.len() - back));
        let mut shown = 0;
        for point in points {
            let last =
                sound(&snapshot[..point]).with_context(|| format!("cut after {point} of {} bytes", snapshot.len()))?;
            ensure!(matches!(last.status, Some(1 | 3)), "cut after {point} bytes, and exit status {:?}", last.status);
            ensure!(last.stderr.contains("cut off"), "cut after {point} bytes: {}", last.stderr);
            // Whatever could be had is still shown.
            if let Ok(report) = Report::parse(&last.stdout)
                && report.agrees_with(target.account()).is_ok()
            {
                shown += 1;
            }
        }
        ensure!(shown > 20, "the frames were still shown in {shown} cases only, though END and diagnostics come last");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_stream_with_bytes_changed_at_random() {
    let scenario = Scenario::new("error: damaged stream");
    let seed = seed();
    scenario.on(&format!("seed {seed}"), || {
        let (_target, snapshot) = snapshot()?;
        let mut random = Random(seed);
        for round in 0..60 {
            let mut damaged = snapshot.clone();
            let changes = 1 + random.below(8);
            for _ in 0..changes {
                let at = random.below(damaged.len());
                damaged[at] ^= 1 << random.below(8);
            }
            let last = sound(&damaged).with_context(|| format!("round {round}"))?;
            // Reserved bytes and flags may change without harm, but they have a CRC-32 too.
            ensure!(matches!(last.status, Some(1 | 3)), "round {round}: damage went unnoticed");
        }
        Ok(())
    });
    scenario.finish();
}

/// The same damage behind right checksums, as a hostile writer would do it.
#[test]
fn payloads_changed_at_random_behind_right_checksums() {
    let scenario = Scenario::new("hostile payloads");
    let seed = seed();
    scenario.on(&format!("seed {seed}"), || {
        let (_target, snapshot) = snapshot()?;
        let clean = pyst_snapshot::StreamReader::new(&snapshot[..]).next().context("no snapshot")??;
        let mut random = Random(seed);
        for round in 0..150 {
            let mut hostile = clean.clone();
            for _ in 0..=random.below(3) {
                let section = random.below(hostile.sections.len());
                let payload = &mut hostile.sections[section].payload;
                if payload.is_empty() {
                    continue;
                }
                let at = random.below(payload.len());
                match random.below(4) {
                    0 => payload[at] = 0xff,
                    1 => payload[at] ^= 1 << random.below(8),
                    2 => payload.truncate(at),
                    _ => payload[at] = 0,
                }
            }
            let mut bytes = Vec::new();
            pyst_snapshot::write_snapshot(&hostile, &mut bytes)?;
            sound(&bytes).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    });
    scenario.finish();
}
