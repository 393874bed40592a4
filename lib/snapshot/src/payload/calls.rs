//! `calls`: answers to "which calls are at this svma?": inlined functions and lines, from debug information. Recorded on
//! request only.

use super::first_version;
use crate::address::Svma;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type CallAnswers = CallsV1;

/// The `calls` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsV1 {
    /// Names and paths, named by index.
    pub texts: Vec<Bytes>,
    /// What was asked, and the answer, by module and svma.
    pub answers: Vec<CallAnswerV1>,
}

/// One question and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAnswerV1 {
    /// Index into `modules`.
    pub module: u32,
    /// The svma asked for.
    pub svma: Svma,
    /// The functions inlined there, each into the next, and the one that the code is of. Empty without debug information.
    pub calls: Vec<CallV1>,
    /// The file that holds more of it and was not read (`.dwo`): index into [`CallsV1::texts`].
    pub lacking: Option<u32>,
}

/// One call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallV1 {
    /// The function's raw name: index into [`CallsV1::texts`].
    pub function: Option<u32>,
    /// The source file: index into [`CallsV1::texts`].
    pub file: Option<u32>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

first_version!(CallsV1, CALLS);
