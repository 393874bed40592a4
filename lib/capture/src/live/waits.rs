//! What the kernel says of what threads wait for. None of it is read in the stop: wait channels before it, for a stopped
//! thread's is the tracer's stop; files before it and after it, and kept if they are the same.

use super::LIVE_ARCH;
use super::procfs::Proc;
use super::sight::Sleepers;
use super::sockets;
use nix::time::ClockId;
use pyst_kernel::Call;
use pyst_memory::Memory;
use pyst_snapshot::payload::{OpenFile, SystemCall, Thread, ThreadWait, Waits};
use pyst_snapshot::{Address, Bytes, Range, Tid};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::time::SystemTime;

/// Of how many system calls it is read at once what their arguments point to.
const CALLS_AT_ONCE: usize = 256;

/// The most files that are looked at.
const MAX_FILES: usize = 1024;

/// The most of the files that an epoll instance watches that are told.
const MAX_WATCHED: usize = 64;

/// The most of `fdinfo` that is read: an epoll instance has a line for each file that it watches.
const MAX_FDINFO: u64 = 1 << 20;

const EPOLL: &[u8] = b"anon_inode:[eventpoll]";

/// What could be read before the stop.
#[derive(Debug, Default)]
pub(crate) struct Before {
    threads: Vec<ThreadWait>,
    /// What each descriptor was open to that a system call named, or an epoll instance of one watched.
    links: BTreeMap<i32, Vec<u8>>,
}

impl Before {
    /// The system calls that threads sleep in. What their arguments point to is read from `memory`.
    pub(crate) fn of(proc: &Proc, sleepers: &Sleepers, memory: &dyn Memory) -> Before {
        let wait = |(tid, asleep): &(Tid, Asleep)| {
            Some(ThreadWait { tid: *tid, wait_channel: None, system_call: Some(asleep.system_call()?) })
        };
        let mut before = Before { threads: sleepers.asleep.iter().filter_map(wait).collect(), ..Before::default() };
        before.add_channels(sleepers.restarted.iter().cloned());
        let mut descriptors = BTreeSet::new();
        for some in before.threads.chunks(CALLS_AT_ONCE) {
            let calls = some.iter().filter_map(|wait| wait.system_call.as_ref());
            memory.expect_only(calls.flat_map(pointed_to).collect());
            for wait in some {
                let call = Call::of(&Thread { tid: wait.tid, ..Thread::default() }, Some(wait), LIVE_ARCH, memory);
                descriptors.extend(call.into_iter().flat_map(|call| call.files.descriptors));
            }
        }
        for descriptor in descriptors.into_iter().take(MAX_FILES) {
            before.look_at(proc, descriptor);
        }
        before
    }

    /// Adds what the kernel calls what threads wait for, of which it is not known yet.
    pub(crate) fn add_channels(&mut self, channels: impl Iterator<Item = (Tid, Bytes)>) {
        let in_calls = self.threads.len();
        for (tid, channel) in channels {
            let of_calls = self.threads.get_mut(..in_calls).unwrap_or_default();
            match of_calls.binary_search_by_key(&tid, |wait| wait.tid).ok().and_then(|at| of_calls.get_mut(at)) {
                Some(wait) => _ = wait.wait_channel.get_or_insert(channel),
                None => self.threads.push(ThreadWait { tid, wait_channel: Some(channel), system_call: None }),
            }
        }
        self.threads.sort_unstable_by_key(|wait| wait.tid);
    }

    fn look_at(&mut self, proc: &Proc, descriptor: i32) {
        let Some(link) = link(proc, descriptor) else { return };
        let watched = watched(proc, descriptor, &link).unwrap_or_default();
        self.links.insert(descriptor, link);
        for descriptor in watched {
            if let (true, Some(link)) = (self.links.len() < MAX_FILES, self::link(proc, descriptor)) {
                self.links.insert(descriptor, link);
            }
        }
    }

    /// The payload, but for the files.
    pub(crate) fn payload(&self, proc: &Proc, captured_at: SystemTime) -> Waits {
        Waits { monotonic_ns: monotonic_at(proc, captured_at), threads: self.threads.clone(), files: Vec::new() }
    }

    /// The files that these descriptors are open to, and were before the stop, and those that they watch.
    pub(crate) fn files(&self, proc: &Proc, descriptors: &BTreeSet<i32>) -> Vec<OpenFile> {
        let mut files: BTreeMap<i32, OpenFile> = BTreeMap::new();
        let mut wanted: Vec<i32> = descriptors.iter().rev().copied().collect();
        while let Some(descriptor) = wanted.pop() {
            if files.len() >= MAX_FILES || files.contains_key(&descriptor) {
                continue;
            }
            let Some(link) = link(proc, descriptor).filter(|link| self.links.get(&descriptor) == Some(link)) else {
                continue;
            };
            let watched = watched(proc, descriptor, &link);
            wanted.extend(watched.iter().flatten());
            files.insert(descriptor, OpenFile { descriptor, target: Bytes(link), socket: None, watched });
        }
        let mut files: Vec<OpenFile> = files.into_values().collect();
        sockets::describe(&mut files, proc);
        files
    }
}

