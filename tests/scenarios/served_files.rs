//! Targets whose files a server has, as with NFS and FUSE: what most often makes a service hang is that it answers no more.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use pyst_tests::{Output, Pipeline, Report, Scenario, Target, grab, representatives, wait_until};
use serde_json::Value;
use std::fs;

/// What is said of files that did not come.
const SILENT: &str = "files-out-of-reach";

#[test]
fn a_service_that_waits_for_a_silent_file_server_is_shown_without_what_only_that_has() {
    let scenario = Scenario::new("files: silent server");
    on_each(&scenario, "silent", |target| {
        let (output, report) = captured(target, "--python-only")?;
        ensure!(output.status == Some(3), "{:?} {}", output.status, output.stderr);
        report.frames_agree_with(target.account())?;
        ensure!(report.codes().contains(&SILENT.to_owned()), "{:?}", report.codes());
        ensure!(sources(&report).iter().all(|(file, source)| !file.contains("/mounted/") || source.is_none()));

        // The thread that waits cannot be stopped, but it provably sleeps.
        let (output, report) = captured(target, "--no-block")?;
        ensure!(output.status == Some(3), "{:?} {}", output.status, output.stderr);
        report.frames_agree_with(target.account())?;
        let waiting =
            target.account().threads.iter().find(|thread| thread.tid != target.pid()).context("one thread")?;
        let native = report.thread(waiting.tid)?.native_frames();
        let is_open = |frame: &Value| frame["function"].as_str().is_some_and(|name| name.contains("open"));
        ensure!(native.iter().any(is_open), "{native:?}");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn files_of_a_server_that_answers_are_as_good_as_others() {
    let scenario = Scenario::new("files: served");
    on_each(&scenario, "answers", |target| {
        for mode in ["--python-only", "--no-block", "--debug-info"] {
            let (output, report) = captured(target, mode)?;
            ensure!(output.status == Some(0), "{mode}: {:?} {}", output.status, output.stderr);
            report.frames_agree_with(target.account())?;
            let sources = sources(&report);
            let served = sources.iter().find(|(file, _)| file.ends_with("/mounted/served.py")).context("not served")?;
            ensure!(served.1.as_deref() == Some("        account.time.sleep(account.FOREVER)"), "{mode}: {served:?}");
        }
        Ok(())
    });
    scenario.finish();
}

/// The one thing that a stop does to a target: an interrupted call that returns EINTR is named.
#[test]
fn a_call_that_a_file_server_gives_up_because_of_the_stop_is_told() {
    let scenario = Scenario::new("files: given up");
    on_each(&scenario, "endless", |target| {
        let result = || fs::read_to_string(target.folder().join("result")).ok();
        for _ in 0..3 {
            let (output, report) = captured(target, "--no-block")?;
            ensure!(output.status == Some(0) && result().is_none(), "{:?}, {:?}", output.status, result());
            report.frames_agree_with(target.account())?;
        }
        let (output, report) = captured(target, "--python-only")?;
        ensure!(output.status == Some(0), "{:?} {}", output.status, output.stderr);
        let said = &report.json["diagnostics"];
        let interrupted = said.as_array().into_iter().flatten().filter(|one| one["code"] == "interrupted-call");
        let messages: Vec<&str> = interrupted.filter_map(|one| one["message"].as_str()).collect();
        ensure!(messages.len() == 1 && messages[0].contains("made its read return EINTR"), "{said}");
        let result = wait_until("the read to return", 20, result)?;
        ensure!(result == format!("-1 {}", Errno::EINTR as i32), "{result}");
        Ok(())
    });
    scenario.finish();
}

/// Runs a check on a target of interpreters that stand for all.
fn on_each(scenario: &Scenario, mode: &str, check: impl Fn(&Target) -> Result<()>) {
    for interpreter in representatives() {
        if interpreter.version < (3, 6) {
            scenario.has_none(&interpreter.name, "it cannot run the file system");
            continue;
        }
        let target = Target::start_awake(interpreter, "silent_service.py", &[mode]);
        let unserved = target.as_ref().ok().map(|target| fs::read_to_string(target.folder().join("unserved")));
        match unserved {
            Some(Ok(why)) => scenario.skip(&interpreter.name, &why),
            _ => scenario.on(&interpreter.name, || check(&target?)),
        }
    }
}

fn captured(target: &Target, mode: &str) -> Result<(Output, Report)> {
    let output = grab([mode.to_owned(), target.pid().to_string()])?;
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&output.stdout)?;
    let report = Report::parse(&outputs.last().context("no stage")?.stdout)?;
    Ok((output, report))
}

/// The files of all Python frames, with their lines of source.
fn sources(report: &Report) -> Vec<(String, Option<String>)> {
    let text = |frame: &Value, key: &str| frame[key].as_str().map(str::to_owned);
    let frames = report.threads().into_iter().flat_map(|thread| thread.frames());
    let python = frames.filter(|frame| frame["kind"] == "python");
    python.filter_map(|frame| Some((text(&frame, "file")?, text(&frame, "source")))).collect()
}
