//! What the arguments of a system call say: the files, the futex, the timeout.

use crate::call::Arguments;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// The most files of one call that are told. `poll` and `select` may wait for any number.
const MAX_FILES: usize = 64;

/// The highest descriptor and one that `select` takes of a C library.
const MAX_SELECT: u64 = 1024;

/// The files that a call waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The first of their descriptors, in the order of the arguments, each once.
    pub descriptors: Vec<i32>,
    /// Whether there are more, or which they are is not known.
    pub more: bool,
}

/// How long a call waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// For ever.
    Never,
    /// So many nanoseconds, as it was asked for.
    Given(u64),
    /// So many nanoseconds from when the thread was stopped.
    Left(u64),
    /// Until a clock has this many nanoseconds.
    Until(Clock, u64),
}

/// A clock of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_REALTIME`: since 1970.
    Realtime,
    /// `CLOCK_MONOTONIC`: since the machine was booted, without the time it was suspended.
    Monotonic,
}

/// What arguments say.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) files: Files,
    pub(crate) futex: Option<Address>,
    pub(crate) timeout: Option<Timeout>,
}

/// Reads the arguments of the call `name`. `interrupted`: the kernel has brought up to date what it writes back then.
pub(crate) fn read(name: &str, arguments: &Arguments, interrupted: bool, memory: &dyn Memory) -> Said {
    let reader = Reader { arguments, interrupted, memory };
    let files = match name {
        "read" | "readv" | "pread64" | "preadv" | "preadv2" | "write" | "writev" | "pwrite64" | "pwritev"
        | "pwritev2" | "recvfrom" | "recvmsg" | "recvmmsg" | "sendto" | "sendmsg" | "sendmmsg" | "accept"
        | "accept4" | "connect" | "flock" | "fcntl" | "ioctl" | "fsync" | "fdatasync" | "syncfs"
        | "sync_file_range" | "ftruncate" | "fallocate" | "getdents64" | "close" | "shutdown" | "epoll_wait"
        | "epoll_pwait" | "epoll_pwait2" | "mq_timedsend" | "mq_timedreceive" | "io_uring_enter" | "fstat" => {
            reader.files(&[0])
        }
        "sendfile" | "tee" => reader.files(&[0, 1]),
        "splice" | "copy_file_range" => reader.files(&[0, 2]),
        "waitid" if reader.get(0) == Some(P_PIDFD) => reader.files(&[1]),
        "poll" | "ppoll" => reader.poll(),
        "select" | "pselect6" => reader.select(),
        _ => Files::default(),
    };
    let timeout = match name {
        "poll" => reader.milliseconds(2),
        "epoll_wait" | "epoll_pwait" => reader.milliseconds(3),
        "epoll_pwait2" | "semtimedop" => reader.given(3),
        "nanosleep" => reader.given(0),
        "rt_sigtimedwait" => reader.given(2),
        "io_getevents" => reader.given(4),
        "ppoll" => reader.written_back(2, 1),
        "select" => reader.written_back(4, 1000),
        "pselect6" => reader.written_back(4, 1),
        "clock_nanosleep" => reader.clock_nanosleep(),
        "mq_timedsend" | "mq_timedreceive" => reader.until(Clock::Realtime, 4),
        "futex" => reader.futex_timeout(),
        _ => None,
    };
    let futex = (name == "futex").then(|| reader.get(0).map(Address)).flatten();
    Said { files, futex, timeout }
}

/// `P_PIDFD` of waitid.
const P_PIDFD: u64 = 3;

/// `FUTEX_WAIT` and its kin; the flags in the operation.
const FUTEX_WAIT: u64 = 0;
const FUTEX_LOCK_PI: u64 = 6;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAIT_REQUEUE_PI: u64 = 11;
const FUTEX_LOCK_PI2: u64 = 13;
const FUTEX_PRIVATE: u64 = 128;
const FUTEX_CLOCK_REALTIME: u64 = 256;

/// `TIMER_ABSTIME` of clock_nanosleep.
const ABSOLUTE: u64 = 1;

struct Reader<'a> {
    arguments: &'a Arguments,
    interrupted: bool,
    memory: &'a dyn Memory,
}

