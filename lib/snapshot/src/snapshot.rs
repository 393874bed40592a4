//! One snapshot in memory: its sections as they came, and typed access to those this version knows.

use crate::defect::Defect;
use crate::format::{SectionFlags, SectionKind};
use crate::payload::{Diagnostic, Payload, PayloadError};
use crate::wire::WireError;

/// A section as it is on the wire, known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSection {
    /// What it holds.
    pub kind: SectionKind,
    /// Its flags.
    pub flags: SectionFlags,
    /// The version of its payload's layout.
    pub version: u16,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A snapshot: its sections without END, and what was wrong with its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The sections, in the order of the stream.
    pub sections: Vec<RawSection>,
    /// What the reader found wrong; empty for a sound snapshot.
    pub defects: Vec<Defect>,
}

impl RawSection {
    /// `payload` as a section.
    ///
    /// # Errors
    /// It is too large for one.
    pub fn of<P: Payload>(payload: &P) -> Result<RawSection, WireError> {
        let (kind, flags, version) = (P::KIND, SectionFlags::default(), P::VERSION);
        Ok(RawSection { kind, flags, version, payload: payload.encode()? })
    }

    /// Whether one must know it to make sense of its snapshot, and it is not known here.
    #[must_use]
    pub fn is_unknown_critical(&self) -> bool {
        self.flags.is_critical() && !SectionKind::KNOWN.iter().any(|(known, _)| *known == self.kind)
    }
}

impl Snapshot {
    /// The sections of one kind, undecoded.
    pub fn raw(&self, kind: SectionKind) -> impl Iterator<Item = &RawSection> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }

    /// The first section that holds a `P`, decoded; `None` where the snapshot has none.
    ///
    /// # Errors
    /// The payload has a version this tool does not know, or does not decode.
    pub fn get<P: Payload>(&self) -> Result<Option<P>, PayloadError> {
        self.all().next().transpose()
    }

    /// Every section that holds a `P`, decoded one at a time.
    pub fn all<P: Payload>(&self) -> impl Iterator<Item = Result<P, PayloadError>> {
        self.raw(P::KIND).map(|section| P::decode(section.version, &section.payload))
    }

    /// What is wrong with the bytes this was read from, as diagnostics of [`Stage::STREAM`](crate::payload::Stage::STREAM). Without a `threads` section
    /// nothing usable is left.
    #[must_use]
    pub fn defect_diagnostics(&self) -> Vec<Diagnostic> {
        let usable = self.raw(SectionKind::THREADS).next().is_some();
        self.defects.iter().map(|defect| defect.diagnostic(usable)).collect()
    }

    /// Appends `payload` as a section.
    ///
    /// # Errors
    /// It is too large for a section.
    pub fn append<P: Payload>(&mut self, payload: &P) -> Result<(), WireError> {
        self.sections.push(RawSection::of(payload)?);
        Ok(())
    }

    /// Appends `payload` in the place of every earlier section of its kind: running a stage again replaces its result.
    ///
    /// # Errors
    /// It is too large for a section; then the earlier sections stay.
    pub fn replace<P: Payload>(&mut self, payload: &P) -> Result<(), WireError> {
        let section = RawSection::of(payload)?;
        self.sections.retain(|earlier| earlier.kind != section.kind);
        self.sections.push(section);
        Ok(())
    }
}
