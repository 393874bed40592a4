//! x86_64: registers by DWARF number (psABI, figure 3.36), and what its code looks like.

mod callee;
mod epilogue;
mod pointer;
mod trampoline;

pub(crate) use callee::{called_by, follows_call};
pub(crate) use epilogue::run as run_epilogue;
pub(crate) use pointer::{is_in_frame_of, makes_frame};
pub(crate) use trampoline::{interrupted, is_at as is_trampoline};

use crate::registers::RegisterSet;

/// rbx.
pub(crate) const RBX: usize = 3;
/// rbp.
pub(crate) const RBP: usize = 6;
/// rsp.
pub(crate) const RSP: usize = 7;
/// The return address column, which holds rip.
pub(crate) const RIP: usize = 16;

/// The registers that the psABI has a function keep for its caller: rbx, rbp, r12 to r15.
pub(crate) const CALLEE_SAVED: RegisterSet = RegisterSet::of(&[RBX, RBP, 12, 13, 14, 15]);
