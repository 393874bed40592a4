//! More than one: a process with all that descend from it, whatever becomes of one of them; and one process again and again.

use crate::permissions::{Public, USER, prepared, setpriv};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_snapshot::{Snapshot, StreamReader, write_snapshot};
use pyst_tests::{
    Account, Child, Output, Pipeline, Report, Scenario, Target, Tool, analyse, grab, representatives, run, tool,
    wait_until,
};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The reports of a stream.
fn reports(stream: &[u8], stages: Vec<(Tool, Vec<String>)>) -> Result<(Vec<Report>, Output)> {
    let pipeline = Pipeline { stages, ..Pipeline::from_snapshot_only(&["--format", "jsonl", "--all-threads"]) };
    let last = pipeline.run(stream)?.pop().context("no output")?;
    let reports = last.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Report::parse);
    Ok((reports.collect::<Result<_>>()?, last))
}

fn native() -> Vec<(Tool, Vec<String>)> {
    vec![(Tool::Unwind, vec!["--snapshot-only".to_owned()]), (Tool::Py, Vec::new())]
}

fn pid_of(report: &Report) -> u32 {
    report.json["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

/// The children of all threads, as the kernel lists them: the oracle.
fn children(pid: u32) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = fs::read_to_string(task?.path().join("children"))?;
        found.extend(listed.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(found)
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_pool_of_workers_is_captured_with_its_parent() {
    let scenario = Scenario::new("--children, a pool");
    for interpreter in representatives() {
        for method in ["fork", "spawn"] {
            scenario.on(&format!("{}, {method}", interpreter.name), || {
                let target = Target::start(interpreter, "pool.py", &[method])?;
                let all = children(target.pid())?;
                let zombies: Vec<u32> = all.iter().copied().filter(|pid| is_zombie(*pid)).collect();
                ensure!(zombies.len() == 1 && all.len() >= 3, "{all:?}, of which zombies: {zombies:?}");
                let pid = target.pid().to_string();
                pool(&target, &all, zombies[0], &grab(["--children", &pid])?.snapshot()?, native())?;
                let python_only = grab(["--children", "--python-only", &pid])?.snapshot()?;
                pool(&target, &all, zombies[0], &python_only, vec![(Tool::Py, Vec::new())])
            });
        }
    }
    scenario.finish();
}

fn pool(
    target: &Target,
    children: &BTreeSet<u32>,
    zombie: u32,
    stream: &[u8],
    stages: Vec<(Tool, Vec<String>)>,
) -> Result<()> {
    let is_native = stages.len() > 1;
    let (reports, last) = reports(stream, stages.clone())?;
    ensure!(last.status == Some(0), "exit status {:?}: {}", last.status, last.stderr);
    ensure!(last.stderr.contains(&format!("process {zombie} has exited")), "the zombie: {}", last.stderr);
    ensure!(pid_of(&reports[0]) == target.pid(), "the parent is not the first");
    reports[0].agrees_with(target.account())?;
    let found: BTreeSet<u32> = reports.iter().skip(1).map(pid_of).collect();
    let expected: BTreeSet<u32> = children.iter().copied().filter(|pid| *pid != zombie).collect();
    ensure!(found == expected && reports.len() == found.len() + 1, "{found:?} instead of {expected:?}");
    let (mut workers, mut tools) = (0, 0);
    for report in &reports[1..] {
        ensure!(report.json["process"]["ppid"] == target.pid(), "{}", report.json["process"]);
        let account = target.folder().join(format!("account-{}.json", pid_of(report)));
        if let Ok(account) = fs::read(&account) {
            report.agrees_with(&serde_json::from_slice::<Account>(&account)?)?;
            workers += 1;
        } else if report.json["process"]["name"] == "sleep" {
            ensure!(report.json["python"].is_null() && report.codes() == ["no-python"], "{:?}", report.codes());
            ensure!(report.threads()[0].native_frames().len() > 2 || !is_native, "no native frames of sleep");
            tools += 1;
        }
    }
    ensure!(workers == 2 && tools <= 1, "{workers} workers, {tools} tools");
    // A Debian root of the tests may have none.
    ensure!(tools == 1 || target.has_own_root()?, "no tool");
    // In the text it is said which is which.
    let text = Pipeline { stages, ..Pipeline::from_snapshot_only(&[]) }.run(stream)?.pop().context("no text")?.text();
    for (index, report) in reports.iter().enumerate() {
        let name = report.json["process"]["name"].as_str().context("no name")?;
        let header = format!("Snapshot {}: process {} ({name})\n", index + 1, pid_of(report));
        ensure!(text.contains(&header), "no `{header}` in: {text}");
    }
    Ok(())
}

/// A process with children of `sleep`, and a snapshot larger than a pipe.
const CROWD: &str = "
import subprocess, threading, time
children = [subprocess.Popen(['sleep', '1000']) for _ in range(2)]
def down(n):
    if n: down(n - 1)
    else: time.sleep(1000)
for _ in range(60): threading.Thread(target=down, args=(30,), daemon=True).start()
time.sleep(0.5)
print('ready')
time.sleep(1000)
";

#[test]
fn a_child_that_exits_meanwhile_does_not_cost_the_others() {
    let scenario = Scenario::new("--children, one exits");
    let interpreter = &representatives()[0];
    scenario.on(&interpreter.name, || {
        let mut command = interpreter.command();
        let mut parent = Child::spawn(command.args(["-u", "-c", CROWD]).stdout(Stdio::piped()))?;
        parent.take_stdout().context("no stdout")?.read_exact(&mut [0; 6])?;
        let all: Vec<u32> = children(parent.pid())?.into_iter().collect();
        ensure!(all.len() == 2, "{all:?}");
        let mut command = tool(Tool::Grab);
        command.args(["--stop-limit=10000", "--children", &parent.pid().to_string()]).stdout(Stdio::piped());
        let mut grab = Child::spawn(&mut command)?;
        wait_until("pyst-grab to fill the pipe", 60, || {
            let wchan = fs::read_to_string(format!("/proc/{}/wchan", grab.pid())).ok()?;
            wchan.contains("pipe_write").then_some(())
        })?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(all[0])?), Signal::SIGKILL)?;
        let mut stream = Vec::new();
        grab.take_stdout().context("no stdout")?.read_to_end(&mut stream)?;
        let status = wait_until("pyst-grab", 60, || grab.ended())?;
        ensure!(status.code() == Some(3), "{status:?}");
        let (reports, last) = reports(&stream, native())?;
        ensure!(last.status == Some(3) && last.stderr.lines().count() == 1, "{:?} {}", last.status, last.stderr);
        ensure!(last.stderr.contains(&format!("process {}", all[0])), "{}", last.stderr);
        let [parents, gone, left] = &reports[..] else { anyhow::bail!("{} reports", reports.len()) };
        ensure!(pid_of(parents) == parent.pid() && parents.threads().len() == 61 && parents.codes().is_empty());
        ensure!(pid_of(gone) == all[0] && gone.threads().is_empty(), "{}", gone.json);
        ensure!(pid_of(left) == all[1] && left.threads()[0].native_frames().len() > 2, "{}", left.json);
        let text = Pipeline::from_snapshot_only(&[]).run(&stream)?.pop().context("no text")?.text();
        ensure!(text.contains(&format!("process {} (sleep)\n\nNot captured (", all[0])), "{text}");
        Ok(())
    });
    scenario.finish();
}

/// Its children come and go, and it does not.
#[test]
fn of_a_process_that_lives_no_captures_are_missed() {
    let scenario = Scenario::new("children: short-lived, again and again");
    scenario.on("all", || {
        let shell = Child::spawn(Command::new("sh").args(["-c", "while :; do sleep 0.01; done"]).stdin(Stdio::null()))?;
        let pid = shell.pid().to_string();
        for _ in 0..12 {
            let output = grab(["--children", "--count=8", "--interval=0.01", "--no-block", &pid])?;
            let said = output.said()?;
            ensure!(!said.contains("captures were made before"), "{said}");
        }
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_child_of_another_user_does_not_cost_the_others() {
    let scenario = Scenario::new("--children, one of another user");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    scenario.on(&interpreter.name, || another_user(interpreter, &public));
    scenario.finish();
}

fn another_user(interpreter: &pyst_tests::Interpreter, public: &Public) -> Result<()> {
    // The child stays root's when its parent becomes another user's.
    let line = "sleep 1000 & exec setpriv \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh"]).args(USER).arg("--").arg(&interpreter.exe);
    command.args(["-u", "-c", "import time\nprint('ready')\ntime.sleep(1000)"]).current_dir("/").stdout(Stdio::piped());
    let mut parent = Child::spawn(&mut command)?;
    parent.take_stdout().context("no stdout")?.read_exact(&mut [0; 6])?;
    let child = children(parent.pid())?.into_iter().next().context("no child")?;
    let mut command = Command::new(setpriv(&USER)[0]);
    command.args(&setpriv(&USER)[1..]).arg(public.grab()).args(["--stop-limit=10000", "--children"]);
    let output = run(command.arg(parent.pid().to_string()).current_dir("/"))?;
    ensure!(output.status == Some(3), "exit status {:?}: {}", output.status, output.said()?);
    let (reports, last) = reports(&output.stdout, native())?;
    ensure!(reports.len() == 2 && pid_of(&reports[0]) == parent.pid(), "{} reports", reports.len());
    ensure!(reports[0].threads()[0].python_frames()?.len() == 1, "{}", reports[0].json);
    ensure!(pid_of(&reports[1]) == child && reports[1].codes() == ["other-user"], "{}", reports[1].json);
    ensure!(reports[1].json["process"]["uid"] == 0, "{}", reports[1].json["process"]);
    ensure!(last.stderr.contains(&format!("process {child} belongs to uid 0")), "{}", last.stderr);
    Ok(())
}

/// Is in `before` until there is a file of that name, and then in `after`.
const TURN: &str = "
import os, sys, time
def before():
    print('ready')
    while not os.path.exists(sys.argv[1]): time.sleep(0.01)
def after():
    time.sleep(1000)
before()
after()
";

/// A process that turns when the file is there.
fn turning(file: &std::path::Path) -> Result<Child> {
    let mut command = representatives()[0].command();
    let mut target = Child::spawn(command.args(["-u", "-c", TURN]).arg(file).stdout(Stdio::piped()))?;
    target.take_stdout().context("no stdout")?.read_exact(&mut [0; 6])?;
    Ok(target)
}

fn repeated(target: &Child, arguments: &[&str]) -> Command {
    let mut command = tool(Tool::Grab);
    command.args(["--stop-limit=10000"]).args(arguments).arg(target.pid().to_string());
    command
}

fn innermost(snapshot: &Snapshot) -> Result<String> {
    let mut bytes = Vec::new();
    write_snapshot(snapshot, &mut bytes)?;
    let frames = analyse(&bytes)?.threads().first().context("no thread")?.python_frames()?;
    Ok(frames.last().context("no frame")?.function.clone())
}

#[test]
fn repeated_captures_come_one_by_one_and_end_when_asked_to() {
    let scenario = Scenario::new("--count, one by one");
    scenario.on("a pipe", || {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("turn");
        let target = turning(&file)?;
        let mut command = repeated(&target, &["--count", "100000", "--interval", "0.02"]);
        let mut grab = Child::spawn(command.stdout(Stdio::piped()))?;
        let mut stream = StreamReader::new(BufReader::new(grab.take_stdout().context("no stdout")?));
        let mut next = || stream.next().context("the stream has ended")?.context("the stream");
        ensure!(innermost(&next()?)? == "before");
        fs::write(&file, "")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while innermost(&next()?)? != "after" {
            ensure!(Instant::now() < deadline, "it never turns");
        }
        grab.signal(Signal::SIGINT)?;
        let mut last = next()?;
        while let Ok(another) = next() {
            last = another;
        }
        let status = wait_until("pyst-grab", 60, || grab.ended())?;
        ensure!(status.code() == Some(3), "{status:?}");
        let mut bytes = Vec::new();
        write_snapshot(&last, &mut bytes)?;
        let (reports, said) = reports(&bytes, native())?;
        ensure!(reports[0].codes() == ["interrupted"], "{}", reports[0].json);
        ensure!(said.stderr.contains("SIGINT") && said.stderr.contains("kept"), "{}", said.stderr);
        Ok(())
    });
    scenario.on("a reader that is stuck", || {
        let folder = tempfile::tempdir()?;
        let target = turning(&folder.path().join("turn"))?;
        let mut command = repeated(&target, &["--count", "100000", "--interval", "0"]);
        let mut grab = Child::spawn(command.stdout(Stdio::piped()))?;
        let fills = || {
            let wchan = fs::read_to_string(format!("/proc/{}/wchan", grab.pid())).ok()?;
            wchan.contains("pipe_write").then_some(())
        };
        wait_until("pyst-grab to fill the pipe", 60, fills)?;
        // The first signal asks, and the second does not.
        grab.signal(Signal::SIGINT)?;
        std::thread::sleep(Duration::from_millis(200));
        ensure!(grab.ended().is_none(), "ended in the middle of a snapshot");
        grab.signal(Signal::SIGINT)?;
        let status = wait_until("pyst-grab", 60, || grab.ended())?;
        ensure!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(2), "{status:?}");
        Ok(())
    });
    scenario.on("the whole pipeline", || {
        let folder = tempfile::tempdir()?;
        let (target, text) = (turning(&folder.path().join("turn"))?, folder.path().join("text"));
        let [grab, unwind, py, fmt] = Tool::ALL.map(|tool| tool.path().display().to_string());
        let line = format!("{grab} --count 2 --interval 1000 {} | {unwind} | {py} | {fmt}", target.pid());
        let _shell = Child::spawn(Command::new("bash").args(["-c", &line]).stdout(fs::File::create(&text)?))?;
        // The second is not taken before this test has ended.
        let header = format!("Snapshot 1: process {} (", target.pid());
        wait_until("the first snapshot", 60, || {
            let text = fs::read_to_string(&text).ok()?;
            (text.contains(&header) && text.contains("in before")).then_some(())
        })
    });
    scenario.finish();
}

#[test]
fn repeated_captures_in_a_file_are_kept_whatever_ends_them() {
    let scenario = Scenario::new("--count, in a file");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.pyst");
    let name = file.display().to_string();
    let of_file = || -> Result<(Vec<Report>, Output)> { reports(&fs::read(&file)?, native()) };
    scenario.on("the end", || {
        let target = turning(&folder.path().join("turn"))?;
        let started = Instant::now();
        let arguments = ["--count", "3", "--interval", "0.3", "-o", &name];
        let output = run(&mut repeated(&target, &arguments))?.expect_status(0)?;
        ensure!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        ensure!(started.elapsed() >= Duration::from_millis(600), "the interval is shorter");
        let (reports, last) = of_file()?;
        ensure!(last.status == Some(0) && reports.len() == 3, "{} reports", reports.len());
        ensure!(reports.iter().all(|report| report.codes().is_empty() && pid_of(report) == target.pid()));
        let times: Vec<_> = reports.iter().map(|report| report.json["snapshot"]["captured_at"].to_string()).collect();
        ensure!(times.is_sorted() && times[0] < times[2], "{times:?}");
        Ok(())
    });
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        scenario.on(signal.as_str(), || {
            fs::remove_file(&file)?;
            let target = turning(&folder.path().join("turn"))?;
            let arguments = ["--count", "3", "--interval", "1000", "-o", &name];
            let mut grab = Child::spawn(repeated(&target, &arguments).stderr(Stdio::piped()))?;
            waits_for_the_next(&grab)?;
            ensure!(!file.exists(), "it is there before it is whole");
            grab.signal(signal)?;
            let status = wait_until("pyst-grab", 60, || grab.ended())?;
            ensure!(status.code() == Some(3), "{status:?}");
            let (reports, last) = of_file()?;
            ensure!(reports.len() == 2 && reports[0].codes().is_empty(), "{} reports", reports.len());
            ensure!(reports[1].codes() == ["interrupted"] && last.stderr.contains(signal.as_str()), "{}", last.stderr);
            Ok(())
        });
    }
    scenario.on("the target's end", || {
        fs::remove_file(&file)?;
        let target = turning(&folder.path().join("turn"))?;
        let pid = target.pid();
        let arguments = ["--count", "1000", "--interval", "0.2", "-o", &name];
        let mut grab = Child::spawn(repeated(&target, &arguments).stderr(Stdio::piped()))?;
        waits_for_the_next(&grab)?;
        drop(target);
        let status = wait_until("pyst-grab", 60, || grab.ended())?;
        ensure!(status.code() == Some(3), "{status:?}");
        let (reports, last) = of_file()?;
        let codes = reports.last().context("no report")?.codes();
        ensure!(reports.len() >= 2 && reports[0].codes().is_empty() && codes == ["process-exited"], "{codes:?}");
        let said = format!("process {pid} has exited: {} of 1000 captures", reports.len() - 1);
        ensure!(last.stderr.contains(&said) && last.stderr.lines().count() == 1, "`{said}` is not: {}", last.stderr);
        Ok(())
    });
    scenario.on("refused from the beginning", || {
        let gone = Child::spawn(&mut Command::new("true"))?.pid();
        let before = fs::read(&file)?;
        let output = grab(["--count", "5", "--interval", "1000", "-o", &name, &gone.to_string()])?;
        ensure!(output.status == Some(1) && output.stderr.lines().count() == 1, "{output:?}");
        ensure!(fs::read(&file)? == before, "the earlier file is not left alone");
        Ok(())
    });
    scenario.finish();
}

/// Waits until a capture has been made and pyst-grab waits for the time of the next.
fn waits_for_the_next(grab: &Child) -> Result<()> {
    let tasks = || fs::read_dir(format!("/proc/{}/task", grab.pid())).into_iter().flatten().flatten();
    wait_until("the first capture", 60, || {
        // The capture's own threads have come and gone; the main one sleeps with a time limit.
        let names: Vec<_> = tasks().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
        let call = fs::read_to_string(format!("/proc/{}/syscall", grab.pid())).ok()?;
        let waits = names.len() == 2 && names.iter().any(|name| name == "signals\n") && call.starts_with("202 ");
        waits.then_some(())?;
        std::thread::sleep(Duration::from_millis(50));
        let again = fs::read_to_string(format!("/proc/{}/syscall", grab.pid())).ok()?;
        (again == call).then_some(())
    })
}
