//! What a stage is, and how it hands out what it makes.

use pyst_snapshot::payload::{Diagnostic, Stage};
use pyst_snapshot::{Payload, RawSection, SectionKind, WireError};

/// What a stage is: its name, and what it makes of which sections.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// As which it speaks in diagnostics.
    pub stage: Stage,
    /// The tool's name.
    pub tool: &'static str,
    /// What it adds, in words: "Python frames".
    pub adds: &'static str,
    /// The kinds of sections that its work depends on; no others are kept for it.
    pub reads: &'static [SectionKind],
    /// The kinds of sections that its work may result in.
    pub writes: &'static [SectionKind],
    /// When it begins to work.
    pub begins: Begins,
}

/// When a stage begins to work on a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// When `pyst-grab` has said its last, while a stage before this one may be at its work. What is added is held until the end.
    Early,
    /// When all has come. What is added is written as it is made, so that it may be large.
    AtTheEnd,
}

/// What a stage adds to a snapshot, while it works.
pub struct Adding<'a> {
    put: &'a mut dyn FnMut(RawSection),
    /// What it could not do.
    pub diagnostics: Vec<Diagnostic>,
    /// Lines for standard error.
    pub notes: Vec<String>,
}

impl<'a> Adding<'a> {
    pub(crate) fn to(put: &'a mut dyn FnMut(RawSection)) -> Adding<'a> {
        Adding { put, diagnostics: Vec::new(), notes: Vec::new() }
    }

    /// Adds a section. Those of its kinds that an earlier run of the stage made are replaced.
    pub fn put(&mut self, section: RawSection) {
        (self.put)(section);
    }

    /// Adds `payload` as a section.
    ///
    /// # Errors
    /// It is too large for one.
    pub fn add<P: Payload>(&mut self, payload: &P) -> Result<(), WireError> {
        self.put(RawSection::of(payload)?);
        Ok(())
    }
}
