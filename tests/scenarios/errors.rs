//! What cannot be captured: one clear line, printed once by the whole pipeline, the exit status of the design, and whatever
//! could be had is still shown.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Child, Interpreter, Output, Pipeline, Report, Scenario, Target, Tool, copy_program, grab, has_program, is_root,
    representatives, run, wait_until,
};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a whole pipeline had to say.
struct Said {
    grab: Output,
    stages: Vec<Output>,
}

impl Said {
    /// Runs `pyst-unwind | pyst-py | pyst-fmt` on what `pyst-grab` gave, whatever that was.
    fn after(grab: Output, format: &[&str]) -> Result<Said> {
        let stages = Pipeline::from_snapshot_only(format).run(&grab.stdout)?;
        Ok(Said { grab, stages })
    }

    fn last(&self) -> &Output {
        &self.stages[self.stages.len() - 1]
    }

    /// The exit statuses of all four are `expected`, and only the last one says anything: one line, with all of `words`.
    fn once(&self, expected: i32, words: &[&str]) -> Result<()> {
        for output in [&self.grab].into_iter().chain(&self.stages) {
            ensure!(
                output.status == Some(expected),
                "exit status {:?} instead of {expected}: {}",
                output.status,
                output.stderr
            );
        }
        let lines: Vec<&str> =
            [&self.grab].into_iter().chain(&self.stages).flat_map(|output| output.stderr.lines()).collect();
        ensure!(lines.len() == 1, "not one line, but {}: {lines:#?}", lines.len());
        ensure!(self.last().stderr.lines().count() == 1, "said by another tool than the last: {lines:?}");
        let said = lines[0].to_lowercase();
        ensure!(words.iter().all(|word| said.contains(&word.to_lowercase())), "{words:?} not all in: {}", lines[0]);
        Ok(())
    }
}

