//! Calls by made-up registers. What the kernel does to registers is from its source: arch/x86/kernel/signal.c, and
//! arch/arm64/kernel/signal.c.

use super::*;
use crate::Clock;
use pyst_memory::Image;
use pyst_snapshot::payload::Register;

const SP: u64 = 0x7ffd_0000;
const CODE: u64 = 0x7f00_0000;

/// ERESTARTSYS, ERESTARTNOHAND and ERESTART_RESTARTBLOCK, and EINTR.
const INTERRUPTED: [i64; 4] = [-512, -514, -516, -4];

fn memory(parts: &[(u64, &[u8])]) -> Image<'static> {
    let mut image = Image::new();
    image.extend(parts.iter().map(|(address, bytes)| (Address(*address), bytes.to_vec().into())));
    image
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A thread of x86_64 that is stopped in a call.
fn stopped(number: u64, arguments: &[u64], rax: i64) -> Thread {
    let arguments = X86_64_ARGUMENTS.iter().zip(arguments.iter().chain(std::iter::repeat(&0)));
    let mut values: Vec<Register> =
        arguments.map(|(number, value)| Register { number: *number, value: *value }).collect();
    values.push(Register { number: RAX, value: rax.cast_unsigned() });
    values.push(Register { number: RIP, value: CODE });
    let registers = Registers { values, system_call: Some(number), ..Registers::default() };
    Thread { registers: Some(registers), ..Thread::default() }
}

fn of(number: u64, arguments: &[u64], memory: &Image<'_>) -> Call {
    Call::of(&stopped(number, arguments, -512), None, Arch::X86_64, memory).unwrap()
}

fn descriptors(call: &Call) -> &[i32] {
    &call.files.descriptors
}

#[test]
fn a_thread_whose_call_was_interrupted_is_in_it() {
    for result in INTERRUPTED {
        let call = Call::of(&stopped(0, &[3, SP, 10], result), None, Arch::X86_64, &memory(&[])).unwrap();
        assert_eq!((call.name, call.arguments), (Some("read"), [3, SP, 10, 0, 0, 0].map(Some)));
        assert_eq!((descriptors(&call), call.restarted, call.timeout, call.futex), (&[3][..], false, None, None));
    }
}

#[test]
fn a_thread_whose_call_is_over_is_in_none() {
    for result in [0, 17, -2, -11, -515, i64::MIN] {
        assert_eq!(Call::of(&stopped(0, &[3], result), None, Arch::X86_64, &memory(&[])), None, "{result}");
    }
    let mut thread = stopped(0, &[3], -512);
    thread.registers.as_mut().unwrap().system_call = None;
    assert_eq!(Call::of(&thread, None, Arch::X86_64, &memory(&[])), None);
    assert_eq!(Call::of(&thread, None, Arch(777), &memory(&[])), None);
    assert_eq!(Call::of(&Thread::default(), None, Arch::X86_64, &memory(&[])), None);
}

#[test]
fn a_call_that_goes_on_after_an_interruption_is_the_one_that_the_code_asked_for() {
    let code = |number: u8| memory(&[(CODE - 7, &[0xb8, number, 0, 0, 0, 0x0f, 0x05])]);
    let poll = of(219, &[SP, 0, 1500], &code(7));
    assert_eq!((poll.name, poll.number, poll.restarted), (Some("poll"), 7, true));
    assert_eq!(poll.timeout, Some(Timeout::Given(1_500_000_000)));
    // Code that is not known, not such code, and code that asked for what is never restarted so.
    for memory in [memory(&[]), memory(&[(CODE - 7, &[0x90; 7])]), code(0)] {
        let call = of(219, &[3], &memory);
        assert_eq!((call.name, call.number, call.restarted), (Some("restart_syscall"), 219, true));
        assert_eq!(descriptors(&call), []);
    }
}

