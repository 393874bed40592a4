//! Why the kernel refused, told apart by looking: each reason needs another remedy.

use super::procfs::Proc;
use crate::error::CaptureError;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::io::{self, ErrorKind};

/// The error for a refusal to read or trace process `pid`.
pub(crate) fn of(pid: u32, error: &io::Error) -> CaptureError {
    let proc = Proc::of(pid);
    let (Some(stat), Some(status)) = (proc.stat(), proc.status()) else { return CaptureError::Exited { pid } };
    if stat.is_zombie() && proc.tids().is_ok_and(|tids| tids.len() <= 1) {
        return CaptureError::Zombie { pid, parent: stat.ppid };
    }
    if error.raw_os_error() == Some(libc::ESRCH) || error.kind() == ErrorKind::NotFound {
        return CaptureError::Exited { pid };
    }
    let own = nix::unistd::geteuid().as_raw();
    if own != 0 && status.uid != own {
        return CaptureError::OtherUser { pid, owner: status.uid, own };
    }
    // The kernel refuses to trace what is on its way out in the words it has for what is forbidden. The leader of a process
    // that is killed may be gone before its other threads.
    if stat.is_exiting() {
        return CaptureError::Exited { pid };
    }
    match yama_scope() {
        Some(scope @ 1) => CaptureError::Yama {
            pid,
            scope,
            advice: "run as root (sudo), grant CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope to 0",
        },
        Some(scope @ 2) => CaptureError::Yama { pid, scope, advice: "run as root (sudo) or grant CAP_SYS_PTRACE" },
        Some(scope @ 3..) => CaptureError::Yama {
            pid,
            scope,
            advice: "nothing may be inspected until the machine is started anew with a lower value",
        },
        _ => CaptureError::NotPermitted { pid },
    }
}

/// The error for a process that `/proc` does not show. Mounted with `hidepid`, it hides those of others; signal 0, which is
/// none, still finds them.
pub(crate) fn of_invisible(pid: u32) -> CaptureError {
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    match number.map(|number| nix::sys::signal::kill(Pid::from_raw(number), None)) {
        Some(Ok(()) | Err(Errno::EPERM)) => CaptureError::NotPermitted { pid },
        _ => CaptureError::NoSuchProcess { pid },
    }
}

fn yama_scope() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}
