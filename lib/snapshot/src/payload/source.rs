//! `source`: the lines of Python source that the frames are at, read when the snapshot was taken.

use super::first_version;
use crate::text::Text;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Source = SourceV1;
/// The newest version of one file's lines.
pub type SourceFile = SourceFileV1;
/// The newest version of one line.
pub type SourceLine = SourceLineV1;

/// The `source` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceV1 {
    /// The files, sorted by name.
    pub files: Vec<SourceFileV1>,
}

/// The lines of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFileV1 {
    /// `co_filename`, as the code object has it.
    pub file: Text,
    /// Whether the file was changed after the process started, so that its lines may not be those that run. Absent where
    /// one of the two times is unknown.
    pub newer: Option<bool>,
    /// The lines, ascending.
    pub lines: Vec<SourceLineV1>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLineV1 {
    /// Its number, from 1.
    pub line: u32,
    /// Its text, decoded, without its end, leading white space kept.
    pub text: String,
}

first_version!(SourceV1, SOURCE);
