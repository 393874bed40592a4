//! aarch64: registers by DWARF number (AADWARF64), and what its code looks like.

mod callee;
mod record;
mod signing;
mod trampoline;

pub(crate) use callee::follows_call;
pub(crate) use record::makes_record;
pub(crate) use signing::pass_over_signing;
pub(crate) use trampoline::{interrupted, is_at as is_trampoline};

use crate::registers::RegisterSet;

/// The frame pointer: it points to a frame record, the caller's x29 and x30.
pub(crate) const X29: usize = 29;
/// The link register, and the return address column.
pub(crate) const X30: usize = 30;
/// sp.
pub(crate) const SP: usize = 31;
/// pc, which CFI does not name.
pub(crate) const PC: usize = 32;

/// The bits that can hold a signature where the capture does not say which do: all that an address of 48 bits leaves, but the one
/// that tells the kernel's addresses.
pub(crate) const PAC_MASK: u64 = 0xff7f_0000_0000_0000;

/// The registers that AAPCS64 has a function keep for its caller.
pub(crate) const CALLEE_SAVED: RegisterSet = RegisterSet::of(&[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, X29]);
