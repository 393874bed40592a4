//! The system call that a thread sleeps in: which it is, and what its arguments say: which files, which futex, how long.
//!
//! Asked twice, of a stopped thread by `pyst-grab`, so that what the arguments point to is recorded, and of the snapshot by
//! `pyst-fmt`. What must hold:
//!
//! - What is not known is absent. An argument is what the kernel takes it for: of a descriptor, the lower 32 bits.
//! - Arguments are the target's: what they point to is read with a bound, and may be anything.
//!
//! No operating system here: numbers and bits are the kernel's interface, which does not change.
#![deny(missing_docs)]

mod arguments;
mod call;
mod names;

pub use arguments::{Clock, Files, Timeout};
pub use call::{Arguments, Call, is_restart};
