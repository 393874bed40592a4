//! Reads snapshots from a stream that may be cut off, damaged, newer than this tool, or no snapshot at all.

use crate::defect::Defect;
use crate::format::{
    FORMAT_VERSION, MAGIC, MAX_SECTION, MAX_SECTIONS, MAX_SNAPSHOT, SECTION_HEADER, SNAPSHOT_HEADER, SectionHeader,
    SectionKind,
};
use crate::payload::Capture;
use crate::snapshot::{RawSection, Snapshot};
use std::io::{self, ErrorKind, Read};

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
    input: R,
    finished: bool,
    failed: bool,
    snapshots: usize,
}

impl<R: Read> StreamReader<R> {
    /// A reader at the start of `input`; buffering is the caller's.
    pub fn new(input: R) -> StreamReader<R> {
        StreamReader { input, finished: false, failed: false, snapshots: 0 }
    }

    /// Whether the stream has ended without a single byte.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.finished && !self.failed && self.snapshots == 0
    }

    fn read_snapshot(&mut self) -> Result<Option<Snapshot>, StreamError> {
        let mut header = [0; SNAPSHOT_HEADER];
        let got = read_up_to(&mut self.input, &mut header)?;
        if got == 0 {
            return Ok(None);
        }
        check_snapshot_header(header.get(..got).unwrap_or_default())?;
        let mut bytes = got as u64;
        let mut snapshot = Snapshot::default();
        if got < SNAPSHOT_HEADER {
            snapshot.defects.push(Defect::CutOff { sections: 0, bytes });
            self.finished = true;
            return Ok(Some(snapshot));
        }
        let mut sections = 0;
        loop {
            let cut_off = Defect::CutOff { sections, bytes };
            let mut header = [0; SECTION_HEADER];
            let got = read_up_to(&mut self.input, &mut header)?;
            bytes += got as u64;
            if got < SECTION_HEADER {
                self.end_early(&mut snapshot, cut_off);
                break;
            }
            let Some(header) = SectionHeader::from_bytes(&header).filter(|header| {
                header.length <= MAX_SECTION && bytes + header.length <= MAX_SNAPSHOT && sections < MAX_SECTIONS
            }) else {
                self.end_early(&mut snapshot, Defect::Unreadable { bytes });
                break;
            };
            let mut payload = Vec::new();
            // `take` grows the buffer as bytes arrive: a length that lies costs nothing.
            let got = self.input.by_ref().take(header.length).read_to_end(&mut payload)? as u64;
            bytes += got;
            if got < header.length {
                self.end_early(&mut snapshot, cut_off);
                break;
            }
            sections += 1;
            if crc32fast::hash(&payload) != header.payload_crc {
                snapshot.defects.push(Defect::Damaged { kind: header.kind });
            } else if header.kind == SectionKind::END {
                break;
            } else {
                let SectionHeader { kind, flags, version, .. } = header;
                snapshot.sections.push(RawSection { kind, flags, version, payload });
            }
        }
        note_unknown_critical(&mut snapshot);
        Ok(Some(snapshot))
    }

    fn end_early(&mut self, snapshot: &mut Snapshot, defect: Defect) {
        snapshot.defects.push(defect);
        self.finished = true;
    }
}

impl<R: Read> Iterator for StreamReader<R> {
    type Item = Result<Snapshot, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.read_snapshot().transpose();
        match &item {
            Some(Ok(_)) => self.snapshots += 1,
            Some(Err(_)) => (self.failed, self.finished) = (true, true),
            None => self.finished = true,
        }
        item
    }
}

fn note_unknown_critical(snapshot: &mut Snapshot) {
    let known = |kind| SectionKind::KNOWN.iter().any(|(known, _)| *known == kind);
    let unknown = snapshot.sections.iter().find(|section| section.flags.is_critical() && !known(section.kind));
    if let Some(&RawSection { kind, version, .. }) = unknown {
        let tool = match snapshot.get::<Capture>() {
            Ok(Some(capture)) => capture.tool,
            _ => "a newer pyst".to_owned(),
        };
        snapshot.defects.push(Defect::UnknownCritical { kind, version, tool });
    }
}

/// Checks as much of a snapshot header as there is: fewer than 16 bytes that agree so far are a cut-off snapshot.
fn check_snapshot_header(header: &[u8]) -> Result<(), StreamError> {
    let magic = header.get(..MAGIC.len().min(header.len())).unwrap_or_default();
    if !MAGIC.starts_with(magic) {
        return Err(StreamError::NotASnapshot(what_it_looks_like(header)));
    }
    let Some((fields, crc)) = header.split_last_chunk::<4>().filter(|_| header.len() == SNAPSHOT_HEADER) else {
        return Ok(());
    };
    if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
        return Err(StreamError::NotASnapshot("its header is damaged (CRC-32 mismatch): copy it again"));
    }
    let found = fields.get(8..10).and_then(|v| v.first_chunk()).map_or(0, |v| u16::from_le_bytes(*v));
    if found != FORMAT_VERSION {
        return Err(StreamError::NewerFormat { found });
    }
    Ok(())
}

fn what_it_looks_like(header: &[u8]) -> &'static str {
    match header {
        [0x1f, 0x8b, ..] => "it is gzip-compressed, decompress it first (gzip -dc)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is zstd-compressed, decompress it first (zstd -dc)",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "it is xz-compressed, decompress it first (xz -dc)",
        [0x7f, b'E', b'L', b'F', ..] => "it is an ELF file; give a core file to pyst-grab",
        [0x89, b'P', b'Y', b'S', ..] | [b'P', b'Y', b'S', ..] => {
            "it was mangled by a text-mode transfer, copy it again as binary"
        }
        _ => "it starts with other bytes",
    }
}

/// Fills `buffer` as far as the input goes; a short count means the input has ended.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
