//! The snapshot stream: the one format pyst uses on disk and in every pipe.
//!
//! A stream is any number of snapshots, one after the other. A snapshot is a header, sections, and a closing END
//! section; `schemas/snapshot.md` specifies every byte of it for readers in other languages. What must hold here:
//!
//! - A wire struct (`…V1`) is **frozen once released**: bincode is positional, so an appended field is misread by older
//!   readers without any error. A change is a new payload version with its own struct and a `From`; see [`payload`].
//! - Everything a tool does not know (a section kind, a payload version, an enum code) survives it.
//! - Raw memory is never inside bincode, and only `wire.rs` names bincode.
//! - Input is hostile: every length is bounded before anything is allocated for it.
//!
//! This crate knows neither operating system nor files; it reads from [`std::io::Read`] and writes to
//! [`std::io::Write`].
#![deny(missing_docs)]

mod address;
mod code;
mod defect;
mod format;
mod parts;
pub mod payload;
mod reader;
mod safe;
mod snapshot;
mod text;
mod wire;
mod writer;

pub use address::{Address, Bias, Ident, Range, Svma, Tid};
pub use defect::Defect;
pub use format::{FORMAT_VERSION, MAGIC, MAX_SECTION, SectionFlags, SectionKind};
pub use parts::{Part, Parts};
pub use payload::{Payload, PayloadError};
pub use reader::{Gather, StreamError, StreamReader};
pub use safe::{Safe, first_unsafe, is_unsafe};
pub use snapshot::{RawSection, Snapshot};
pub use text::{Bytes, Text};
pub use wire::WireError;
pub use writer::{SnapshotWriter, write_snapshot};
