//! Child processes that never outlive the test, and never hang it.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A child that is killed and reaped when it goes out of scope.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
}

impl Child {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Child> {
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Child { child })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, if that is a pipe nobody took yet.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid())?);
        Ok(nix::sys::signal::kill(pid, signal)?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A bundle's interpreter, and what `unshare --fork` starts, would live on.
        for pid in descendants(self.pid()) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process, theirs, and so on.
fn descendants(pid: u32) -> Vec<nix::unistd::Pid> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for task in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            parents.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        found.extend(i32::try_from(parent).ok().filter(|_| parent != pid).map(nix::unistd::Pid::from_raw));
    }
    found
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// The standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The output, if the exit status is `expected`.
    ///
    /// # Errors
    /// It is another one.
    pub fn expect_status(self, expected: i32) -> Result<Output> {
        if self.status != Some(expected) {
            bail!("exit status {:?} instead of {expected}; stderr: {}", self.status, self.stderr.trim());
        }
        Ok(self)
    }
}

/// No command of the tests may take longer: a tool that hangs is a failure, and must not hang the tests.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `command` without input.
///
/// # Errors
/// It cannot be run, or takes too long.
pub fn run(command: &mut Command) -> Result<Output> {
    run_with_input(command, &[])
}

/// Runs `command` with `input` on its standard input.
///
/// # Errors
/// It cannot be run, or takes too long.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let started = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Child::spawn(command)?;
    let mut stdin = child.child.stdin.take().context("no stdin")?;
    let mut stdout = child.child.stdout.take().context("no stdout")?;
    let mut stderr = child.child.stderr.take().context("no stderr")?;
    let input = input.to_vec();
    thread::spawn(move || {
        // A command that ends without reading all of it is the command's business.
        let _ = stdin.write_all(&input);
    });
    let out = thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let err = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let deadline = started + LIMIT;
    let status = loop {
        if let Some(status) = child.ended() {
            break status;
        }
        if Instant::now() > deadline {
            bail!("{command:?} hangs: still running after {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Output {
        status: status.code(),
        stdout: out.join().unwrap()?,
        stderr: String::from_utf8_lossy(&err.join().unwrap()?).into_owned(),
        took: started.elapsed(),
    })
}

/// Waits until `condition` gives something, for `seconds` at most.
///
/// # Errors
/// It did not; `what` names what was waited for.
pub fn wait_until<T>(what: &str, seconds: u64, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {seconds} s in vain for {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_takes_its_own_children_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command).unwrap();
        let mut line = [0; 32];
        let read = child.take_stdout().unwrap().read(&mut line).unwrap();
        let pid = String::from_utf8_lossy(&line[..read]).trim().to_owned();
        let lives = || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep");
        while !lives() {
            thread::sleep(Duration::from_millis(1));
        }
        drop(child);
        for _ in 0..1000 {
            if !lives() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("process {pid} lives on");
    }
}
