//! Target programs: started, waited for until they sleep, asked for their account, and ended.

use crate::children::{Child, wait_until};
use crate::interpreters::Interpreter;
use crate::targets_dir;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What the scripts import from beside them.
const MODULES: [&str; 3] = ["account.py", "telling.py", "silent_files.py"];

/// A target program that runs and has blocked where its test wants it.
#[derive(Debug)]
pub struct Target {
    pid: u32,
    // Ended before its folder is removed: fields drop in order.
    child: Child,
    folder: TempDir,
    account: Account,
}

/// What a target says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Its threads.
    pub threads: Vec<AccountThread>,
}

/// One thread, as the target knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct AccountThread {
    /// `threading.get_ident()`.
    pub ident: u64,
    /// `threading.get_native_id()`.
    pub tid: u32,
    /// `Thread.name`; empty where `threading` does not know the thread.
    pub name: String,
    /// `Thread.daemon`.
    #[serde(default)]
    pub daemon: Option<bool>,
    /// Outermost first.
    pub frames: Vec<crate::report::Frame>,
}

/// faulthandler's account: for each ident, the innermost hundred frames at most, innermost first: file, line, function.
pub type Dump = BTreeMap<u64, Vec<(String, u32, String)>>;

impl Target {
    /// Starts `script` (of `tests/targets`) and waits until it has given its account and sleeps.
    ///
    /// # Errors
    /// It does not get there.
    pub fn start(interpreter: &Interpreter, script: &str, arguments: &[&str]) -> Result<Target> {
        Target::start_as(interpreter, script, script, arguments)
    }

    /// The same with the script copied to a file of another name.
    ///
    /// # Errors
    /// It does not get there.
    pub fn start_as(interpreter: &Interpreter, script: &str, name: &str, arguments: &[&str]) -> Result<Target> {
        let target = Target::launch(interpreter, script, name, arguments, &[])?;
        target.wait_until_asleep()?;
        Ok(target)
    }

    /// Starts a script that does not sleep, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not get there.
    pub fn start_awake(interpreter: &Interpreter, script: &str, arguments: &[&str]) -> Result<Target> {
        Target::launch(interpreter, script, script, arguments, &[])
    }

    /// Starts a script through commands that take the interpreter's command line as their last arguments, each of which has
    /// the next one as its child, like `unshare --fork`.
    ///
    /// # Errors
    /// It does not get there.
    pub fn start_through(prefix: &[&str], interpreter: &Interpreter, script: &str) -> Result<Target> {
        let mut target = Target::launch(interpreter, script, script, &[], prefix)?;
        let forks = prefix.iter().filter(|word| **word == "--fork").count();
        for _ in 0..forks.max(1) {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", target.pid))?;
            target.pid = children.trim().parse().with_context(|| format!("not one child: {children}"))?;
        }
        target.wait_until_asleep()?;
        Ok(target)
    }