impl Reader<'_> {
    fn get(&self, index: usize) -> Option<u64> {
        self.arguments.get(index).copied().flatten()
    }

    /// An argument that the kernel takes as an `int`.
    fn int(&self, index: usize) -> Option<i32> {
        let [a, b, c, d, ..] = self.get(index)?.to_le_bytes();
        Some(i32::from_le_bytes([a, b, c, d]))
    }

    fn files(&self, indices: &[usize]) -> Files {
        let mut files = Files::default();
        for index in indices {
            match self.int(*index) {
                Some(descriptor) => files.add(descriptor),
                None => files.more = true,
            }
        }
        files
    }

    /// An array of `struct pollfd`: descriptor, two sets of events. A negative descriptor is ignored.
    fn poll(&self) -> Files {
        let mut files = Files::default();
        // The kernel takes the count as an `unsigned int`.
        let Some((start, count)) = self.get(0).zip(self.get(1).map(|count| count & 0xffff_ffff)) else {
            return Files { more: true, ..files };
        };
        let read = count.min(MAX_FILES as u64);
        let Ok(entries) = self.memory.read_bytes(Address(start), read * 8, MAX_FILES as u64 * 8) else {
            return Files { more: count > 0, ..files };
        };
        for entry in entries.as_chunks::<8>().0 {
            let [a, b, c, d, ..] = *entry;
            files.add(i32::from_le_bytes([a, b, c, d]));
        }
        files.more = count > read;
        files
    }

    /// Three sets of descriptors under a number, one bit each.
    fn select(&self) -> Files {
        let mut files = Files::default();
        let Some(under) = self.int(0) else { return Files { more: true, ..files } };
        let under = u64::try_from(under).unwrap_or(0).min(MAX_SELECT);
        let mut set = [0; (MAX_SELECT / 64) as usize];
        for index in 1..=3 {
            match self.get(index) {
                Some(0) => continue,
                Some(start) => match self.memory.read_bytes(Address(start), under.div_ceil(64) * 8, MAX_SELECT / 8) {
                    Ok(bytes) => {
                        for (word, bytes) in set.iter_mut().zip(bytes.as_chunks::<8>().0) {
                            *word |= u64::from_le_bytes(*bytes);
                        }
                    }
                    Err(_) => files.more = under > 0,
                },
                None => files.more = true,
            }
        }
        for (descriptor, bit) in (0..).zip(0..under) {
            if set.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1) {
                files.add(descriptor);
            }
        }
        files
    }

    fn milliseconds(&self, index: usize) -> Option<Timeout> {
        let milliseconds = self.int(index)?;
        Some(u64::try_from(milliseconds).map_or(Timeout::Never, |given| Timeout::Given(given * 1_000_000)))
    }

    /// A `struct timespec` (or, in units of 1000 nanoseconds, a `struct timeval`) that an argument points to. The outer
    /// `None`: not known; the inner: there is none.
    fn time(&self, index: usize, unit: u64) -> Option<Option<u64>> {
        let address = self.get(index)?;
        if address == 0 {
            return Some(None);
        }
        let bytes = self.memory.read_array::<16>(Address(address)).ok()?;
        let (seconds, part) = bytes.split_first_chunk::<8>()?;
        let part = u64::from_le_bytes(*part.first_chunk()?).checked_mul(unit).filter(|part| *part < 1_000_000_000)?;
        let seconds = u64::from_le_bytes(*seconds).checked_mul(1_000_000_000);
        // What is longer than 584 years is as good as for ever.
        Some(seconds.and_then(|seconds| seconds.checked_add(part)))
    }

    fn given(&self, index: usize) -> Option<Timeout> {
        self.time(index, 1).map(|time| time.map_or(Timeout::Never, Timeout::Given))
    }

    fn until(&self, clock: Clock, index: usize) -> Option<Timeout> {
        self.time(index, 1).map(|time| time.map_or(Timeout::Never, |time| Timeout::Until(clock, time)))
    }

    /// A timeout in whose place the kernel writes what is left of it, when the call ends or is interrupted.
    fn written_back(&self, index: usize, unit: u64) -> Option<Timeout> {
        let known = if self.interrupted { Timeout::Left } else { Timeout::Given };
        self.time(index, unit).map(|time| time.map_or(Timeout::Never, known))
    }

    fn clock_nanosleep(&self) -> Option<Timeout> {
        if self.get(1)? & ABSOLUTE == 0 {
            return self.given(2);
        }
        let clock = match self.int(0)? {
            0 => Clock::Realtime,
            1 => Clock::Monotonic,
            _ => return None,
        };
        self.until(clock, 2)
    }

    fn futex_timeout(&self) -> Option<Timeout> {
        let operation = self.get(1)? & 0xffff_ffff;
        let by_flag = if operation & FUTEX_CLOCK_REALTIME == 0 { Clock::Monotonic } else { Clock::Realtime };
        match operation & !(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME) {
            FUTEX_WAIT => self.given(3),
            FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 => self.until(by_flag, 3),
            FUTEX_LOCK_PI => self.until(Clock::Realtime, 3),
            _ => None,
        }
    }
}

impl Files {
    fn add(&mut self, descriptor: i32) {
        if descriptor < 0 || self.descriptors.contains(&descriptor) {
            return;
        }
        if self.descriptors.len() >= MAX_FILES {
            self.more = true;
        } else {
            self.descriptors.push(descriptor);
        }
    }
}
