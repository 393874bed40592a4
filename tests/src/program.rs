//! Small native programs: built from `tests/targets/native` by the machine's compilers, started, and waited for until they sleep.

use crate::children::{Child, run, wait_until};
use crate::targets_dir;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Builds `source` (of `tests/targets/native`) into `folder` with this compiler, and says where the program is.
///
/// # Errors
/// The compiler is not there, or does not like it.
pub fn build(compiler: &str, source: &str, options: &[&str], folder: &Path) -> Result<PathBuf> {
    let name = source.split('.').next().unwrap_or(source);
    let program = folder.join(name);
    let mut command = Command::new(compiler);
    command.arg(targets_dir().join("native").join(source)).arg("-o").arg(&program).args(options).current_dir(folder);
    run(&mut command)?.expect_status(0).with_context(|| format!("building {source} with {options:?}"))?;
    Ok(program)
}

/// A program that has said `ready` and sleeps.
#[derive(Debug)]
pub struct Program {
    /// What it said before: one line each.
    pub said: Vec<String>,
    // Ended before its folder is removed: fields drop in order.
    child: Child,
    folder: TempDir,
}

impl Program {
    /// Runs `command`, which works in `folder`, until it says `ready`. `Ok(None)` when it ended before.
    ///
    /// # Errors
    /// It cannot be started, or never gets there.
    pub fn start(command: &mut Command, folder: TempDir) -> Result<Option<Program>> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir(folder.path());
        let mut child = Child::spawn(command)?;
        let stdout = child.take_stdout().context("no stdout")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut said = Vec::new();
        loop {
            match receiver.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line == "ready" => break,
                Ok(line) => said.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
                Err(error) => return Err(error).context("the program did not get ready"),
            }
        }
        let program = Program { said, child, folder };
        wait_until("the program to sleep", 30, || (program.state().ok()? == 'S').then_some(()))?;
        Ok(Some(program))
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The folder it works in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the program's functions wrote of themselves: where each returns to, outermost first.
    ///
    /// # Errors
    /// It is not what they write.
    pub fn return_addresses(&self) -> Result<Vec<u64>> {
        let lines = self.said.iter().filter_map(|line| line.strip_prefix("entered 0x"));
        lines.map(|line| Ok(u64::from_str_radix(line.split(' ').next().unwrap_or_default(), 16)?)).collect()
    }

    /// Ends it by `signal` and finds the core that the kernel wrote.
    ///
    /// # Errors
    /// There is none.
    pub fn kernel_core(&mut self, signal: Signal) -> Result<PathBuf> {
        let names = [format!("core.{}", self.pid()), "core".to_owned()];
        self.end(signal)?;
        let written = names.iter().map(|name| self.folder.path().join(name)).find(|path| path.exists());
        written.context("the kernel wrote no core")
    }

    /// Ends the emulator that it is by `signal` and finds the core of the emulated program.
    ///
    /// # Errors
    /// There is none.
    pub fn qemu_core(&mut self, signal: Signal) -> Result<PathBuf> {
        self.end(signal)?;
        let paths = std::fs::read_dir(self.folder.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut cores = paths.filter(|path| path.extension().is_some_and(|end| end == "core"));
        cores.next().context("QEMU wrote no core")
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid().to_string();
        run(Command::new("prlimit").args(["--core=unlimited:unlimited", "--pid", &pid]))?.expect_status(0)?;
        self.child.signal(signal)?;
        let child = &mut self.child;
        wait_until("the program to die", 60, || child.ended()).map(drop)
    }

    fn state(&self) -> Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        ensure!(state.is_some(), "malformed stat");
        // A parent in vfork waits in state D, and a main thread that has exited before the others is in state Z.
        Ok(state.map(|state| if matches!(state, 'D' | 'Z') { 'S' } else { state }).unwrap_or_default())
    }
}
