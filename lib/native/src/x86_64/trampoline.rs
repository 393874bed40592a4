//! The kernel's signal frame, where no CFI describes it.
//!
//! glibc's `__restore_rt` has CFI; musl's, and a JIT's or Go's own, have none. All are the same nine bytes, which the
//! kernel and gdb know too.

use crate::registers::RegisterFile;
use crate::rules::Failure;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// `mov $15, %rax; syscall`: `rt_sigreturn`.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

/// From sp, in a frame of the trampoline, to the saved registers: `uc_flags`, `uc_link`, `uc_stack` come first.
const GREGS: u64 = 40;

/// The DWARF numbers of the saved registers, in the order of `struct sigcontext`: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax,
/// rcx, rsp, rip.
const ORDER: [usize; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];

/// Whether the code at `pc` is the trampoline. Code that is not to be had is not.
pub(crate) fn is_at(pc: Address, memory: &dyn Memory) -> bool {
    memory.read_array(pc) == Ok(SIGRETURN)
}

/// The registers of the interrupted frame.
pub(crate) fn interrupted(sp: u64, memory: &dyn Memory) -> Result<RegisterFile, Failure> {
    let saved: [u8; ORDER.len() * 8] = memory.read_array(Address(sp.wrapping_add(GREGS)))?;
    let (values, _) = saved.as_chunks::<8>();
    let mut registers = RegisterFile::unknown();
    for (number, value) in ORDER.iter().zip(values) {
        registers.set(*number, Some(u64::from_le_bytes(*value)));
    }
    Ok(registers)
}