#[test]
fn where_the_code_does_not_tell_it_is_what_the_kernel_said_of_the_same_call() {
    let of = |number: u64, before: &[u64], channel: &str, now: &[u64]| {
        let said = SystemCall { number, arguments: before.to_vec(), program_counter: Address(CODE) };
        let wait_channel = Some(channel.into());
        let wait = ThreadWait { wait_channel, system_call: Some(said), ..ThreadWait::default() };
        Call::of(&stopped(219, now, -516), Some(&wait), Arch::X86_64, &memory(&[])).unwrap().name.unwrap()
    };
    let (pointer, clock) = (&[SP, 0x80, 0, 0, 0, 0], &[1, 0, SP, 0, 0, 0]);
    assert_eq!(of(202, pointer, "futex_do_wait", pointer), "futex");
    assert_eq!(of(219, pointer, "futex_wait_queue", pointer), "futex");
    assert_eq!(of(219, pointer, "poll_schedule_timeout.constprop.0", pointer), "poll");
    assert_eq!(of(219, pointer, "hrtimer_nanosleep", pointer), "nanosleep");
    assert_eq!(of(219, clock, "hrtimer_nanosleep", clock), "clock_nanosleep");
    // Another call, one that is never restarted so, and a function that nobody knows.
    assert_eq!(of(202, clock, "futex_do_wait", pointer), "restart_syscall");
    assert_eq!(of(0, pointer, "pipe_read", pointer), "restart_syscall");
    assert_eq!(of(219, pointer, "x", pointer), "restart_syscall");
}

#[test]
fn without_registers_it_is_what_proc_said() {
    let arguments = vec![SP, 0, 1500, 0, 0, 0];
    let said = SystemCall { number: 7, arguments, program_counter: Address(CODE) };
    let of = |said: &SystemCall, memory: &Image<'_>| {
        let wait = ThreadWait { system_call: Some(said.clone()), ..ThreadWait::default() };
        Call::of(&Thread::default(), Some(&wait), Arch::X86_64, memory).unwrap()
    };
    assert_eq!(of(&said, &memory(&[])).name, Some("poll"));
    let restarted = SystemCall { number: 219, ..said.clone() };
    let call = of(&restarted, &memory(&[(CODE - 7, &[0xb8, 7, 0, 0, 0, 0x0f, 0x05])]));
    assert_eq!((call.name, call.restarted), (Some("poll"), true));
    // Too few, from a damaged snapshot.
    let call = of(&SystemCall { arguments: vec![1], ..said }, &memory(&[]));
    assert_eq!((call.arguments, call.timeout), ([Some(1), None, None, None, None, None], None));
    assert!(call.files.more);
}

#[test]
fn aarch64_is_put_back_on_its_svc_or_stays_behind_it() {
    let thread = |x0: i64, pc: u64| {
        let values = [(0, x0.cast_unsigned()), (1, SP), (2, 10), (3, 0), (4, 0), (5, 0), (8, 63), (32, pc)];
        let values = values.map(|(number, value)| Register { number, value }).to_vec();
        Thread { registers: Some(Registers { values, ..Registers::default() }), ..Thread::default() }
    };
    let code = memory(&[(CODE, &[SVC, [0; 4]].concat())]);
    let call = Call::of(&thread(3, CODE), None, Arch::AARCH64, &code).unwrap();
    assert_eq!((call.name, descriptors(&call)), (Some("read"), &[3][..]));
    // EINTR is where the descriptor was.
    let call = Call::of(&thread(-4, CODE + 4), None, Arch::AARCH64, &code).unwrap();
    assert_eq!((call.name, descriptors(&call), call.files.more), (Some("read"), &[][..], true));
    assert_eq!((call.arguments[0], call.arguments[1]), (None, Some(SP)));
    assert_eq!(Call::of(&thread(10, CODE + 4), None, Arch::AARCH64, &code), None, "it is over");
    assert_eq!(Call::of(&thread(-4, CODE + 8), None, Arch::AARCH64, &code), None, "other code");
    assert_eq!(Call::of(&thread(3, 0), None, Arch::AARCH64, &memory(&[])), None);
}

