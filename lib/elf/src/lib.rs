//! The file seam: questions to the files mapped into a target, and their answers.
//!
//! Later stages never see a file's bytes. They ask [`Files`] which CIE and FDE cover an svma, and which symbol; only the
//! answers are recorded, so a snapshot carries hundreds of bytes where the files have megabytes. Three things answer:
//! the files themselves (`ElfFiles`), a snapshot's recorded answers (`RecordedFiles`), and a `FileRecorder` around
//! either, which keeps what was asked. Whoever evaluates an answer cannot tell them apart.
#![deny(missing_docs)]

mod cfi;
mod companions;
mod debugdata;
mod dwarf;
mod dynamic;
mod error;
mod file;
mod files;
mod parallel;
mod reach;
mod recorded;
mod recorder;
mod seam;
mod search;
mod symbols;

pub use companions::Open;
pub use dwarf::{Call, Calls};
pub use error::ElfError;
pub use file::{ElfFile, LoadSegment};
pub use files::{ElfFiles, Opener};
pub use reach::{Device, Reach};
pub use recorded::RecordedFiles;
pub use recorder::{Fallback, FileRecorder, RecordedAnswers, WithoutCalls};
pub use seam::{Answer, CfiEntry, Files, ModuleId, ModuleTable, SymbolHit};
pub use search::{Search, split_list};