    fn launch(
        interpreter: &Interpreter,
        script: &str,
        name: &str,
        arguments: &[&str],
        prefix: &[&str],
    ) -> Result<Target> {
        let folder = tempfile::Builder::new().prefix("pyst-target-").tempdir_in(interpreter.temporary())?;
        let modules = MODULES.map(|module| (module, module));
        for (from, to) in modules.into_iter().chain([(script, name)]) {
            fs::copy(targets_dir().join(from), folder.path().join(to)).with_context(|| format!("copying {from}"))?;
        }
        let inside = interpreter.inside(folder.path());
        let mut command = interpreter.command_through(prefix);
        command.arg("-u").arg(inside.join(name)).args(arguments).env("PYST_TARGET_DIR", &inside);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("stderr.txt"))?);
        let mut child = Child::spawn(&mut command)?;
        let path = folder.path().join("account.json");
        let ready = wait_until("the target's account", 60, || {
            if path.exists() { Some(true) } else { child.ended().map(|_| false) }
        })?;
        let complaint = || fs::read_to_string(folder.path().join("stderr.txt")).unwrap_or_default();
        ensure!(ready, "the target {script} ended: {}", complaint());
        let account = serde_json::from_slice(&fs::read(&path)?).context("the target's account")?;
        Ok(Target { pid: child.pid(), child, folder, account })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it runs in a root of its own.
    ///
    /// # Errors
    /// It is gone.
    pub fn has_own_root(&self) -> Result<bool> {
        Ok(fs::read_link(format!("/proc/{}/root", self.pid))? != Path::new("/"))
    }

    /// What it said of itself.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The folder that holds its script and whatever it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(self.pid)?), signal)?)
    }

    /// Attaches strace to all its threads.
    ///
    /// # Errors
    /// It does not get there.
    pub fn strace(&self) -> Result<Child> {
        let pid = self.pid.to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &pid, "-o", "/dev/null"]).stdin(Stdio::null()).stderr(Stdio::null());
        let strace = Child::spawn(&mut strace)?;
        wait_until("strace to attach", 20, || {
            let tracer = format!("TracerPid:\t{}\n", strace.pid());
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
            let mut statuses = tasks.map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default());
            statuses.all(|status| status.contains(&tracer)).then_some(())
        })?;
        Ok(strace)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// The state letter of `/proc/PID/stat`.
    ///
    /// # Errors
    /// It is gone.
    pub fn state(&self) -> Result<char> {
        state_of(&PathBuf::from(format!("/proc/{}", self.pid())))
    }

    /// Waits until its state is `state`: let go by a tracer, a sleeper runs for a moment before it sleeps again, on a busy
    /// machine for a long one.
    ///
    /// # Errors
    /// It does not get there.
    pub fn wait_for_state(&self, state: char) -> Result<()> {
        let there = wait_until("the target's state", 20, || match self.state() {
            Ok(now) if now != state => None,
            other => Some(other),
        });
        there?.map(drop)
    }

    /// Makes faulthandler write its account, and reads it.
    ///
    /// # Errors
    /// It does not.
    pub fn faulthandler(&self) -> Result<Dump> {
        let path = self.folder.path().join("faulthandler.txt");
        self.signal(Signal::SIGUSR1)?;
        let mut before = String::new();
        let text = wait_until("faulthandler", 20, || {
            std::thread::sleep(Duration::from_millis(50));
            let now = fs::read_to_string(&path).unwrap_or_default();
            if now.ends_with('\n') && now == before {
                return Some(now);
            }
            before = now;
            None
        })?;
        parse_dump(&text)
    }

    /// Waits until all its threads sleep and stay where they are.
    fn wait_until_asleep(&self) -> Result<()> {
        let mut before = Vec::new();
        wait_until("the target to sleep", 30, || {
            let now = switches(self.pid()).ok()?;
            if !now.is_empty() && now == before {
                return Some(());
            }
            before = now;
            std::thread::sleep(Duration::from_millis(30));
            None
        })
    }
}

/// For each thread, if all of them sleep: how often it was switched out.
fn switches(pid: u32) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?.path();
        ensure!(state_of(&task)? == 'S', "awake");
        all.push(fs::read_to_string(task.join("schedstat"))?);
    }
    Ok(all)
}

fn state_of(task: &Path) -> Result<char> {
    let stat = fs::read(task.join("stat"))?;
    // `comm` may hold anything, parentheses and spaces too; the state follows the last parenthesis.
    let end = stat.iter().rposition(|byte| *byte == b')').context("malformed stat")?;
    Ok(stat.get(end + 2).copied().context("malformed stat")?.into())
}

/// `Thread 0x00007f… (most recent call first):` (or `Current thread`, or since 3.13 with a name), then `  File "F", line N in FUNC`.
fn parse_dump(text: &str) -> Result<Dump> {
    let mut dump = Dump::new();
    let mut ident = 0;
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("hread 0x") {
            let digits = rest.split(' ').next().unwrap_or_default();
            ident = u64::from_str_radix(digits, 16).with_context(|| format!("faulthandler: {line}"))?;
            dump.entry(ident).or_default();
        } else if let Some(rest) = line.strip_prefix("  File \"") {
            let (file, rest) = rest.rsplit_once("\", line ").with_context(|| format!("faulthandler: {line}"))?;
            let (number, function) = rest.split_once(" in ").with_context(|| format!("faulthandler: {line}"))?;
            dump.entry(ident).or_default().push((file.to_owned(), number.parse()?, function.to_owned()));
        }
    }
    Ok(dump)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_reads_as_faulthandler_writes_it() {
        let text = "Thread 0x00007f01 (most recent call first):\n  File \"/t/a.py\", line 3 in f\n  File \"/t/a.py\", line 9 in <module>\n\n\
                    Current thread 0x00007f02 (most recent call first):\n  File \"/t/b.py\", line 1 in g\n";
        let dump = parse_dump(text).unwrap();
        assert_eq!(dump[&0x7f01].len(), 2);
        assert_eq!(dump[&0x7f02], [("/t/b.py".to_owned(), 1, "g".to_owned())]);
    }
}
