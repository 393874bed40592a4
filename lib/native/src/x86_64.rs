//! x86_64: registers by DWARF number (psABI, figure 3.36), and what its code looks like.

mod callee;
mod epilogue;
mod pointer;
mod trampoline;

pub(crate) use callee::follows_call;
pub(crate) use epilogue::run as run_epilogue;
pub(crate) use pointer::makes_frame;
pub(crate) use trampoline::{interrupted, is_at as is_trampoline};

/// rbx.
pub(crate) const RBX: usize = 3;
/// rbp.
pub(crate) const RBP: usize = 6;
/// rsp.
pub(crate) const RSP: usize = 7;
/// The return address column, which holds rip.
pub(crate) const RIP: usize = 16;

/// Whether the psABI has a function keep the register for its caller.
pub(crate) fn is_callee_saved(number: usize) -> bool {
    matches!(number, RBX | RBP | 12..=15)
}
