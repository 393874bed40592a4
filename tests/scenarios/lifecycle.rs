//! Interpreters that are starting or shutting down, and targets that were stopped before.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Child, Interpreter, Output, Pipeline, Report, Scenario, Target, copy_program, grab, interpreters, report_of,
    representatives, wait_until,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

const NO_RUNTIME: &str = "before 3.7 nothing in the process says so";

#[test]
fn an_interpreter_that_is_starting_is_said_to_be_one() {
    let scenario = Scenario::new("matrix: interpreter starting");
    for interpreter in interpreters() {
        if interpreter.version < (3, 7) {
            scenario.has_none(&interpreter.name, NO_RUNTIME);
            continue;
        }
        scenario.on(&format!("{}, live", interpreter.name), || {
            let (child, _folder) = starting(interpreter)?;
            check_phase(child.pid(), "interpreter-starting", "starting")
        });
    }
    scenario.finish();
}

/// An interpreter that waits for the other end of a FIFO: the pyvenv.cfg beside the executable, which it reads
/// before its runtime is initialized.
fn starting(interpreter: &Interpreter) -> Result<(Child, tempfile::TempDir)> {
    let folder = tempfile::Builder::new().prefix("pyst-venv-").tempdir_in(interpreter.temporary())?;
    nix::unistd::mkfifo(&folder.path().join("pyvenv.cfg"), nix::sys::stat::Mode::S_IRWXU)?;
    let python = folder.path().join("python");
    if interpreter.version < (3, 11) {
        // These look beside the file that the link leads to.
        copy_program(&interpreter.host_exe(), &python)?;
    } else {
        symlink(&interpreter.exe, &python)?;
    }
    let linked = Interpreter { exe: interpreter.inside(folder.path()).join("python"), ..interpreter.clone() };
    let child = Child::spawn(linked.command().args(["-c", "pass"]).stdin(Stdio::null()))?;
    wait_until("the interpreter to open its FIFO", 20, || {
        let wchan = fs::read_to_string(format!("/proc/{}/wchan", child.pid())).ok()?;
        (wchan == "wait_for_partner").then_some(())
    })?;
    Ok((child, folder))
}

#[test]
fn an_interpreter_that_is_finalizing_is_said_to_be_one() {
    let scenario = Scenario::new("matrix: interpreter finalizing");
    for interpreter in interpreters() {
        if interpreter.version < (3, 7) {
            scenario.has_none(&interpreter.name, NO_RUNTIME);
            continue;
        }
        scenario.on(&format!("{}, live", interpreter.name), || {
            let target = Target::start(interpreter, "finalizing.py", &["finalizing"])?;
            check_phase(target.pid(), "interpreter-finalizing", "shutting down")
        });
    }
    scenario.finish();
}

/// The report says so, in JSON and in one line of words with the hint, and has the native side all the same.
fn check_phase(pid: u32, code: &str, words: &str) -> Result<()> {
    let snapshot = grab([pid.to_string()])?;
    ensure!(snapshot.status == Some(0), "pyst-grab: {:?} {}", snapshot.status, snapshot.stderr);
    let of = |format: &[&str]| -> Result<Output> {
        let outputs = Pipeline::from_snapshot_only(format).run(&snapshot.stdout)?;
        let quiet = outputs.iter().rev().skip(1).all(|output| output.stderr.is_empty());
        ensure!(quiet, "a stage in the middle speaks: {outputs:?}");
        outputs.into_iter().next_back().context("no output")?.expect_status(0)
    };
    let json = of(&["--format", "json", "--all-threads"])?;
    let report = Report::parse(&json.stdout)?;
    ensure!(report.codes().iter().any(|one| one == code), "no {code} in {:?}", report.codes());
    ensure!(report.thread(pid)?.native_frames().len() > 3, "no native frames");
    let text = of(&[])?;
    let said = text.stderr.clone() + &text.text();
    ensure!(said.contains(words) || said.contains("finaliz"), "not in words: {said}");
    ensure!(said.contains("--all-threads"), "no hint: {said}");
    Ok(())
}

#[test]
fn a_target_that_was_stopped_stays_stopped_and_one_that_slept_sleeps() {
    let scenario = Scenario::new("state after capture");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            for _ in 0..5 {
                report_of([target.pid().to_string()])?.agrees_with(target.account())?;
                target.wait_for_state('S')?;
            }
            target.signal(Signal::SIGSTOP)?;
            wait_until("the target to stop", 10, || (target.state().ok()? == 'T').then_some(()))?;
            for _ in 0..5 {
                report_of([target.pid().to_string()])?.agrees_with(target.account()).context("stopped")?;
                target.wait_for_state('T')?;
            }
            target.signal(Signal::SIGCONT)?;
            wait_until("the target to sleep again", 10, || (target.state().ok()? == 'S').then_some(()))?;
            let traced = fs::read_to_string(format!("/proc/{}/status", target.pid()))?;
            ensure!(traced.contains("TracerPid:\t0\n"), "still traced");
            Ok(())
        });
    }
    scenario.finish();
}
