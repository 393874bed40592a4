//! What `/proc` says of the threads of a process, read with few calls: there may be thousands, and each costs.

use super::procfs::{Proc, parse_stat, parse_status};
use super::waits::{Asleep, parse_system_call, parse_wait_channel};
use crate::sys;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use pyst_snapshot::payload::Thread;
use pyst_snapshot::{Bytes, Tid};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

/// The largest of the files that are read here is a few hundred bytes long.
const BUFFER: usize = 16 << 10;

/// `/proc/PID/task`
pub(crate) struct Tasks {
    directory: File,
    buffer: RefCell<Vec<u8>>,
    /// Whether a thread's id is the same in its own namespace as here.
    same_ids: bool,
}

impl Tasks {
    /// The threads of `process`, whose leader has these ids in its namespaces, from the outside inwards.
    pub(crate) fn of(process: &Proc, namespace_pids: &[u32]) -> std::io::Result<Tasks> {
        let directory = File::open(process.path("task"))?;
        Ok(Tasks { directory, buffer: RefCell::new(vec![0; BUFFER]), same_ids: namespace_pids.len() == 1 })
    }

    /// The threads, ascending.
    pub(crate) fn tids(&self) -> Vec<u32> {
        let mut tids = Vec::new();
        let listed = sys::numeric_entries(self.directory.as_fd(), &mut self.buffer.borrow_mut(), |tid| tids.push(tid));
        if listed.is_err() {
            return Vec::new();
        }
        tids.sort_unstable();
        tids.dedup();
        tids
    }

    /// The thread with its name and state; `None` when it has just exited.
    pub(crate) fn thread(&self, tid: u32) -> Option<Thread> {
        let mut name = Vec::new();
        let state = self.describe(tid, &mut name)?;
        let (namespace_tid, name) = (self.namespace_tid(tid), Some(Bytes(name)));
        Some(Thread { tid: Tid(tid), state: Some(state), namespace_tid, name, ..Thread::default() })
    }

    /// Its state; `text` gets its name. `None` when it has just exited.
    pub(super) fn describe(&self, tid: u32, text: &mut Vec<u8>) -> Option<u8> {
        self.read(tid, "stat", |stat| {
            text.extend_from_slice(name(stat)?);
            parse_stat(stat).map(|stat| stat.state)
        })
    }

    /// Its id in its own namespace.
    pub(super) fn namespace_tid(&self, tid: u32) -> Option<u32> {
        match self.same_ids {
            true => Some(tid),
            false => self.read(tid, "status", |text| Some(parse_status(text)))?.namespace_pids.last().copied(),
        }
    }

    /// Where it sleeps, if it does.
    pub(super) fn asleep(&self, tid: u32) -> Option<Asleep> {
        self.read(tid, "syscall", parse_system_call)
    }

    /// What the kernel calls what it waits for, if it does: `text` gets it.
    pub(super) fn wait_channel(&self, tid: u32, text: &mut Vec<u8>) -> Option<()> {
        self.read(tid, "wchan", |wchan| {
            text.extend_from_slice(parse_wait_channel(wchan)?);
            Some(())
        })
    }

    /// The same for another thread of this process.
    pub(super) fn another(&self) -> Option<Tasks> {
        let directory = self.directory.try_clone().ok()?;
        Some(Tasks { directory, buffer: RefCell::new(vec![0; BUFFER]), same_ids: self.same_ids })
    }

    fn read<T>(&self, tid: u32, name: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut path = [0; 32];
        let mut rest = path.as_mut_slice();
        write!(rest, "{tid}/{name}").ok()?;
        let unused = rest.len();
        let path = path.get(..path.len() - unused)?;
        let file = openat(&self.directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = self.buffer.borrow_mut();
        // The kernel makes such a file whole with the first read.
        let length = nix::unistd::read(&file, &mut buffer).ok()?;
        parse(buffer.get(..length)?)
    }
}

/// The name in `112 (a name) S 1 …`, which may hold parentheses.
fn name(stat: &[u8]) -> Option<&[u8]> {
    let start = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_all_between_the_first_and_the_last_parenthesis() {
        assert_eq!(name(b"112 (a) (b) S 1 2"), Some(&b"a) (b"[..]));
        assert_eq!(name(b"112 () S 1 2"), Some(&b""[..]));
        assert_eq!(name(b"112"), None);
        assert_eq!(name(b")("), None);
    }
}
