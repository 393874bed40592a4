//! `schemas/snapshot.md` is enough to write a reader: tests/tools/read_snapshot.py, a few lines of Python that share nothing with
//! the tools, finds in a snapshot what the tools report of it. And reports are what the committed JSON Schema says.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Pipeline, Report, Scenario, Target, Tool, analyse, grab, representatives, run, run_with_input, tool, tools_dir,
};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What the independent reader finds in a stream.
fn read(stream: &[u8]) -> Result<Vec<Vec<Value>>> {
    let python = representatives().iter().find(|one| one.root.is_none()).context("no Python outside of a root")?;
    let output =
        run_with_input(python.command().arg(tools_dir().join("read_snapshot.py")), stream)?.expect_status(0)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn kinds(sections: &[Value]) -> Vec<&str> {
    sections.iter().map(|section| section["kind"].as_str().unwrap_or("?")).collect()
}

#[test]
fn an_independent_reader_finds_what_the_tools_report() {
    let scenario = Scenario::new("independent reader");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            let found = read(&snapshot)?;
            ensure!(found.len() == 1, "{} snapshots", found.len());
            let sections = &found[0];
            let first = ["capture", "process", "threads", "modules", "runtime", "unwind", "symbols", "source"];
            let last = ["memory", "maps", "diagnostics", "end"];
            let kinds = kinds(sections);
            ensure!(kinds.starts_with(&first) && kinds.ends_with(&last), "{kinds:?}");

            let report = analyse(&snapshot)?;
            let decoded = |kind: &str| {
                sections
                    .iter()
                    .find(|section| section["kind"] == kind)
                    .map(|section| section["decoded"].clone())
                    .unwrap_or_default()
            };
            let capture = decoded("capture");
            for name in ["tool", "host", "stopped_ns"] {
                ensure!(capture[name] == report.json["snapshot"][name] && !capture[name].is_null(), "{name}");
            }
            ensure!(capture["source"] == 1 && capture["arch"] == 62 && capture["pointer_width"] == 8);
            ensure!(capture["host"] == fs::read_to_string("/proc/sys/kernel/hostname")?.trim());

            let threads = decoded("threads").as_array().cloned().unwrap_or_default();
            ensure!(threads.len() == 8 && report.threads().len() == 8);
            for thread in &threads {
                let tid = u32::try_from(thread["tid"].as_u64().context("tid")?)?;
                let reported = report.thread(tid)?;
                ensure!(thread["name"] == reported.json["os_name"], "name of {tid}");
                ensure!(thread["state"] == reported.json["state"], "state of {tid}");
                // The ident is the thread pointer; the innermost frame's address is the instruction pointer.
                let ident = target.account().threads.iter().find(|one| one.tid == tid).context("tid")?.ident;
                ensure!(thread["registers"]["thread_pointer"] == ident, "thread pointer of {tid}");
                let values = thread["registers"]["values"].as_array().context("registers")?;
                let rip =
                    values.iter().find(|value| value[0] == 16).and_then(|value| value[1].as_u64()).context("rip")?;
                let innermost = reported.native_frames().pop().context("no native frame")?;
                ensure!(innermost["address"] == format!("{rip:#x}"), "rip of {tid}");
            }

            let waits = decoded("waits")["threads"].as_array().cloned().unwrap_or_default();
            for wait in &waits {
                let tid = u32::try_from(wait["tid"].as_u64().context("tid")?)?;
                ensure!(wait["wait_channel"] == report.thread(tid)?.json["wchan"], "wait channel of {tid}");
            }
            ensure!(!waits.is_empty() || !tells_wait_channels(), "no wait channel");

            let memory: Vec<Value> = sections
                .iter()
                .filter(|section| section["kind"] == "memory")
                .flat_map(|section| section["decoded"].as_array().cloned().unwrap_or_default())
                .collect();
            let recorded: u64 = memory.iter().filter_map(|range| range["length"].as_u64()).sum();
            ensure!(
                recorded > 4096 && recorded < snapshot.len() as u64,
                "{recorded} bytes of memory in {}",
                snapshot.len()
            );
            let mut ranges: Vec<(u64, u64)> = memory
                .iter()
                .map(|range| (range["address"].as_u64().unwrap_or(0), range["length"].as_u64().unwrap_or(0)))
                .collect();
            ranges.sort_unstable();
            ensure!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "ranges overlap");
            Ok(())
        });
    }
    scenario.finish();
}

/// Whether this kernel says where a thread sleeps: it may be built without, or hide it.
fn tells_wait_channels() -> bool {
    let sleeper = std::thread::spawn(std::thread::park);
    let told = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().any(|task| {
        let channel = fs::read(task.path().join("wchan")).unwrap_or_default();
        !channel.is_empty() && channel != b"0"
    });
    sleeper.thread().unpark();
    let _ = sleeper.join();
    told
}

#[test]
fn an_independent_reader_sees_what_the_stages_add() {
    let scenario = Scenario::new("independent reader, stages");
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let snapshot = grab([target.pid().to_string()])?.snapshot()?;
        let unwound = run_with_input(&mut tool(Tool::Unwind), &snapshot)?.expect_status(0)?.stdout;
        let both = run_with_input(&mut tool(Tool::Py), &unwound)?.expect_status(0)?.stdout;
        let before: Vec<String> =
            kinds(&read(&snapshot)?[0]).into_iter().map(str::to_owned).filter(|kind| kind != "end").collect();
        let after = read(&both)?;
        let after = kinds(&after[0]);
        let added: Vec<&str> = after[before.len()..].iter().copied().filter(|kind| *kind != "diagnostics").collect();
        ensure!(after[..before.len()] == before, "what was there is not passed on: {after:?}");
        ensure!(added == ["native", "python", "end"], "added: {added:?}");
        ensure!(read(&[snapshot.clone(), both].concat())?.len() == 2, "two snapshots in one stream");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn pyst_fmt_prints_the_committed_schema() {
    let scenario = Scenario::new("schema");
    scenario.on("all", || {
        let printed = run(tool(Tool::Fmt).arg("--schema"))?.expect_status(0)?.text();
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/report.schema.json");
        ensure!(printed == fs::read_to_string(committed)?, "schemas/report.schema.json is out of date");
        Ok(())
    });
    scenario.finish();
}

/// Every report that any scenario reads is validated, too: see [`Report::parse`]. Here, that validation can fail.
#[test]
fn reports_validate_against_the_schema() {
    let scenario = Scenario::new("schema validation");
    scenario.on("a report, and one that is none", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let snapshot = grab([target.pid().to_string()])?.snapshot()?;
        let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&snapshot)?;
        let text = outputs.last().context("no output")?.text();
        Report::parse(text.as_bytes())?;
        let wrong = text.replacen("\"tid\": ", "\"tid\": \"x\", \"was\": ", 1);
        ensure!(wrong != text && Report::parse(wrong.as_bytes()).is_err(), "a wrong report validates");
        Ok(())
    });
    scenario.finish();
}
