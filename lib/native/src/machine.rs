//! What differs between instruction sets.

use crate::aarch64;
use crate::registers::{RegisterFile, RegisterSet};
use crate::rules::Failure;
use crate::x86_64;
use gimli::Vendor;
use pyst_memory::Memory;
use pyst_snapshot::Address;
use pyst_snapshot::payload::Arch;

/// An instruction set, and what of a capture belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64 {
        /// The bits of a code address that hold its signature.
        pac_mask: u64,
    },
}

impl Machine {
    pub(crate) fn of(arch: Arch, pac_mask: u64) -> Option<Machine> {
        match arch {
            Arch::X86_64 => Some(Machine::X86_64),
            Arch::AARCH64 if pac_mask == 0 => Some(Machine::Aarch64 { pac_mask: aarch64::PAC_MASK }),
            Arch::AARCH64 => Some(Machine::Aarch64 { pac_mask }),
            _ => None,
        }
    }

    /// DWARF number of the program counter.
    pub(crate) fn pc(self) -> usize {
        match self {
            Machine::X86_64 => x86_64::RIP,
            Machine::Aarch64 { .. } => aarch64::PC,
        }
    }

    /// DWARF number of the stack pointer.
    pub(crate) fn sp(self) -> usize {
        match self {
            Machine::X86_64 => x86_64::RSP,
            Machine::Aarch64 { .. } => aarch64::SP,
        }
    }

    /// DWARF number of the frame pointer.
    pub(crate) fn frame_pointer(self) -> usize {
        match self {
            Machine::X86_64 => x86_64::RBP,
            Machine::Aarch64 { .. } => aarch64::X29,
        }
    }

    /// The column of CFI that tells where a function returns to.
    pub(crate) fn return_column(self) -> usize {
        match self {
            Machine::X86_64 => x86_64::RIP,
            Machine::Aarch64 { .. } => aarch64::X30,
        }
    }

    /// The register that a function returns to as long as it has not saved it. A call puts the return address there; one of
    /// x86_64 pushes it.
    pub(crate) fn link(self) -> Option<usize> {
        match self {
            Machine::X86_64 => None,
            Machine::Aarch64 { .. } => Some(aarch64::X30),
        }
    }

    /// The registers that a function must keep for its caller. (The stack pointer, which it also keeps, is the CFA.)
    pub(crate) fn callee_saved(self) -> RegisterSet {
        match self {
            Machine::X86_64 => x86_64::CALLEE_SAVED,
            Machine::Aarch64 { .. } => aarch64::CALLEE_SAVED,
        }
    }

    /// A code address without its signature.
    pub(crate) fn without_signature(self, address: u64) -> u64 {
        match self {
            Machine::X86_64 => address,
            Machine::Aarch64 { pac_mask } => address & !pac_mask,
        }
    }

    /// Whose extensions to CFI may be met.
    pub(crate) fn vendor(self) -> Vendor {
        match self {
            Machine::X86_64 => Vendor::Default,
            Machine::Aarch64 { .. } => Vendor::AArch64,
        }
    }

    /// Whether a call ends right before `address`; `None` when the code is not to be had.
    pub(crate) fn follows_call(self, address: Address, memory: &dyn Memory) -> Option<bool> {
        match self {
            Machine::X86_64 => x86_64::follows_call(address, memory),
            Machine::Aarch64 { .. } => aarch64::follows_call(address, memory),
        }
    }

    /// Whether the function that has reached `pc`, and begins at `start`, points the frame pointer to its frame; `None` where nobody
    /// knows.
    pub(crate) fn keeps_frame_pointer(self, start: Option<Address>, pc: Address, memory: &dyn Memory) -> Option<bool> {
        match self {
            Machine::X86_64 => x86_64::makes_frame(start, pc, memory),
            Machine::Aarch64 { .. } => aarch64::makes_record(start, pc, memory),
        }
    }

    /// Where the function starts that the call right before `address` names, if it names one.
    pub(crate) fn called_by(self, address: Address, memory: &dyn Memory) -> Option<Address> {
        match self {
            Machine::X86_64 => x86_64::called_by(address, memory),
            // A function's own code tells enough there.
            Machine::Aarch64 { .. } => None,
        }
    }

    /// Whether `pc` is where the function that starts at `start` has a frame; `None` where that cannot be seen.
    pub(crate) fn is_in_frame_of(self, start: Address, pc: Address, memory: &dyn Memory) -> Option<bool> {
        match self {
            Machine::X86_64 => x86_64::is_in_frame_of(start, pc, memory),
            Machine::Aarch64 { .. } => None,
        }
    }

    /// Whether the code at `pc` is what a signal handler returns to.
    pub(crate) fn is_trampoline(self, pc: Address, memory: &dyn Memory) -> bool {
        match self {
            Machine::X86_64 => x86_64::is_trampoline(pc, memory),
            Machine::Aarch64 { .. } => aarch64::is_trampoline(pc, memory),
        }
    }

    /// The registers that the kernel saved in the signal frame at `sp`.
    pub(crate) fn interrupted(self, sp: u64, memory: &dyn Memory) -> Result<RegisterFile, Failure> {
        match self {
            Machine::X86_64 => x86_64::interrupted(sp, memory),
            Machine::Aarch64 { .. } => aarch64::interrupted(sp, memory),
        }
    }

    /// The caller's registers, if the next instructions do nothing but return.
    pub(crate) fn run_epilogue(
        self,
        registers: &RegisterFile,
        memory: &dyn Memory,
    ) -> Option<Result<RegisterFile, Failure>> {
        match self {
            Machine::X86_64 => x86_64::run_epilogue(registers, memory),
            // Its code without CFI keeps frame pointers.
            Machine::Aarch64 { .. } => None,
        }
    }
}
