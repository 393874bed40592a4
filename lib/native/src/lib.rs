//! Native frames: from a thread's registers to its chain of callers, with names.
//!
//! [`unwind`] is a pure function of registers, memory, modules and the answers of files. The capture runs it once over
//! recorders, and the analysis runs it again over what they kept: the same frames come out. What must hold:
//!
//! - Every frame says how it was found, every stack why it ends. A frame that cannot be vouched for is not shown.
//! - All registers are tracked, each known or not; a rule that needs an unknown one ends the stack.
//! - Registers, memory and CFI are hostile: every loop is bounded, and nothing panics.
//!
//! Targets are x86_64 and aarch64; what differs between them is behind `Machine`.
#![deny(missing_docs)]

mod aarch64;
mod demangle;
mod diagnose;
mod expression;
mod machine;
mod mapped;
mod names;
mod places;
mod registers;
mod replay;
mod row;
mod rules;
mod step;
mod walk;
mod x86_64;

pub use replay::{SECTIONS_READ, unwind_each_from_snapshot, unwind_from_snapshot};
pub use walk::{Evidence, MAX_FRAMES, Unwound, unwind, unwind_each};
