//! `unwind`: answers to "which CIE and FDE cover this svma?". Entries are recorded whole, as the file holds them.

use super::first_version;
use crate::address::Svma;
use crate::code::open_enum;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type UnwindAnswers = UnwindV1;

open_enum!(
    /// The kind of section an entry is from; the two encode CIE pointers differently.
    CfiSection {
        /// `.eh_frame`.
        EH_FRAME = 1, "eh_frame";
        /// `.debug_frame`.
        DEBUG_FRAME = 2, "debug_frame";
    }
);

/// The `unwind` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnwindV1 {
    /// Common information entries.
    pub cies: Vec<CieV1>,
    /// Frame description entries, by module and start.
    pub fdes: Vec<FdeV1>,
    /// Svmas that were asked for and that no FDE covers.
    pub absent: Vec<NoCfiV1>,
}

/// A common information entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CieV1 {
    /// Index into `modules`.
    pub module: u32,
    /// The section it is from.
    pub section: CfiSection,
    /// The svma of its first byte (its length field); an offset into the section for `.debug_frame`.
    pub svma: Svma,
    /// Its bytes, length field included.
    pub bytes: Bytes,
}

/// A frame description entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdeV1 {
    /// Index into [`UnwindV1::cies`], which names the module and section.
    pub cie: u32,
    /// The svma of its first byte (its length field), as for the CIE.
    pub svma: Svma,
    /// The first svma it covers.
    pub start: Svma,
    /// The first svma after those it covers.
    pub end: Svma,
    /// Its bytes, length field included.
    pub bytes: Bytes,
}

/// A question that had no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoCfiV1 {
    /// Index into `modules`.
    pub module: u32,
    /// The svma asked for.
    pub svma: Svma,
}

first_version!(UnwindV1, UNWIND);
