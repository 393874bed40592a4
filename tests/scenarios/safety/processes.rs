//! Processes whose threads come and go, that become other programs, wait for vforked children, have lost their main thread, or
//! have more mappings than a process should: captures end soon, say what is missing, and the process goes on with what it did.

use super::{lacks, untraced};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Child, Output, Pipeline, Program, Report, Scenario, Target, Tool, build, representatives, run, tool, wait_until,
};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A process of an unusual kind, which counts what it does.
pub(super) struct Odd(Program);

impl Odd {
    pub(super) fn start(kind: &[&str]) -> Result<Odd> {
        let folder = tempfile::tempdir()?;
        let program = build("gcc", "odd.c", &["-O0", "-g", "-pthread"], folder.path())?;
        Ok(Odd(Program::start(Command::new(program).args(kind), folder)?.context("the program ended at once")?))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn count(&self) -> Result<u64> {
        let bytes = fs::read(self.0.folder().join("count"))?;
        Ok(u64::from_le_bytes(*bytes.first_chunk().context("no count")?))
    }

    /// It goes on.
    pub(super) fn is_unharmed(&self) -> Result<()> {
        untraced(self.pid())?;
        let before = self.count()?;
        wait_until("the program to go on", 20, || (self.count().ok()? > before + 3).then_some(()))
    }

    /// A capture, which may be partial but must end, and the program goes on.
    fn captured(&self, arguments: &[&str]) -> Result<Output> {
        let pid = self.pid().to_string();
        let output = run(tool(Tool::Grab).args(arguments).arg(&pid))?;
        ensure!(output.took < Duration::from_secs(20), "took {:?}", output.took);
        self.is_unharmed()?;
        Ok(output)
    }
}

fn report(snapshot: &Output) -> Result<Report> {
    let outputs = Pipeline::with_local_files(&["--format", "json", "--all-threads"]).run(&snapshot.stdout)?;
    Report::parse(&outputs.last().context("no stage")?.stdout)
}

fn functions(report: &Report, tid: u32) -> Result<Vec<String>> {
    let frames = report.thread(tid)?.native_frames();
    Ok(frames.iter().filter_map(|frame| Some(frame["function"].as_str()?.to_owned())).collect())
}

#[test]
fn processes_that_do_not_hold_still_go_on() {
    let scenario = Scenario::new("nothing lost: restless processes");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    // What cannot be had of them, as of a thread in vfork, is said.
    for (kind, statuses) in [("storm", &[0][..]), ("exec", &[0, 1]), ("exec-by-thread", &[0, 1]), ("vfork", &[0, 3])] {
        scenario.on(kind, || {
            let odd = Odd::start(&[kind])?;
            let mut of_status = [0; 4];
            for round in 0..20 {
                let limit = if round % 2 == 0 { "--stop-limit=100" } else { "--stop-limit=5" };
                let output = odd.captured(&[limit])?;
                let status = usize::try_from(output.status.context("a signal")?)?;
                let partial = limit.ends_with("=5") && status == 3;
                ensure!(partial || statuses.contains(&status), "exit status {status}: {}", output.said()?);
                of_status[status] += 1;
            }
            scenario.figure(kind, &format!("exit statuses 0, 1, 2, 3: {of_status:?}"));
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_process_whose_main_thread_has_exited_shows_the_others() {
    let scenario = Scenario::new("nothing lost: no main thread");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("all", || {
        let odd = Odd::start(&["leaderless"])?;
        wait_until("the main thread to end", 20, || {
            fs::read_to_string(format!("/proc/{}/stat", odd.pid())).ok()?.contains(") Z ").then_some(())
        })?;
        let report = report(&odd.captured(&[])?.expect_status(0)?)?;
        let mut sleepers = 0;
        for entry in fs::read_dir(format!("/proc/{}/task", odd.pid()))?.flatten() {
            let tid: u32 = entry.file_name().to_string_lossy().parse()?;
            if tid != odd.pid() {
                let functions = functions(&report, tid)?;
                ensure!(functions.iter().any(|function| function == "sleeper"), "{tid}: {functions:?}");
                sleepers += 1;
            }
        }
        ensure!(sleepers == 3, "{sleepers} threads");
        ensure!(report.codes().iter().any(|code| code == "thread-exited"), "{:?}", report.codes());
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_page_that_nobody_may_touch_costs_its_own_thread_only() {
    let scenario = Scenario::new("nothing lost: PROT_NONE in a stack");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("all", || {
        let odd = Odd::start(&["protected"])?;
        let output = odd.captured(&[])?;
        ensure!(matches!(output.status, Some(0 | 3)), "{:?}: {}", output.status, output.said()?);
        let report = report(&output)?;
        let mut seen = (false, false);
        for entry in fs::read_dir(format!("/proc/{}/task", odd.pid()))?.flatten() {
            let tid: u32 = entry.file_name().to_string_lossy().parse()?;
            let (functions, end) = (functions(&report, tid)?, report.thread(tid)?.json["stack_end"].clone());
            if functions.iter().any(|function| function == "protect") {
                ensure!(end != "complete", "nobody can read the frames of {functions:?}");
                seen.0 = true;
            } else {
                ensure!(end == "complete", "{functions:?} end with {end}");
                seen.1 |= functions.iter().any(|function| function == "sleeper");
            }
        }
        ensure!(seen == (true, true), "both threads are there: {seen:?}");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn many_mappings_are_no_obstacle() {
    let scenario = Scenario::new("nothing lost: tens of thousands of mappings");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    let limit =
        fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|limit| limit.trim().parse::<u32>().ok());
    let many = limit.unwrap_or(65_530).min(65_530) - 200;
    scenario.on("all", || {
        let few = Odd::start(&["maps", "200"])?.captured(&[])?.expect_status(0)?.took;
        let odd = Odd::start(&["maps", &many.to_string()])?;
        let output = odd.captured(&[])?.expect_status(0)?;
        // What is not asked for is not in the snapshot.
        ensure!(output.stdout.len() < 256 << 10, "{} bytes", output.stdout.len());
        ensure!(functions(&report(&output)?, odd.pid())?.iter().any(|function| function == "main"), "no frames");
        scenario.figure("all", &format!("{many} mappings: {:?}, 200: {few:?}", output.took));
        odd.captured(&["--exhaustive"])?.expect_status(0).map(drop)
    });
    scenario.finish();
}

/// It becomes another program between the look and the stop: strace holds pyst-grab back for that long.
#[test]
fn a_process_that_becomes_another_program_is_not_shown_as_what_it_was() {
    let scenario = Scenario::new("nothing wrong: exec before the stop");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    for interpreter in representatives() {
        if !interpreter.outside(Path::new("/bin/sleep")).exists() {
            scenario.skip(&interpreter.name, "its root has no other program to become");
            continue;
        }
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "replaced.py", &[])?;
            let folder = tempfile::tempdir()?;
            let snapshot = folder.path().join("x.pyst");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=ptrace:delay_enter=2000000:when=1"]);
            let mut grab =
                Child::spawn(strace.arg(Tool::Grab.path()).arg(target.pid().to_string()).arg("-o").arg(&snapshot))?;
            // The thread that stops the target has begun when it has a name.
            wait_until("the tracer", 60, || {
                let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", grab.pid())).ok()?;
                let tasks = fs::read_dir(format!("/proc/{}/task", children.trim())).ok()?.flatten();
                let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
                names.any(|name| name.trim() == "tracer").then_some(())
            })?;
            target.signal(Signal::SIGUSR2)?;
            let status = wait_until("pyst-grab", 60, || grab.ended())?;
            ensure!(status.code() == Some(0), "{status:?}");
            let bytes = fs::read(&snapshot)?;
            let report = pyst_tests::analyse(&bytes)?;
            ensure!(report.json["python"].is_null(), "sleep is no Python: {}", report.json["python"]);
            let exe = report.json["process"]["exe"].as_str().unwrap_or_default().to_owned();
            ensure!(exe.ends_with("sleep"), "it was {exe}");
            let functions = functions(&report, target.pid())?;
            ensure!(functions.iter().any(|function| function.contains("nanosleep")), "{functions:?}");
            untraced(target.pid())
        });
    }
    scenario.finish();
}
