//! Processes that are captured, and whether they are well.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process; it is ended when this goes out of scope.
pub(super) struct Target {
    child: Child,
    folder: PathBuf,
}

impl Target {
    /// Starts `command` in `folder`, and waits until it has made the file `ready` there.
    pub(super) fn start(command: &mut Command, folder: &Path, ready: &str) -> Result<Target> {
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let mut target = Target { child, folder: folder.to_owned() };
        let path = target.folder.join(ready);
        until("the target to be ready", || {
            ensure!(target.child.try_wait()?.is_none(), "the target ended at once");
            Ok(fs::metadata(&path).is_ok_and(|file| file.len() > 0).then_some(()))
        })?;
        Ok(target)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What lies in a file that it writes.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.folder.join(name)).with_context(|| format!("the target's {name}"))
    }

    /// Makes a file that it looks for.
    pub(super) fn tell(&self, name: &str) -> Result<()> {
        Ok(fs::write(self.folder.join(name), "x")?)
    }

    /// Waits until nobody traces a thread of it, and none is stopped: for a moment after a tracer has gone that may be.
    pub(super) fn is_free(&mut self) -> Result<()> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        until("the target to be free of tracers and stops", || {
            ensure!(self.child.try_wait()?.is_none(), "the target has ended");
            let mut free = true;
            for task in fs::read_dir(&tasks)?.flatten() {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let held = ["State:\tt", "State:\tT"].iter().any(|state| status.contains(state));
                free &= !held && (status.is_empty() || status.contains("TracerPid:\t0\n"));
            }
            Ok(free.then_some(()))
        })
    }

    /// How often it checked itself, and how often something was wrong.
    pub(super) fn health(&self) -> Result<(u64, u64)> {
        let bytes = self.file("health")?;
        let numbers: Vec<u64> = bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        match numbers.as_slice() {
            [checked, wrong] => Ok((*checked, *wrong)),
            _ => bail!("half of the target's health"),
        }
    }

    /// Waits until all its threads have checked something again.
    pub(super) fn goes_on(&self) -> Result<()> {
        let (before, _) = self.health()?;
        until("all threads of the target to go on", || Ok((self.health()?.0 > before).then_some(())))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something, for a time in which any target goes on that can.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
