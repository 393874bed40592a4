//! The memory seam: bytes at an address, wherever they come from.
//!
//! Every walk over a target reads through [`Memory`]; it never learns whether a living process, a core file, a copy taken
//! during a stop or a snapshot is behind it. That makes replay possible: run the walk once over a [`Recorder`], keep what
//! it read, and it runs again, with the same result, over an [`Image`] of just those bytes. What must hold:
//!
//! - *Never recorded* and *could not be read* stay different answers ([`ReadError`]).
//! - A walk reads whole structures, but for large buffers in them, so that a later version's walk finds the fields it needs too.
//! - Reads are all or nothing. No operating system, no files.
#![deny(missing_docs)]

mod image;
mod ranges;
mod recorder;
mod seam;

pub use image::Image;
pub use ranges::RangeSet;
pub use recorder::Recorder;
pub use seam::{Memory, MemoryExt, ReadError};