#[test]
fn descriptors_are_what_the_kernel_takes_them_for() {
    let nothing = memory(&[]);
    // It takes 32 bits; a negative one is none.
    assert_eq!(descriptors(&of(0, &[1 << 40], &nothing)), [0]);
    assert_eq!(descriptors(&of(0, &[u64::MAX], &nothing)), []);
    assert_eq!(descriptors(&of(0, &[0x8000_0000], &nothing)), []);
    assert_eq!(descriptors(&of(40, &[5, 6], &nothing)), [5, 6], "sendfile");
    assert_eq!(descriptors(&of(275, &[5, 0, 6], &nothing)), [5, 6], "splice");
    assert_eq!(descriptors(&of(40, &[5, 5], &nothing)), [5], "each once");
    assert_eq!(descriptors(&of(247, &[3, 9], &nothing)), [9], "waitid of a pidfd");
    assert_eq!(descriptors(&of(247, &[1, 9], &nothing)), [], "waitid of a pid");
    assert_eq!(descriptors(&of(39, &[9], &nothing)), [], "getpid");
    assert_eq!(descriptors(&of(1 << 40, &[9], &nothing)), [], "no call at all");
}

#[test]
fn the_files_of_poll_are_in_memory() {
    let entry = |descriptor: i32| [&descriptor.to_le_bytes()[..], &[1, 0, 0, 0]].concat();
    let array = [entry(4), entry(-1), entry(3), entry(4)].concat();
    let with = memory(&[(SP, &array)]);
    let call = of(7, &[SP, 4, u64::from(u32::MAX)], &with);
    assert_eq!((descriptors(&call), call.files.more, call.timeout), (&[4, 3][..], false, Some(Timeout::Never)));
    // More than is read; more than there are; nowhere; and none at all.
    let many: Vec<u8> = (0..64).flat_map(entry).collect();
    let call = of(7, &[SP, 1 << 31, 0], &memory(&[(SP, &many)]));
    assert_eq!((call.files.descriptors.len(), call.files.more, call.timeout), (64, true, Some(Timeout::Given(0))));
    for (address, count) in [(SP, 5), (0, 1), (u64::MAX, 1 << 31), (u64::MAX - 7, 64), (SP, u64::MAX)] {
        let call = of(7, &[address, count, 0], &with);
        assert_eq!((descriptors(&call), call.files.more), (&[][..], true), "{address:#x} {count}");
    }
    let call = of(7, &[0, 1 << 32, 5], &with);
    assert_eq!((descriptors(&call), call.files.more), (&[][..], false), "the kernel takes 32 bits of the count");
}

#[test]
fn the_files_of_select_are_bits() {
    let read = words(&[1 << 3 | 1 << 63, 1]);
    let write = words(&[1 << 5, 1 << 2]);
    let with = memory(&[(SP, &read), (SP + 64, &write)]);
    let call = of(23, &[67, SP, SP + 64, 0, 0], &with);
    assert_eq!((descriptors(&call), call.files.more), (&[3, 5, 63, 64, 66][..], false));
    assert_eq!(call.timeout, Some(Timeout::Never));
    assert_eq!(descriptors(&of(23, &[66, SP, SP + 64, 0, 0], &with)), [3, 5, 63, 64], "under the number");
    // No set, a negative number, a set that is not known.
    assert_eq!(of(23, &[67, 0, 0, 0, 0], &with).files, Files::default());
    assert_eq!(of(23, &[u64::from(u32::MAX), SP, 0, 0, 0], &with).files, Files::default());
    let call = of(23, &[67, SP, 7, u64::MAX, 0], &with);
    assert_eq!((descriptors(&call), call.files.more), (&[3, 63, 64][..], true));
    let call = of(23, &[1 << 30, SP, 0, 0, 0], &with);
    assert_eq!((descriptors(&call), call.files.more), (&[][..], true));
}

