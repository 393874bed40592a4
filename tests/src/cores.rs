//! Core files of targets: gdb's on demand, and the kernel's when a signal ends them.

use crate::children::{run, wait_until};
use crate::target::Target;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Takes a core of a target that lives on.
///
/// # Errors
/// gdb fails.
pub fn gcore(target: &Target) -> Result<PathBuf> {
    Ok(gcore_and_whether_whole(target)?.0)
}

/// Takes a core of a target that lives on, and says whether gdb could read all of the memory. gdb 13 gives up at the first page that
/// it cannot read and leaves the rest of the mapping zero, and glibc 2.42 has such a page, its guard, in the mapping of each stack.
///
/// # Errors
/// gdb fails.
pub fn gcore_and_whether_whole(target: &Target) -> Result<(PathBuf, bool)> {
    const VSYSCALL: &str = "at 0xffffffffff600000";
    let prefix = target.folder().join("gcore");
    let output = run(Command::new("gcore").arg("-o").arg(&prefix).arg(target.pid().to_string()))?.expect_status(0)?;
    let core = target.folder().join(format!("gcore.{}", target.pid()));
    ensure!(core.exists(), "gcore wrote no {}", core.display());
    let said = output.text() + &output.stderr;
    let is_gap = |line: &str| line.contains("Memory read failed") && !line.contains(VSYSCALL);
    Ok((core, !said.lines().any(is_gap)))
}

/// Whether the kernel writes cores into the working directory of who dies, and if not, why not. Nothing here changes that.
///
/// # Errors
/// It does not; the error says what it does.
pub fn kernel_cores_are_files() -> Result<(), String> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let pattern = pattern.trim();
    if pattern.starts_with("core") && !pattern.contains('/') {
        Ok(())
    } else {
        Err(format!("kernel.core_pattern is `{pattern}`, no relative `core` name"))
    }
}

/// Ends the target by `signal` and finds the core that the kernel wrote.
///
/// # Errors
/// There is none.
pub fn kernel_core(target: &mut Target, signal: Signal) -> Result<PathBuf> {
    let pid = target.pid().to_string();
    run(Command::new("prlimit").args(["--core=unlimited:unlimited", "--pid", &pid]))?.expect_status(0)?;
    let cwd = fs::read_link(format!("/proc/{pid}/cwd"))?;
    target.signal(signal)?;
    wait_until("the target to die", 60, || target.has_ended().then_some(()))?;
    let names = [format!("core.{pid}"), "core".to_owned()];
    let written = names.iter().map(|name| cwd.join(name)).find(|path| path.exists());
    let written = written.with_context(|| format!("no core in {}", cwd.display()))?;
    // Out of the way of the next target with the same working directory.
    let core = target.folder().join("kernel.core");
    fs::rename(&written, &core)?;
    Ok(core)
}