/// Where the arguments of a call may point to: a timeout, the first of some descriptors.
fn pointed_to(call: &SystemCall) -> impl Iterator<Item = Range> {
    const LENGTH: u64 = 64;
    /// No process has anything lower (`vm.mmap_min_addr`).
    const LOWEST: u64 = 64 << 10;
    let pointers = call.arguments.iter().filter(|argument| **argument >= LOWEST);
    pointers.filter_map(|pointer| Range::sized(Address(*pointer), LENGTH))
}

/// Where a thread sleeps, by `/proc/T/syscall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asleep {
    /// The system call's number and its arguments; none outside of a call.
    call: Option<(u64, [u64; 6])>,
    sp: Address,
    pc: Address,
}

impl Asleep {
    /// Whether it goes on with a call that was interrupted.
    pub(crate) fn is_restarted(&self) -> bool {
        self.call.is_some_and(|(number, _)| pyst_kernel::is_restart(number, LIVE_ARCH))
    }

    /// Its stack pointer and its program counter.
    pub(crate) fn place(&self) -> (Address, Address) {
        (self.sp, self.pc)
    }

    /// The system call it sleeps in.
    pub(crate) fn system_call(&self) -> Option<SystemCall> {
        let (number, arguments) = self.call?;
        Some(SystemCall { number, arguments: arguments.to_vec(), program_counter: self.pc })
    }
}

/// `/proc/T/wchan`: `0` for a thread that does not sleep, and for who may not know.
pub(crate) fn parse_wait_channel(name: &[u8]) -> Option<&[u8]> {
    (!name.is_empty() && name != b"0").then_some(name)
}

/// `/proc/T/syscall`: a number, six arguments, sp and pc; `running`, or -1, sp and pc for a thread that sleeps outside of a
/// call.
pub(crate) fn parse_system_call(text: &[u8]) -> Option<Asleep> {
    let mut words = std::str::from_utf8(text).unwrap_or_default().split_ascii_whitespace();
    let number: Option<u64> = words.next().and_then(|word| word.parse().ok());
    let mut numbers = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let values: [Option<u64>; 9] = std::array::from_fn(|_| numbers.next());
    match (number, values) {
        (Some(number), [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(sp), Some(pc), None]) => {
            Some(Asleep { call: Some((number, [a, b, c, d, e, f])), sp: Address(sp), pc: Address(pc) })
        }
        (None, [Some(sp), Some(pc), None, ..]) => Some(Asleep { call: None, sp: Address(sp), pc: Address(pc) }),
        _ => None,
    }
}

fn link(proc: &Proc, descriptor: i32) -> Option<Vec<u8>> {
    proc.link(&format!("fd/{descriptor}"))
}

/// The descriptors that an epoll instance watches; `None` of another file.
fn watched(proc: &Proc, descriptor: i32, link: &[u8]) -> Option<Vec<i32>> {
    if link != EPOLL {
        return None;
    }
    let mut text = String::new();
    let file = File::open(proc.path(format!("fdinfo/{descriptor}"))).ok()?;
    file.take(MAX_FDINFO).read_to_string(&mut text).ok()?;
    let mut watched: Vec<i32> = text.lines().filter_map(watched_descriptor).collect();
    watched.sort_unstable();
    watched.dedup();
    watched.truncate(MAX_WATCHED);
    Some(watched)
}

/// `tfd:        7 events:       19 data: …`
fn watched_descriptor(line: &str) -> Option<i32> {
    line.strip_prefix("tfd:")?.split_ascii_whitespace().next()?.parse().ok()
}

/// The monotonic clock at a time, if the process has the one that is read here.
fn monotonic_at(proc: &Proc, time: SystemTime) -> Option<u64> {
    let own = Proc::of(std::process::id());
    if proc.link("ns/time") != own.link("ns/time") {
        return None;
    }
    let now = nix::time::clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    let since = SystemTime::now().duration_since(time).ok()?;
    let now = u64::try_from(now.tv_sec())
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(now.tv_nsec()).ok()?)?;
    now.checked_sub(u64::try_from(since.as_nanos()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_a_system_call_or_none() {
        let asleep = parse_system_call(b"0 0x3 0x7ffd0010 0x400 0x0 0x0 0xffffffffffffffff 0x7ffd0000 0x7f0012\n");
        let asleep = asleep.unwrap();
        let call = asleep.system_call().unwrap();
        assert_eq!(asleep.place(), (Address(0x7ffd_0000), Address(0x7f_0012)));
        assert_eq!((call.number, call.arguments), (0, vec![3, 0x7ffd_0010, 0x400, 0, 0, u64::MAX]));
        assert_eq!(call.program_counter, Address(0x7f_0012));
        for text in [&b"running\n"[..], b"", b"0 0x3\n", b"0 0x3 0x4 0x5 0x6 0x7 0x8\n", b"0 3 4 5 6 7 8\n", b"\xff"] {
            assert_eq!(parse_system_call(text), None);
        }
        let outside = parse_system_call(b"-1 0x7ffd0000 0x7f0012\n").unwrap();
        assert_eq!((outside.system_call(), outside.place()), (None, (Address(0x7ffd_0000), Address(0x7f_0012))));
    }

    #[test]
    fn what_epoll_watches_is_in_lines_of_its_own() {
        assert_eq!(
            watched_descriptor("tfd:        7 events:       19 data:                7  pos:0 ino:3f sdev:7"),
            Some(7)
        );
        for line in ["pos:\t0", "tfd:", "tfd: x", ""] {
            assert_eq!(watched_descriptor(line), None);
        }
    }
}
