//! The kernel's signal frame. The vDSO's trampoline has CFI in some kernels, and what that says is wrong: it leads to the caller of
//! the interrupted function, for the kernel links its frame record so. The bytes tell.

use super::{PC, SP};
use crate::registers::RegisterFile;
use crate::rules::Failure;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// `mov x8, #139; svc #0`: `rt_sigreturn`.
const SIGRETURN: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];

/// From sp, in a frame of the trampoline, to x0: a `siginfo` of 128 bytes; of the `ucontext` 176, the mask padded to 1024 bits
/// among them; the address of a fault.
const X0: u64 = 128 + 176 + 8;

/// x0 to x30, sp, pc.
const COUNT: usize = 33;

/// Whether the code at `pc` is the trampoline. Code that is not to be had is not.
pub(crate) fn is_at(pc: Address, memory: &dyn Memory) -> bool {
    memory.read_array(pc) == Ok(SIGRETURN)
}

/// The registers of the interrupted frame.
pub(crate) fn interrupted(sp: u64, memory: &dyn Memory) -> Result<RegisterFile, Failure> {
    let saved: [u8; COUNT * 8] = memory.read_array(Address(sp.wrapping_add(X0)))?;
    let (values, _) = saved.as_chunks::<8>();
    let mut registers = RegisterFile::unknown();
    // In the order of their DWARF numbers.
    for (number, value) in (0..=SP).chain([PC]).zip(values) {
        registers.set(number, Some(u64::from_le_bytes(*value)));
    }
    Ok(registers)
}
