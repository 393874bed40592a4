//! Which system call a thread is in, by its registers.

use crate::arguments::{self, Files, Said, Timeout};
use crate::names;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{Arch, Registers, SystemCall, Thread, ThreadWait};

/// The system call that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its name, where the number is known.
    pub name: Option<&'static str>,
    /// The registers of its arguments, which may be fewer; `None` for one that is not known.
    pub arguments: Arguments,
    /// Whether it was interrupted before, and went on: the kernel then says `restart_syscall`.
    pub restarted: bool,
    /// The files it waits for.
    pub files: Files,
    /// The futex it waits for.
    pub futex: Option<Address>,
    /// How long it waits at most; `None` where that is not known, or no argument of it says so.
    pub timeout: Option<Timeout>,
}

/// The six registers of a system call's arguments.
pub type Arguments = [Option<u64>; 6];

/// DWARF numbers, of x86_64: rax, rip, and the arguments rdi rsi rdx r10 r8 r9.
const RAX: u16 = 0;
const RIP: u16 = 16;
const X86_64_ARGUMENTS: [u16; 6] = [5, 4, 1, 10, 8, 9];

/// Of aarch64: x0 has the result, x8 has the number, x0 to x5 the arguments.
const X0: u16 = 0;
const X8: u16 = 8;
const PC: u16 = 32;

/// `svc #0`
const SVC: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// `restart_syscall` of x86_64.
const RESTART: u64 = 219;

/// Those that the kernel restarts so, for their time is running.
const RESTARTED: [u64; 4] = [POLL, NANOSLEEP, FUTEX, CLOCK_NANOSLEEP];
const POLL: u64 = 7;
const NANOSLEEP: u64 = 35;
const FUTEX: u64 = 202;
const CLOCK_NANOSLEEP: u64 = 230;

impl Call {
    /// The system call that a thread is in, by its registers, or, if it has none, by what `/proc` said of it; `None` when it
    /// is in none, or it is not known.
    pub fn of(thread: &Thread, wait: Option<&ThreadWait>, arch: Arch, memory: &dyn Memory) -> Option<Call> {
        let (asked, arguments, pc) = match (&thread.registers, arch) {
            (Some(registers), Arch::X86_64) => of_x86_64(registers)?,
            (Some(registers), Arch::AARCH64) => of_aarch64(registers, memory)?,
            (Some(_), _) => return None,
            (None, _) => of_proc(wait?.system_call.as_ref()?),
        };
        let restarted = is_restart(asked, arch);
        let original = || loaded_number(pc, memory).or_else(|| said_number(wait?, &arguments));
        let number = if restarted { original().unwrap_or(asked) } else { asked };
        let name = names::name(arch, number);
        // The kernel writes back what is left of some timeouts when it is interrupted.
        let result = if arch == Arch::AARCH64 { X0 } else { RAX };
        let interrupted = thread.registers.as_ref().is_some_and(|registers| registers.get(result).is_some());
        let Said { files, futex, timeout } = arguments::read(name.unwrap_or_default(), &arguments, interrupted, memory);
        Some(Call { number, name, arguments, restarted, files, futex, timeout })
    }
}

/// Whether a call goes on with another one (`restart_syscall`). Which that is, the wait channel may have to tell.
#[must_use]
pub fn is_restart(number: u64, arch: Arch) -> bool {
    arch == Arch::X86_64 && number == RESTART
}

/// The number, the arguments and the program counter of a call.
type Asked = (u64, Arguments, Address);

fn of_proc(said: &SystemCall) -> Asked {
    let mut values = said.arguments.iter().copied();
    (said.number, std::array::from_fn(|_| values.next()), said.program_counter)
}

/// The kernel leaves the number in orig_rax until the thread is back in its own code; rax tells whether the call is over. It is
/// not known of a thread that slept and was not stopped.
fn of_x86_64(registers: &Registers) -> Option<Asked> {
    let number = registers.system_call.filter(|_| registers.get(RAX).is_none_or(is_interruption))?;
    let arguments = X86_64_ARGUMENTS.map(|argument| registers.get(argument));
    Some((number, arguments, Address(registers.get(RIP)?)))
}

/// What `restart_syscall` goes on with, by the code: `mov $number, %eax; syscall` before `pc`.
fn loaded_number(pc: Address, memory: &dyn Memory) -> Option<u64> {
    match memory.read_array(Address(pc.0.checked_sub(7)?)).ok()? {
        [0xb8, a, b, c, d, 0x0f, 0x05] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
    .filter(|number| RESTARTED.contains(number))
}

/// The same by what the kernel said before the stop, if the thread was in a call with the same arguments then. glibc 2.41 and
/// later make all calls with the same few instructions.
fn said_number(wait: &ThreadWait, arguments: &Arguments) -> Option<u64> {
    let (number, before, _) = of_proc(wait.system_call.as_ref()?);
    if before != *arguments {
        return None;
    }
    if number != RESTART {
        return Some(number).filter(|number| RESTARTED.contains(number));
    }
    let channel = wait.wait_channel.as_ref()?.0.as_slice();
    let is =
        |parts: &[&str]| parts.iter().any(|part| channel.windows(part.len()).any(|window| window == part.as_bytes()));
    match () {
        () if is(&["futex_"]) => Some(FUTEX),
        () if is(&["poll_schedule_timeout", "do_poll", "do_sys_poll"]) => Some(POLL),
        // One has the number of a clock for its first argument, the other a pointer.
        () if is(&["nanosleep"]) => Some(if arguments.first().copied()?? < 4096 { CLOCK_NANOSLEEP } else { NANOSLEEP }),
        () => None,
    }
}

/// Before a signal or a tracer is served, `do_signal` of the kernel (arch/arm64/kernel/signal.c) puts the program counter
/// back on `svc`, and the first argument in its place, and forgets the number, which x8 still has. A call that is not to be
/// restarted stays behind `svc`, and its result is where its first argument was.
fn of_aarch64(registers: &Registers, memory: &dyn Memory) -> Option<Asked> {
    let (number, pc) = (registers.get(X8)?, registers.get(PC)?);
    let is_svc = |address: u64| memory.read_array(Address(address)).is_ok_and(|bytes: [u8; 4]| bytes == SVC);
    let mut arguments = [0, 1, 2, 3, 4, 5].map(|argument| registers.get(argument));
    if is_svc(pc) {
        return Some((number, arguments, Address(pc)));
    }
    let result = std::mem::take(arguments.first_mut()?)?;
    (is_interruption(result) && is_svc(pc.checked_sub(4)?)).then_some((number, arguments, Address(pc)))
}

/// Whether a call's result says that it was interrupted: EINTR, or one of the kernel's own, ERESTARTSYS (512) to
/// ERESTART_RESTARTBLOCK (516), which no program sees.
fn is_interruption(result: u64) -> bool {
    matches!(result.cast_signed(), -4 | -514..=-512 | -516)
}

#[cfg(test)]
mod tests;
