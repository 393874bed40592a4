//! The Python runtime of a target: finding it, and walking its interpreters, thread states and frames.
//!
//! Everything here reads through [`pyst_memory::Memory`] and never learns what is behind it. What must hold:
//!
//! - **No version in the walk.** Where fields are and what they mean is data (`layout`); a new version is a table, its
//!   semantics and its tests.
//! - **Nothing read is trusted.** Lengths, counts and chains are bounded by named limits, nothing recurses, and a defect
//!   costs the item that has it, with a diagnostic.
//! - **Whole structures are read**, so that a recorder under the walk keeps what a later version's walk needs; of thread states
//!   all but the buffers that they have since 3.14.
//! - Results are a function of the arguments.
#![deny(missing_docs)]

mod chain;
mod chunks;
mod code;
mod doubts;
mod evidence;
mod exceptions;
#[cfg(test)]
mod fake;
mod find;
mod frames;
mod layout;
mod location;
mod locks;
mod naming;
mod object;
mod replay;
mod states;
mod text;
mod threads;
mod values;
mod variables;
mod walk;

pub use exceptions::{Exceptions, exceptions};
pub use find::{Target, find_runtime};
pub use replay::{SECTIONS_READ, no_python, variables_of_snapshot, walk_snapshot};
pub use states::{Alone, States};
pub use variables::variables;
pub use walk::{Walked, walk, walk_only};
