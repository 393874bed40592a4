//! Which system call a thread is in, by its registers.

use crate::arguments::{self, Files, Said, Timeout};
use crate::names;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{Arch, Registers, SystemCall, Thread};

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

/// Of aarch64: x8 has the number, x0 to x5 the arguments.
const X8: u16 = 8;
const PC: u16 = 32;

/// `svc #0`
const SVC: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// `restart_syscall` of x86_64.
const RESTART: u64 = 219;

/// Those that the kernel restarts so, for their time is running: poll, nanosleep, futex, clock_nanosleep.
const RESTARTED: [u64; 4] = [7, 35, 202, 230];

impl Call {
    /// The system call that a thread is in, by its registers, or, if it has none, by what `/proc` said of it; `None` when it
    /// is in none, or it is not known.
    pub fn of(thread: &Thread, said: Option<&SystemCall>, arch: Arch, memory: &dyn Memory) -> Option<Call> {
        let (number, arguments, restarted) = match (&thread.registers, arch) {
            (Some(registers), Arch::X86_64) => of_x86_64(registers, memory)?,
            (Some(registers), Arch::AARCH64) => of_aarch64(registers, memory)?,
            (Some(_), _) => return None,
            (None, _) => of_proc(said?, arch, memory),
        };
        let name = names::name(arch, number);
        // The kernel writes back what is left of some timeouts when it is interrupted.
        let interrupted = thread.registers.is_some();
        let Said { files, futex, timeout } = arguments::read(name.unwrap_or_default(), &arguments, interrupted, memory);
        Some(Call { number, name, arguments, restarted, files, futex, timeout })
    }
}

fn of_proc(said: &SystemCall, arch: Arch, memory: &dyn Memory) -> (u64, Arguments, bool) {
    let mut values = said.arguments.iter().copied();
    let arguments = std::array::from_fn(|_| values.next());
    let pc = Some(said.program_counter).filter(|_| arch == Arch::X86_64);
    let (number, restarted) = original(said.number, pc, memory);
    (number, arguments, restarted)
}

/// The kernel leaves the number in orig_rax until the thread is back in its own code; rax tells whether the call is over.
fn of_x86_64(registers: &Registers, memory: &dyn Memory) -> Option<(u64, Arguments, bool)> {
    let number = registers.system_call.filter(|_| registers.get(RAX).is_some_and(is_interruption))?;
    let arguments = X86_64_ARGUMENTS.map(|argument| registers.get(argument));
    let (number, restarted) = original(number, registers.get(RIP).map(Address), memory);
    Some((number, arguments, restarted))
}

/// The call that `restart_syscall` of x86_64 goes on with, and whether it was that: the arguments are still those of the
/// original, whose number is in the code.
fn original(number: u64, pc: Option<Address>, memory: &dyn Memory) -> (u64, bool) {
    let Some(pc) = pc.filter(|_| number == RESTART) else { return (number, false) };
    let original = loaded_number(pc, memory).filter(|number| RESTARTED.contains(number));
    (original.unwrap_or(number), true)
}

/// The number in `mov $number, %eax; syscall` before `pc`: what the code asked for at first.
fn loaded_number(pc: Address, memory: &dyn Memory) -> Option<u64> {
    match memory.read_array(Address(pc.0.checked_sub(7)?)).ok()? {
        [0xb8, a, b, c, d, 0x0f, 0x05] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// Before a signal or a tracer is served, `do_signal` of the kernel (arch/arm64/kernel/signal.c) puts the program counter
/// back on `svc`, and the first argument in its place, and forgets the number, which x8 still has. A call that is not to be
/// restarted stays behind `svc`, and its result is where its first argument was.
fn of_aarch64(registers: &Registers, memory: &dyn Memory) -> Option<(u64, Arguments, bool)> {
    let (number, pc) = (registers.get(X8)?, registers.get(PC)?);
    let is_svc = |address: u64| memory.read_array(Address(address)).is_ok_and(|bytes: [u8; 4]| bytes == SVC);
    let mut arguments = [0, 1, 2, 3, 4, 5].map(|argument| registers.get(argument));
    if is_svc(pc) {
        return Some((number, arguments, false));
    }
    let result = std::mem::take(arguments.first_mut()?)?;
    (is_interruption(result) && is_svc(pc.checked_sub(4)?)).then_some((number, arguments, false))
}

/// Whether a call's result says that it was interrupted: EINTR, or one of the kernel's own, ERESTARTSYS (512) to
/// ERESTART_RESTARTBLOCK (516), which no program sees.
fn is_interruption(result: u64) -> bool {
    matches!(result.cast_signed(), -4 | -514..=-512 | -516)
}

#[cfg(test)]
mod tests;
