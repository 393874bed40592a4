//! Why a thread did not stop in time: told by where in the kernel it sleeps.

use super::procfs::Proc;
use pyst_snapshot::Tid;

/// Where the kernel has a task that the freezer of cgroup v1 holds. Stops do not reach it there.
const FROZEN: &[u8] = b"__refrigerator";

/// Where it has a parent that waits until its vforked child has become another program or has exited; by its age.
const VFORK: [&[u8]; 4] = [b"kernel_clone", b"wait_for_vfork_done", b"_do_fork", b"do_fork"];

/// What holds the thread, and what to do; the same words for all threads that the same holds.
pub(super) fn why(tid: Tid) -> &'static str {
    let task = Proc::of(tid.0);
    let channel = task.read("wchan").unwrap_or_default();
    match task.stat().map(|stat| stat.state) {
        _ if channel == FROZEN => {
            "frozen by its control group, as in a paused container: let it go on (docker unpause) first"
        }
        Some(b'D') if VFORK.contains(&channel.as_slice()) => "waits for a child that it started with vfork: try again",
        Some(b'D') => {
            "sleeps where nothing can wake it (state D), as one does that waits for a device or a file server that does not answer: \
             with --no-block it has native frames"
        }
        Some(b'R') => "found no processor in that time: try again, or with a larger --stop-limit",
        _ => "try again, or with a larger --stop-limit",
    }
}
