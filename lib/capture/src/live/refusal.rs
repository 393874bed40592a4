//! Why the kernel refused, told apart by looking: each reason needs another remedy. Here is what is looked at; what follows
//! from it is in [`decision`].

mod credentials;
mod decision;

use super::procfs::Proc;
use crate::error::CaptureError;
use crate::sys;
use credentials::Credentials;
use decision::{Facts, Label, decide};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::fs::MetadataExt;

/// Parents that are asked at most for whether a process descends from this one.
const MAX_ANCESTORS: usize = 64;

/// The error for a refusal to read or trace process `pid`.
pub(crate) fn of(pid: u32, error: &io::Error) -> CaptureError {
    let proc = Proc::of(pid);
    let (Some(stat), Some(target)) = (proc.stat(), Credentials::of(&proc)) else {
        return CaptureError::Exited { pid };
    };
    if stat.is_zombie() && proc.tids().is_ok_and(|tids| tids.len() <= 1) {
        return CaptureError::Zombie { pid, parent: stat.ppid };
    }
    if error.raw_os_error() == Some(libc::ESRCH) || error.kind() == ErrorKind::NotFound {
        return CaptureError::Exited { pid };
    }
    let refusal = Credentials::of(&Proc::own()).map_or(CaptureError::NotPermitted { pid }, |own| {
        let facts = Facts {
            pid,
            own,
            target,
            is_owned_by_root: is_owned_by_root(&proc),
            is_readable: fs::read_link(proc.path("ns/user")).is_ok(),
            is_descendant: is_descendant(stat.ppid),
            traces: probe_ptrace(),
            reads: probe_read(nix::unistd::getpid()),
            yama: number("/proc/sys/kernel/yama/ptrace_scope"),
            own_label: label(&Proc::own()),
            target_label: label(&proc),
            selinux_denies_ptrace: text("/sys/fs/selinux/booleans/deny_ptrace").is_some_and(|now| now.starts_with('1')),
        };
        decide(&facts)
    });
    // The kernel refuses to trace what is on its way out in the words it has for what is forbidden, and shows it as one that
    // is not dumpable. The leader of a process that is killed may be gone before its other threads.
    match refusal {
        CaptureError::OtherUser { .. } | CaptureError::ChangedUser { .. } => refusal,
        _ if stat.is_exiting() => CaptureError::Exited { pid },
        _ => refusal,
    }
}

/// The error for a process that `/proc` does not show. Mounted with `hidepid`, it hides those of others; signal 0, which is
/// none, still finds them.
pub(crate) fn of_invisible(pid: u32) -> CaptureError {
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    let found = number.map(|number| nix::sys::signal::kill(Pid::from_raw(number), None));
    let (Some(Ok(()) | Err(Errno::EPERM)), Some(option)) = (found, hidden_by()) else {
        return CaptureError::NoSuchProcess { pid };
    };
    let own = Credentials::of(&Proc::own()).unwrap_or_default();
    // Root may send signals to all.
    let whose = match found {
        Some(Ok(())) if own.uids[1] != 0 => "this user's, but not dumpable or more privileged",
        _ => "another user's",
    };
    CaptureError::Hidden { pid, whose, option, remedy: own.way_to_power() }
}

/// Checks that the numbers in `/proc` are those that the system calls of this process take. In a pid namespace that has still
/// the `/proc` of another one, the same number is two processes: one would be looked at, and the other stopped.
pub(crate) fn check_proc() -> Result<(), CaptureError> {
    let Some(status) = Proc::own().status() else {
        let is_mounted = fs::symlink_metadata("/proc/self").is_ok();
        return Err(if is_mounted { CaptureError::ForeignProc } else { CaptureError::NoProc });
    };
    // The ids from the namespace of this /proc inwards: more than one, and this process is in an inner one.
    let is_inner = status.namespace_pids.len() > 1;
    if is_inner || status.tgid != std::process::id() { Err(CaptureError::ForeignProc) } else { Ok(()) }
}

/// Checks that the memory of process `pid` may be read, by its thread `living`. Nothing is ever mapped at 0, so that permission is
/// all that is asked for.
pub(crate) fn check_memory(pid: u32, living: Pid) -> Result<(), CaptureError> {
    match probe_read(living) {
        Ok(()) => Ok(()),
        Err(error) => Err(of(pid, &error.into())),
    }
}

/// Whether memory of a process may be read. That of this one may always, unless the system call itself is forbidden.
fn probe_read(pid: Pid) -> Result<(), Errno> {
    let mut byte = [0];
    match process_vm_readv(pid, &mut [IoSliceMut::new(&mut byte)], &[RemoteIoVec { base: 0, len: 1 }]) {
        Ok(_) | Err(Errno::EFAULT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether ptrace may be called at all. Nobody traces himself, which the kernel says of a call that reaches it.
fn probe_ptrace() -> Result<(), Errno> {
    match sys::detach(nix::unistd::getpid(), 0) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether root owns the files in `/proc/PID`: the kernel gives him those of processes that are not dumpable.
/// (Linux, fs/proc/base.c, task_dump_owner)
fn is_owned_by_root(proc: &Proc) -> bool {
    const NOBODY: u32 = 65534;
    fs::metadata(proc.path("stat")).is_ok_and(|file| matches!(file.uid(), 0 | NOBODY))
}

fn is_descendant(parent: u32) -> bool {
    let own = std::process::id();
    let parents = std::iter::successors(Some(parent), |pid| Some(Proc::of(*pid).stat()?.ppid));
    parents.take(MAX_ANCESTORS).take_while(|pid| *pid != 0).any(|pid| pid == own)
}

/// What a security module says of a process: that of AppArmor has a file of its own since Linux 5.8.
fn label(proc: &Proc) -> Option<Label> {
    let named = ["attr/apparmor/current", "attr/current"].iter().find_map(|name| proc.read(name).ok())?;
    Label::of(&String::from_utf8_lossy(&named))
}

/// The option that `/proc` is mounted with, if it hides processes.
fn hidden_by() -> Option<String> {
    let mounts = text("/proc/self/mountinfo")?;
    // 36 35 0:22 / /proc rw,… - proc proc rw,hidepid=invisible
    let proc = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"))?;
    let option = proc.rsplit(' ').next()?.split(',').find(|option| option.starts_with("hidepid="))?;
    (!matches!(option, "hidepid=0" | "hidepid=off")).then(|| option.to_owned())
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u32> {
    text(path)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_trace_and_be_read_as_far_as_system_calls_go() {
        assert_eq!((probe_ptrace(), probe_read(nix::unistd::getpid())), (Ok(()), Ok(())));
        assert!(check_proc().is_ok());
        assert!(is_descendant(std::process::id()) && !is_descendant(1));
    }
}
