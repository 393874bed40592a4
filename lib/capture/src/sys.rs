//! The system calls that have no safe wrapper with the generality needed here: stops that carry real-time signals,
//! register sets whose length tells a 32-bit thread, directory reads that allocate nothing. Everything unsafe in this
//! crate is in this file, and nothing here can write to another process.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What `waitpid` reports of a traced thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Nothing yet.
    Nothing,
    /// It stopped because it was told to, or it is part of a group stop. It owes nobody a signal.
    Stopped,
    /// It stopped on its way to take this signal, which is lost unless it is handed on.
    SignalDelivery(i32),
    /// It is gone.
    Gone,
}

/// The event that `PTRACE_INTERRUPT` and group stops of a seized thread report.
const EVENT_STOP: i32 = 128;

/// Asks, without waiting, what became of a thread that this thread traces.
///
/// A stop is looked at, not taken: a stop that was waited for has lost its signal if this process is then killed before it
/// hands that on, and one that was not waited for takes it when the kernel lets go.
pub(crate) fn poll_thread(tid: Pid) -> Result<Report, Errno> {
    let (code, status) = child_status(tid, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT)?;
    match code {
        0 => Ok(Report::Nothing),
        libc::CLD_TRAPPED | libc::CLD_STOPPED if status >> 8 == EVENT_STOP => Ok(Report::Stopped),
        libc::CLD_TRAPPED | libc::CLD_STOPPED => Ok(Report::SignalDelivery(status & 0x7f)),
        _ => {
            // An exec by another thread waits until this one is reaped.
            let _ = child_status(tid, libc::WEXITED);
            Ok(Report::Gone)
        }
    }
}

/// `si_code` and `si_status` of what `waitid` tells of a thread; 0 when there is nothing to tell.
fn child_status(tid: Pid, options: libc::c_int) -> Result<(libc::c_int, libc::c_int), Errno> {
    #[expect(unsafe_code, reason = "all-zero is how waitid is told from one that found nothing")]
    // SAFETY: a structure of numbers and pointers nobody follows.
    let mut told: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = options | libc::__WALL | libc::WNOHANG;
    let id = tid.as_raw().cast_unsigned();
    #[expect(unsafe_code, reason = "nix refuses a stop that carries a real-time signal, and knows no WNOWAIT with it")]
    // SAFETY: `told` is a valid place for what is told, for the length of the call.
    let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut told, options) };
    Errno::result(result)?;
    if told.si_signo == 0 {
        return Ok((0, 0));
    }
    #[expect(unsafe_code, reason = "the status is in a union")]
    // SAFETY: waitid fills the members of SIGCHLD.
    let status = unsafe { told.si_status() };
    Ok((told.si_code, status))
}

/// Waits until something may have become of a traced thread, for `limit` at most. The kernel tells a tracer with SIGCHLD,
/// which must be blocked; where another thread of this process takes it, or it is ignored, only the limit ends the wait.
pub(crate) fn wait_for_reports(limit: Duration) {
    let signals = SigSet::from_iter([Signal::SIGCHLD]);
    let limit = TimeSpec::from_duration(limit);
    #[expect(unsafe_code, reason = "waitpid has no time limit")]
    // SAFETY: both structures outlive the call; what the signal says is not asked for.
    let _ = unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), limit.as_ref()) };
}

/// Lets this thread, and those it starts, go before others where that is permitted (to root, mostly): a target stays
/// stopped for as long as its tracer waits for a processor.
pub(crate) fn hurry() {
    #[expect(unsafe_code, reason = "there is no safe wrapper")]
    // SAFETY: takes and returns numbers only. 0 is the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Has all threads take memory from one heap, which grows by large steps and keeps what is given back. Those that glibc makes for
/// each further thread grow by a page at a time, with a system call for each.
pub(crate) fn keep_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: takes numbers only, and the heap there is stays in use.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// Gives memory back that was let go of in the middle of the heap, which glibc keeps otherwise.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: takes a number only, and leaves alone what is in use.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Lets a stopped thread go, which takes `signal` unless that is 0.
pub(crate) fn detach(tid: Pid, signal: i32) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "nix knows no real-time signals")]
    // SAFETY: DETACH reads no memory of this process; the signal travels as a number in the place of a pointer.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_DETACH, tid.as_raw(), std::ptr::null_mut::<libc::c_void>(), signal as libc::c_long)
    };
    Errno::result(result).map(drop)
}

/// The most words a general register set has on any architecture read here.
pub(crate) const MAX_REGISTER_WORDS: usize = 64;

/// The general registers of a stopped thread as the kernel lays them out, and how many bytes of them it wrote.
pub(crate) fn general_registers(tid: Pid) -> Result<([u64; MAX_REGISTER_WORDS], usize), Errno> {
    let mut words = [0u64; MAX_REGISTER_WORDS];
    let mut buffer = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
    #[expect(unsafe_code, reason = "the length that the kernel writes back is needed")]
    // SAFETY: `buffer` describes `words`, which outlives the call; the kernel writes at most `iov_len` bytes.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            tid.as_raw(),
            libc::NT_PRSTATUS as libc::c_long as *mut libc::c_void,
            &raw mut buffer,
        )
    };
    Errno::result(result)?;
    Ok((words, buffer.iov_len))
}

/// Calls `found` with each number that names an entry of the directory, from its start. `buffer` bounds nothing but the
/// count of system calls.
pub(crate) fn numeric_entries(
    directory: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut found: impl FnMut(u32),
) -> Result<(), Errno> {
    nix::unistd::lseek(directory, 0, nix::unistd::Whence::SeekSet)?;
    loop {
        #[expect(unsafe_code, reason = "there is no other way to read a directory that is already open again")]
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which outlives the call.
        let result =
            unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let length = usize::try_from(Errno::result(result)?).unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        // struct linux_dirent64: u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, then the name.
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some(record) = rest.get(16..18).and_then(|b| b.first_chunk()).map(|b| u16::from_le_bytes(*b)) {
            let record = usize::from(record).max(19);
            let name = rest.get(19..record.min(rest.len())).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(number) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                found(number);
            }
            rest = rest.get(record..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_tasks_of_this_process_are_listed_again_and_again() {
        let directory = std::fs::File::open("/proc/self/task").unwrap();
        // Too small for all entries at once: several calls.
        let mut buffer = [0; 128];
        for _ in 0..2 {
            let mut tids = Vec::new();
            numeric_entries(directory.as_fd(), &mut buffer, |tid| tids.push(tid)).unwrap();
            assert!(tids.contains(&std::process::id()), "{tids:?}");
        }
    }
}
