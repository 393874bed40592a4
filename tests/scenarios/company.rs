//! Targets that do not wait to be looked at: threads that run, threads that come and go, threads that Python knows nothing of,
//! signals that arrive in mid-capture, readers that do not read; and targets in namespaces of their own.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Child, Interpreter, Pipeline, Report, Scenario, Target, Tool, analyse, grab, representatives, run, tool, wait_until,
};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn threads_that_run_are_seen_at_one_moment() {
    let scenario = Scenario::new("busy threads");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let mut target = Target::start_awake(interpreter, "busy.py", &[])?;
            let (mut stacks, mut statuses) = (0, [0; 4]);
            for round in 0..25 {
                let output = grab([target.pid().to_string()])?;
                let status = usize::try_from(output.status.context("a signal ended pyst-grab")?)?;
                if let Some(status) = target.ended() {
                    let complaint = fs::read_to_string(target.folder().join("stderr.txt"))?;
                    bail!("round {round}: the target has ended ({status}), and said: {complaint}");
                }
                ensure!(status == 0 || status == 3, "exit status {status}: {}", output.said()?);
                statuses[status] += 1;
                let outputs = Pipeline::from_snapshot_only(&["--format", "json"]).run(&output.stdout)?;
                stacks += on_the_road(&Report::parse(&outputs.last().context("no output")?.stdout)?)?;
            }
            // A thread that comes and goes may be lost on its way; those that stay may not.
            ensure!(stacks >= 100, "only {stacks} stacks in 25 captures of 4 busy threads");
            ensure!(statuses[0] > 15, "exit statuses 0, 1, 2, 3: {statuses:?}");
            scenario.figure(&interpreter.name, &format!("{stacks} stacks; exit statuses 0, 1, 2, 3: {statuses:?}"));
            Ok(())
        });
    }
    scenario.finish();
}

/// How many threads are busy on their road, all of whose frames must follow one another as the road does.
fn on_the_road(report: &Report) -> Result<usize> {
    const ROAD: [&str; 7] = ["drive", "first", "second", "third", "fourth", "fifth", "(end)"];
    let mut found = 0;
    for thread in report.threads() {
        let frames = thread.python_frames()?;
        let own: Vec<&str> = frames
            .iter()
            .filter(|frame| frame.file.ends_with("busy.py") && frame.function != "<module>")
            .map(|frame| frame.function.as_str())
            .collect();
        let Some(first) = own.first() else { continue };
        if *first == "come_and_go" {
            ensure!(own.len() == 1, "impossible: {own:?}");
            continue;
        }
        // The threads that come and go enter the road at its second stop.
        let start = ROAD.iter().position(|stop| stop == first).with_context(|| format!("impossible: {own:?}"))?;
        ensure!(start <= 1, "a stack without its outer frames: {own:?}; {}", report.json["diagnostics"]);
        ensure!(ROAD[start..].starts_with(&own), "impossible: {own:?}");
        found += 1;
    }
    Ok(found)
}