#[test]
fn a_pid_that_does_not_exist() {
    let scenario = Scenario::new("error: no such process");
    scenario.on("all", || {
        let gone = Child::spawn(&mut Command::new("true"))?.pid();
        let said = Said::after(grab([gone.to_string()])?, &[])?;
        said.once(1, &[&gone.to_string(), "process"])?;
        ensure!(said.grab.took.as_secs() < 5, "took {:?}", said.grab.took);
        // Alone, with its output in a file, pyst-grab is the last tool and says it itself.
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("x.pyst");
        let alone = grab([gone.to_string().as_ref(), "-o".as_ref(), file.as_os_str()])?;
        ensure!(alone.status == Some(1) && alone.stderr.lines().count() == 1, "alone: {alone:?}");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_process_of_another_user() {
    let scenario = Scenario::new("error: another user's process");
    if !is_root() || !has_program("setpriv") {
        return scenario.skip("all", "becoming another user needs root and setpriv");
    }
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let folder = public_folder()?;
        let copy = folder.path().join("pyst-grab");
        copy_program(&Tool::Grab.path(), &copy)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(copy)
            .arg(target.pid().to_string());
        let said = Said::after(run(command.current_dir("/"))?, &[])?;
        said.once(1, &[&target.pid().to_string()])?;
        let line = said.last().stderr.to_lowercase();
        let why = ["user", "permission", "root", "ptrace"];
        ensure!(why.iter().any(|word| line.contains(word)), "says neither why nor what to do: {line}");
        target.wait_for_state('S')?;
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_process_that_is_traced_already_still_gives_its_python_frames() {
    let scenario = Scenario::new("error: already traced");
    if !has_program("strace") {
        return scenario.skip("all", "strace is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let pid = target.pid().to_string();
            let strace = target.strace()?;
            let said = Said::after(grab([&pid])?, &["--format", "json", "--all-threads"])?;
            said.once(3, &["trace"])?;
            ensure!(
                said.last().stderr.contains("strace") || said.last().stderr.contains(&strace.pid().to_string()),
                "which tracer? {}",
                said.last().stderr
            );
            Report::parse(&said.last().stdout)?.agrees_with(target.account()).context("Python frames")?;
            drop(strace);
            target.wait_for_state('S')?;
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_process_that_exits_during_capture_never_hangs_it() {
    let scenario = Scenario::new("error: exits during capture");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let script = Placed::new(interpreter, "short_lived.py")?;
            let started = Instant::now();
            run(&mut script.command())?.expect_status(0)?;
            let lifetime = started.elapsed();
            let mut statuses = [0; 4];
            for round in 0..30 {
                let child = Child::spawn(script.command().stdin(Stdio::null()))?;
                // From before its Python starts until after its end.
                thread::sleep(lifetime * round / 25);
                statuses[captured_in_time(&child)?] += 1;
            }
            scenario.figure(&interpreter.name, &format!("exit statuses 0, 1, 2, 3: {statuses:?}"));
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_process_that_is_killed_during_capture_never_hangs_it() {
    let scenario = Scenario::new("error: killed during capture");
    let interpreter = &representatives()[0];
    scenario.on(&interpreter.name, || {
        let mut statuses = [0; 4];
        let mut duration = Duration::ZERO;
        for round in 0..50 {
            let target = Target::start(interpreter, "fifty_threads.py", &[])?;
            let pid = target.pid();
            if round == 0 {
                duration = grab([pid.to_string()])?.took;
            }
            let killer = thread::spawn(move || {
                thread::sleep(duration * round / 40);
                let _ = target.signal(Signal::SIGKILL);
                target
            });
            let grab = grab([pid.to_string()]);
            drop(killer.join().expect("the killer lives"));
            statuses[in_time(grab?)?] += 1;
        }
        scenario.figure(&interpreter.name, &format!("exit statuses 0, 1, 2, 3: {statuses:?}"));
        Ok(())
    });
    scenario.finish();
}

fn captured_in_time(child: &Child) -> Result<usize> {
    in_time(grab([child.pid().to_string()])?)
}

/// The exit status of the pipeline, which took its time and its words sparingly.
fn in_time(grab: Output) -> Result<usize> {
    let said = Said::after(grab, &["--format", "json", "--all-threads"])?;
    ensure!(said.grab.took.as_secs() < 20, "took {:?}", said.grab.took);
    let status = said.last().status.context("a signal ended pyst-fmt")?;
    ensure!([0, 1, 3].contains(&status), "exit status {status}");
    let lines = said.last().stderr.lines().count();
    let stderr = &said.last().stderr;
    // Of what is lost three of a kind are told one by one: a stack, the frames on it, the code they ran.
    ensure!(status == 0 || (1..=12).contains(&lines), "exit status {status} and {lines} lines: {stderr}");
    ensure!(
        status == 0 || stderr.contains("exit") || stderr.contains("no process"),
        "does not say what happened: {stderr}"
    );
    Ok(usize::try_from(status)?)
}

/// A script where its interpreter can read it.
struct Placed<'a> {
    interpreter: &'a Interpreter,
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Placed<'_> {
    fn new<'a>(interpreter: &'a Interpreter, script: &str) -> Result<Placed<'a>> {
        let folder = tempfile::tempdir_in(interpreter.temporary())?;
        fs::copy(pyst_tests::targets_dir().join(script), folder.path().join(script))?;
        let path = interpreter.inside(folder.path()).join(script);
        Ok(Placed { interpreter, folder, path })
    }

    fn command(&self) -> Command {
        assert!(self.folder.path().exists());
        let mut command = self.interpreter.command();
        command.arg(&self.path).arg("3");
        command
    }
}

#[test]
fn a_process_that_is_no_python_gets_its_native_report() {
    let scenario = Scenario::new("no Python");
    scenario.on("sleep", || {
        let sleep = Child::spawn(Command::new("sleep").arg("600"))?;
        let pid = sleep.pid().to_string();
        wait_until("sleep to sleep", 10, || {
            let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
            wchan.contains("nanosleep").then_some(())
        })?;
        for format in [&["--format", "json"][..], &["--format", "json", "--all-threads"]] {
            let said = Said::after(grab([&pid])?, format)?;
            for output in [&said.grab].into_iter().chain(&said.stages) {
                ensure!(output.status == Some(0), "exit status {:?}: {}", output.status, output.stderr);
            }
            let report = Report::parse(&said.last().stdout)?;
            ensure!(report.json["python"].is_null(), "it is no Python: {}", report.json["python"]);
            let frames = report.thread(sleep.pid())?.native_frames();
            ensure!(frames.len() >= 3, "too few native frames: {frames:?}");
        }
        Said::after(grab(["--python-only", &pid])?, &[])?.once(1, &["no Python runtime", "without --python-only"])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("nothing.pyst");
        let output = grab(["--python-only".as_ref(), pid.as_ref(), "-o".as_ref(), file.as_os_str()])?;
        ensure!(output.status == Some(1) && output.stderr.lines().count() == 1, "with -o: {output:?}");
        ensure!(!file.exists(), "a file of nothing usable was left behind");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_file_that_is_no_core() {
    let scenario = Scenario::new("error: no core");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| -> PathBuf {
        fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name)
    };
    let mut not_for_us = b"\x7fELF\x02\x01\x01".to_vec();
    not_for_us.resize(4096, 0xff);
    let cases = [
        ("a text", file("text", b"this is no core file, whatever its name\n")),
        ("empty", file("empty", b"")),
        ("an executable", PathBuf::from("/bin/true")),
        ("a folder", folder.path().to_owned()),
        ("absent", folder.path().join("absent")),
        ("gzip", file("core.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")),
        ("zstd", file("core.zst", b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00")),
        ("an ELF header alone", file("header", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0")),
        ("an ELF header and rubbish", file("rubbish", &not_for_us)),
    ];
    for (what, path) in cases {
        scenario.on(what, || {
            let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
            Said::after(grab(["--core".as_ref(), path.as_os_str()])?, &[])?.once(1, &[&name])
        });
    }
    scenario.finish();
}

/// A folder that any user may enter.
fn public_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
