//! What `pyst-fmt` shows: the merge of native and Python frames, the report model, and one file per output format.
//!
//! A [`Report`] is a pure function of a snapshot: the same bytes give the same report anywhere, whatever the order the
//! stages ran in. What must hold:
//!
//! - Any snapshot gives a report. What is damaged, missing or contradictory is said in its diagnostics, and the rest shown.
//! - Time and memory are bounded by the size of the snapshot; names, which every frame may repeat, are shared and cut.
//! - In text, no string of the target can drive the terminal or forge a line ([`text`]).
//!
//! This crate knows the snapshot only: no process, no file, no symbol table.
#![deny(missing_docs)]

mod assemble;
mod cut;
mod doing;
mod frames;
mod internal;
pub mod json;
mod kernel;
pub mod merge;
pub mod model;
pub mod schema;
mod sections;
mod signals;
pub mod text;
mod threads;
mod time;
mod verdicts;
pub mod words;

pub use assemble::Assembly;
pub use model::Report;
pub use sections::{Incoming, Sections};