#[test]
fn a_thread_that_python_knows_nothing_of_is_shown_when_asked_for() {
    let scenario = Scenario::new("foreign thread");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "foreign_thread.py", &[])?;
            let report = analyse(&grab([target.pid().to_string()])?.snapshot()?)?;
            report.agrees_with(target.account())?;
            ensure!(report.threads().len() == 2, "{} threads", report.threads().len());
            let foreign = report.threads().into_iter().find(|thread| thread.tid() != Some(target.pid()));
            let foreign = foreign.context("no foreign thread")?;
            ensure!(foreign.python_frames()?.is_empty(), "Python frames in a thread that has none");
            let names: Vec<_> = foreign.native_frames().iter().map(|frame| frame["function"].to_string()).collect();
            ensure!(names.len() >= 2 && names.iter().any(|name| name.contains("pause")), "{names:?}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn no_signal_that_arrives_in_mid_capture_is_lost() {
    let scenario = Scenario::new("signals in mid-capture");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "signals.py", &[])?;
            let file = target.folder().join("signals");
            for round in 1..=40 {
                // One that comes after Python has looked for signals and before it sleeps again waits until that is over.
                target.wait_for_state('S')?;
                let mut command = tool(Tool::Grab);
                command.arg(target.pid().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut grab = Child::spawn(&mut command)?;
                std::thread::sleep(Duration::from_micros(400 * round));
                target.signal(Signal::SIGUSR2)?;
                wait_until("the signal's handler", 10, || (fs::metadata(&file).ok()?.len() == round).then_some(()))?;
                wait_until("pyst-grab", 20, || grab.ended())?;
            }
            target.wait_for_state('S')?;
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_reader_that_does_not_read_does_not_stop_the_target() {
    let scenario = Scenario::new("slow reader");
    let interpreter = &representatives()[0];
    scenario.on(&interpreter.name, || {
        // Its snapshot is larger than a pipe.
        let target = Target::start(interpreter, "fifty_threads.py", &[])?;
        let mut command = tool(Tool::Grab);
        let grab = Child::spawn(command.arg(target.pid().to_string()).stdout(Stdio::piped()))?;
        wait_until("pyst-grab to fill the pipe", 20, || {
            let tasks = fs::read_dir(format!("/proc/{}/task", grab.pid())).ok()?.flatten();
            let mut wchans = tasks.map(|task| fs::read_to_string(task.path().join("wchan")).unwrap_or_default());
            wchans.any(|wchan| wchan.contains("pipe_write")).then_some(())
        })?;
        for task in fs::read_dir(format!("/proc/{}/task", target.pid()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            ensure!(status.contains("TracerPid:\t0\n") && status.contains("State:\tS"), "held: {status}");
        }
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_process_in_namespaces_of_its_own() {
    let scenario = Scenario::new("namespaces");
    let probe = "mount -t tmpfs none /mnt";
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount", "--", "sh", "-c", probe]);
    if !run(&mut unshare).is_ok_and(|output| output.status == Some(0)) {
        return scenario.skip("all", "making namespaces needs unshare and CAP_SYS_ADMIN");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || in_namespaces(interpreter));
    }
    scenario.finish();
}

/// In a pid namespace the target knows other ids of its threads than we do, and in a mount namespace other files: its executable
/// and its script are where we have none.
fn in_namespaces(interpreter: &Interpreter) -> Result<()> {
    const PREFIX: [&str; 6] = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--"];
    // "$@" is: the interpreter, -u, the script.
    const ELSEWHERE: &str = "mount -t tmpfs none /mnt && cp \"$1\" /mnt/python && cp \"${3%/*}\"/*.py /mnt && \
                             exec /mnt/python -u \"/mnt/${3##*/}\"";
    let elsewhere = [&PREFIX[..], &["sh", "-c", ELSEWHERE, "sh"]].concat();
    // A Debian root is elsewhere as it is.
    let prefix = if interpreter.root.is_some() { &PREFIX[..] } else { &elsewhere };
    let target = Target::start_through(prefix, interpreter, "eight_threads.py")?;
    let report = analyse(&grab([target.pid().to_string()])?.snapshot()?)?;
    let mut account = target.account().clone();
    for thread in &mut account.threads {
        let known = report.threads().into_iter().find(|one| one.json["namespace_tid"] == thread.tid);
        thread.tid = known.and_then(|one| one.tid()).with_context(|| format!("no namespace tid {}", thread.tid))?;
    }
    report.agrees_with(&account)?;
    ensure!(
        report.json["process"]["namespace_pids"] == serde_json::json!([1]),
        "{}",
        report.json["process"]["namespace_pids"]
    );
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let main = report.thread(target.pid())?.frames();
    let line = main.iter().rev().find(|frame| frame["kind"] == "python").map(|frame| frame["source"].clone());
    ensure!(line == Some("account.tell(); time.sleep(account.FOREVER)".into()), "source: {line:?}");
    let native = report.threads().iter().all(|thread| thread.native_frames().len() > 3);
    ensure!(native, "no native frames");
    Ok(())
}
