//! Reads whole snapshots from a stream.

use crate::format::FORMAT_VERSION;
use crate::parts::{Part, Parts};
use crate::snapshot::Snapshot;
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
        let mut snapshot = Snapshot::default();
        loop {
            match self.parts.next()? {
                Ok(Part::Begin) => {}
                Ok(Part::Section(section)) => snapshot.sections.push(section),
                Ok(Part::Defect(defect)) => snapshot.defects.push(defect),
                Ok(Part::End) => return Some(Ok(snapshot)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