#[test]
fn times_are_in_memory() {
    const NEVER: Option<Timeout> = Some(Timeout::Never);
    let with = memory(&[
        (SP, &words(&[2, 500_000])),
        (SP + 16, &words(&[1, 1_000_000_000])),
        (SP + 32, &words(&[u64::MAX, 0])),
    ]);
    let given = |ns| Some(Timeout::Given(ns));
    // nanosleep, clock_nanosleep relative and absolute, semtimedop, rt_sigtimedwait, io_getevents.
    assert_eq!(of(35, &[SP], &with).timeout, given(2_000_500_000));
    assert_eq!(of(230, &[1, 0, SP], &with).timeout, given(2_000_500_000));
    assert_eq!(of(230, &[1, 1, SP], &with).timeout, Some(Timeout::Until(Clock::Monotonic, 2_000_500_000)));
    assert_eq!(of(230, &[0, 1, SP], &with).timeout, Some(Timeout::Until(Clock::Realtime, 2_000_500_000)));
    assert_eq!(of(230, &[7, 1, SP], &with).timeout, None, "CLOCK_BOOTTIME");
    assert_eq!(of(220, &[1, 2, 3, SP], &with).timeout, given(2_000_500_000));
    assert_eq!(of(128, &[1, 2, SP], &with).timeout, given(2_000_500_000));
    assert_eq!(of(208, &[1, 2, 3, 4, 0], &with).timeout, NEVER);
    // select has microseconds; both write back what is left.
    assert_eq!(of(23, &[0, 0, 0, 0, SP], &with).timeout, Some(Timeout::Left(2_500_000_000)));
    assert_eq!(of(270, &[0, 0, 0, 0, SP], &with).timeout, Some(Timeout::Left(2_000_500_000)));
    let said = SystemCall { number: 270, arguments: vec![0, 0, 0, 0, SP, 0], ..SystemCall::default() };
    let wait = ThreadWait { system_call: Some(said), ..ThreadWait::default() };
    let call = Call::of(&Thread::default(), Some(&wait), Arch::X86_64, &with).unwrap();
    assert_eq!(call.timeout, given(2_000_500_000), "nothing was interrupted");
    // No time at all: more nanoseconds than a second has, and what lies nowhere. Longer than anybody lives.
    assert_eq!(of(35, &[SP + 16], &with).timeout, None);
    assert_eq!(of(35, &[u64::MAX - 3], &with).timeout, None);
    assert_eq!(of(35, &[SP + 32], &with).timeout, NEVER);
    // epoll_wait.
    assert_eq!(of(232, &[5, SP, 10, 250], &with).timeout, given(250_000_000));
    assert_eq!(of(232, &[5, SP, 10, u64::from(u32::MAX)], &with).timeout, NEVER);
}

#[test]
fn the_operation_of_a_futex_tells_what_its_time_means() {
    let with = memory(&[(SP, &words(&[2, 0]))]);
    let timeout = |operation: u64| of(202, &[0x1000, operation, 0, SP], &with).timeout;
    assert_eq!(timeout(0x80), Some(Timeout::Given(2_000_000_000)), "FUTEX_WAIT");
    assert_eq!(timeout(0x89), Some(Timeout::Until(Clock::Monotonic, 2_000_000_000)), "FUTEX_WAIT_BITSET");
    assert_eq!(timeout(0x189), Some(Timeout::Until(Clock::Realtime, 2_000_000_000)));
    assert_eq!(timeout(0x86), Some(Timeout::Until(Clock::Realtime, 2_000_000_000)), "FUTEX_LOCK_PI");
    assert_eq!(timeout(0x8d), Some(Timeout::Until(Clock::Monotonic, 2_000_000_000)), "FUTEX_LOCK_PI2");
    assert_eq!(timeout(0x81), None, "FUTEX_WAKE: what is there is a count");
    assert_eq!(timeout(u64::MAX), None);
    let call = of(202, &[0x1000, 0x189, 0, 0], &with);
    assert_eq!((call.futex, call.timeout), (Some(Address(0x1000)), Some(Timeout::Never)));
}
