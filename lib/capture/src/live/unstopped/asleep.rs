//! A thread that provably slept while it was read.
//!
//! The kernel counts how often a thread was given a processor (`/proc/T/schedstat`, the third number), and tells where one
//! that sleeps will go on (`/proc/T/syscall`). A thread that slept after the count was read has not run since if the count
//! is still the same: it would have been given a processor. The count alone says nothing, for one that runs all the time
//! keeps it.

use super::super::LIVE_ARCH;
use super::super::procfs::Proc;
use crate::registers::layout;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{Arch, Register, Registers};

/// DWARF numbers, of x86_64, of the arguments of a system call: rdi rsi rdx r10 r8 r9.
const X86_64_ARGUMENTS: [u16; 6] = [5, 4, 1, 10, 8, 9];

/// A thread that slept at one moment.
pub(super) struct Asleep {
    /// How often it had run before.
    runs: u64,
    pub(super) sp: Address,
    pub(super) registers: Registers,
}

impl Asleep {
    /// The thread, if it sleeps now.
    pub(super) fn now(task: &Proc) -> Option<Asleep> {
        let runs = runs(task)?;
        let registers = registers(&task.read("syscall").ok()?)?;
        let sp = Address(registers.get(layout(LIVE_ARCH).sp)?);
        Some(Asleep { runs, sp, registers })
    }

    /// Whether it has slept ever since.
    pub(super) fn slept_on(&self, task: &Proc) -> bool {
        runs(task) == Some(self.runs)
    }
}

/// How often a thread was given a processor; `None` where the kernel does not count it.
fn runs(task: &Proc) -> Option<u64> {
    parse_runs(&task.read("schedstat").ok()?)
}

/// `95321 1200 42`: nanoseconds on a processor, nanoseconds waiting for one, how often it got one.
fn parse_runs(text: &[u8]) -> Option<u64> {
    let runs: u64 = std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(2)?.parse().ok()?;
    // A kernel that does not count says 0 of all.
    Some(runs).filter(|runs| *runs > 0)
}

/// The registers of a sleeper: `202 0x7f… 0x189 0x0 0x0 0x0 0xffffffff 0x7ffe… 0x7f…` in a system call, and `-1 0x7ffe… 0x7f…`
/// outside of one. A thread that does not sleep is `running`. The kernel's own threads have no stack here.
fn registers(text: &[u8]) -> Option<Registers> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let values: Vec<u64> = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
    let [arguments @ .., sp, pc] = values.as_slice() else { return None };
    let layout = layout(LIVE_ARCH);
    let mut known = vec![Register { number: layout.sp, value: *sp }, Register { number: layout.pc, value: *pc }];
    if LIVE_ARCH == Arch::X86_64 && number >= 0 {
        let arguments = X86_64_ARGUMENTS.iter().zip(arguments);
        known.extend(arguments.map(|(number, value)| Register { number: *number, value: *value }));
    }
    known.sort_unstable_by_key(|register| register.number);
    let system_call = u64::try_from(number).ok();
    (*sp != 0).then_some(Registers { values: known, thread_pointer: None, system_call })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_of_proc_tells_the_registers_of_a_sleeper_only() {
        let known = registers(b"202 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd0000 0x7f0012\n").unwrap();
        assert_eq!(known.system_call, Some(202));
        assert!(known.values.is_sorted_by_key(|register| register.number));
        let layout = layout(LIVE_ARCH);
        assert_eq!((known.get(layout.sp), known.get(layout.pc)), (Some(0x7ffd_0000), Some(0x7f_0012)));
        if LIVE_ARCH == Arch::X86_64 {
            assert_eq!(X86_64_ARGUMENTS.map(|number| known.get(number).unwrap()), [1, 2, 3, 4, 5, 6]);
        }
        let outside = registers(b"-1 0x7ffd0000 0x7f0012\n").unwrap();
        assert_eq!((outside.system_call, outside.values.len()), (None, 2));
        for text in [&b"running\n"[..], b"", b"0 0x0 0x0\n", b"7 0x1\n", b"\xff"] {
            assert_eq!(registers(text), None);
        }
    }

    #[test]
    fn a_kernel_that_does_not_count_proves_nothing() {
        assert_eq!(parse_runs(b"95321 1200 42\n"), Some(42));
        assert_eq!(parse_runs(b"0 0 0\n"), None);
        assert_eq!(parse_runs(b"1 2\n"), None);
    }

    #[test]
    fn a_sleeper_sleeps_until_it_runs_and_who_runs_does_not() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (name, tid) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            name.send(nix::unistd::gettid()).unwrap();
            while told.recv().is_ok() {}
        });
        let task = Proc::of(std::process::id()).task(tid.recv().unwrap().as_raw().cast_unsigned());
        let asleep = loop {
            match Asleep::now(&task) {
                Some(asleep) => break asleep,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(asleep.slept_on(&task));
        tell.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!asleep.slept_on(&task));
        drop(tell);
        sleeper.join().unwrap();
    }

    #[test]
    fn one_that_runs_all_the_time_does_not_sleep() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let (name, tid) = std::sync::mpsc::channel();
        let is_over = std::sync::Arc::clone(&over);
        let busy = std::thread::spawn(move || {
            name.send(nix::unistd::gettid()).unwrap();
            while !is_over.load(Ordering::Relaxed) {}
        });
        let task = Proc::of(std::process::id()).task(tid.recv().unwrap().as_raw().cast_unsigned());
        std::thread::sleep(Duration::from_millis(5));
        assert!((0..100).all(|_| Asleep::now(&task).is_none()));
        over.store(true, Ordering::Relaxed);
        busy.join().unwrap();
    }
}
