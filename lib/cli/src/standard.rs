//! Whether standard input and output are of use. Before `main`, Rust opens `/dev/null` in the place of a closed one
//! (`pyst-grab 7 >&-`), and later takes what cannot be written there for written: all would seem to go well, and the snapshot
//! be lost. So it is looked at before.

use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

static INPUT: AtomicBool = AtomicBool::new(true);
static OUTPUT: AtomicBool = AtomicBool::new(true);

/// What the C library calls before anything of Rust runs.
#[used]
#[expect(unsafe_code, reason = "there is no other way to run before Rust's own beginning")]
// SAFETY: the section holds pointers to functions that the C library calls, once, with arguments that may be ignored. This one
// asks the kernel and sets flags: it needs nothing that is not there yet.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

extern "C" fn look() {
    INPUT.store(may(0, libc::O_RDONLY), Ordering::Relaxed);
    OUTPUT.store(may(1, libc::O_WRONLY), Ordering::Relaxed);
}

/// Whether a descriptor is open, in this mode or for both.
fn may(descriptor: i32, mode: i32) -> bool {
    #[expect(unsafe_code, reason = "the safe call wants an open descriptor")]
    // SAFETY: of a descriptor that is not open, the kernel says so.
    let flags = Errno::result(unsafe { libc::fcntl(descriptor, libc::F_GETFL) });
    let is_in_mode = |flags: i32| [mode, libc::O_RDWR].contains(&(flags & libc::O_ACCMODE));
    flags.is_ok_and(|flags| flags & libc::O_PATH == 0 && is_in_mode(flags))
}

/// Whether standard input can be read.
pub(crate) fn can_read() -> bool {
    INPUT.load(Ordering::Relaxed)
}

/// Whether standard output can be written.
pub(crate) fn can_write() -> bool {
    OUTPUT.load(Ordering::Relaxed)
}

/// Closes standard output, on which nothing more comes. In its place is what cannot be written to, and nothing that is opened later.
pub(crate) fn close_output() {
    let _ = File::open("/dev/null").map(nix::unistd::dup2_stdout);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_descriptor_is_of_use_in_its_mode_only() {
        let read = File::open("/dev/null").unwrap();
        let write = File::options().write(true).open("/dev/null").unwrap();
        let both = File::options().read(true).write(true).open("/dev/null").unwrap();
        let modes = |file: &File| [libc::O_RDONLY, libc::O_WRONLY].map(|mode| may(file.as_raw_fd(), mode));
        assert_eq!([modes(&read), modes(&write), modes(&both)], [[true, false], [false, true], [true, true]]);
        assert!(!may(-1, libc::O_RDONLY) && !may(i32::MAX, libc::O_WRONLY));
    }
}
