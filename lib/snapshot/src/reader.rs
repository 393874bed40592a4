//! Reads whole snapshots from a stream.

use crate::defect::Defect;
use crate::format::FORMAT_VERSION;
use crate::parts::{Part, Parts};
use crate::snapshot::{RawSection, Snapshot};
use std::io::{self, Read};

/// Why no snapshot could be read at this place of a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Reading failed.
    #[error("cannot read the snapshot stream: {0}")]
    Io(#[from] io::Error),
    /// The bytes are something else; the text says what they look like.
    #[error("not a pyst snapshot: {0}")]
    NotASnapshot(&'static str),
    /// The framing is of a version that this tool does not read.
    #[error("the snapshot has format version {found}, this tool reads up to {FORMAT_VERSION}: use a newer pyst")]
    NewerFormat {
        /// The version found.
        found: u16,
    },
}

/// What a snapshot is read into, one part after the other.
pub trait Gather: Default {
    /// What it becomes when all of it has come.
    type Whole;

    /// Adds a section.
    fn add(&mut self, section: RawSection);

    /// Adds what is wrong with its bytes.
    fn add_defect(&mut self, defect: Defect);

    /// The end: there are no more parts.
    fn end(self) -> Self::Whole;
}

impl Gather for Snapshot {
    type Whole = Snapshot;

    fn add(&mut self, section: RawSection) {
        self.sections.push(section);
    }

    fn add_defect(&mut self, defect: Defect) {
        self.defects.push(defect);
    }

    fn end(self) -> Snapshot {
        self
    }
}

impl<R: Read> Parts<R> {
    /// Reads a snapshot to its end. `None` if there is no other; what had come of one before an error is lost.
    ///
    /// # Errors
    /// What is there is no snapshot, or cannot be read.
    pub fn next_snapshot<G: Gather>(&mut self) -> Option<Result<G::Whole, StreamError>> {
        let mut gathered = G::default();
        loop {
            match self.next()? {
                Ok(Part::Begin) => {}
                Ok(Part::Section(section)) => gathered.add(section),
                Ok(Part::Defect(defect)) => gathered.add_defect(defect),
                Ok(Part::End) => return Some(Ok(gathered.end())),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// An iterator over the snapshots of a stream. After an error it is at its end.
#[derive(Debug)]
pub struct StreamReader<R> {
    parts: Parts<R>,
}

impl<R: Read> StreamReader<R> {
    /// A reader at the start of `input`; buffering is the caller's.
    pub fn new(input: R) -> StreamReader<R> {
        StreamReader { parts: Parts::new(input) }
    }

    /// Whether the stream has ended without a single byte.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.parts.was_empty()
    }
}

impl<R: Read> Iterator for StreamReader<R> {
    type Item = Result<Snapshot, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.parts.next_snapshot::<Snapshot>()
    }
}
