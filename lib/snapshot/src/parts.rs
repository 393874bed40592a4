//! The framing of a stream that may be cut off, damaged, newer than this tool, or no snapshot at all: each part of it as soon as
//! it has come, so that a tool need not wait for the rest, nor hold it.

use crate::defect::Defect;
use crate::format::{
    FORMAT_VERSION, MAGIC, MAX_SECTION, MAX_SECTIONS, MAX_SNAPSHOT, SECTION_HEADER, SNAPSHOT_HEADER, SectionHeader,
    SectionKind,
};
use crate::payload::{Capture, Payload};
use crate::reader::StreamError;
use crate::snapshot::RawSection;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

/// As much room is made for a payload before any of it has come: enough for `memory`, and not what a length may lie of.
const FIRST_ROOM: u64 = 4 << 20;

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A snapshot begins. Its end follows, or an error.
    Begin,
    /// A section of it.
    Section(RawSection),
    /// Something that is wrong with its bytes.
    Defect(Defect),
    /// The snapshot ends, of itself or with the stream.
    End,
}

/// An iterator over the parts of a stream. After an error it is at its end.
#[derive(Debug)]
pub struct Parts<R> {
    input: R,
    /// The snapshot that has begun and not ended.
    current: Option<Current>,
    /// What comes before anything more is read.
    pending: VecDeque<Part>,
    has_begun: bool,
    was_empty: bool,
    finished: bool,
}

/// What must be known of a snapshot while it is read.
#[derive(Debug)]
struct Current {
    sections: usize,
    bytes: u64,
    /// The tool that took it, as its first `capture` section says.
    tool: Option<String>,
    /// The first section that is critical and unknown, with its payload's version.
    unknown: Option<(SectionKind, u16)>,
}

/// What is where a section is expected.
enum Found {
    Section(RawSection),
    Damaged(SectionKind),
    End,
    /// Nothing that could be read, nor anything after it.
    Nothing(Defect),
}

impl<R: Read> Parts<R> {
    /// The parts of `input`, from its start; buffering is the caller's.
    pub fn new(input: R) -> Parts<R> {
        let pending = VecDeque::new();
        Parts { input, current: None, pending, has_begun: false, was_empty: false, finished: false }
    }

    /// Whether the stream has ended without a single byte.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.was_empty
    }

    fn read(&mut self) -> Result<Option<Part>, StreamError> {
        let Some(current) = &mut self.current else { return self.begin() };
        Ok(match current.read_section(&mut self.input)? {
            Found::Section(section) => Some(Part::Section(section)),
            Found::Damaged(kind) => Some(Part::Defect(Defect::Damaged { kind })),
            Found::End => self.end(None),
            Found::Nothing(defect) => {
                self.finished = true;
                self.end(Some(defect))
            }
        })
    }

    fn begin(&mut self) -> Result<Option<Part>, StreamError> {
        let mut header = [0; SNAPSHOT_HEADER];
        let got = read_up_to(&mut self.input, &mut header)?;
        if got == 0 {
            self.was_empty = !self.has_begun;
            self.finished = true;
            return Ok(None);
        }
        check_snapshot_header(header.get(..got).unwrap_or_default())?;
        self.has_begun = true;
        let bytes = got as u64;
        if got < SNAPSHOT_HEADER {
            self.finished = true;
            self.pending.extend([Part::Defect(Defect::CutOff { sections: 0, bytes }), Part::End]);
        } else {
            self.current = Some(Current { sections: 0, bytes, tool: None, unknown: None });
        }
        Ok(Some(Part::Begin))
    }

    fn end(&mut self, defect: Option<Defect>) -> Option<Part> {
        let unknown = self.current.take().and_then(Current::unknown_critical);
        self.pending.extend(defect.into_iter().chain(unknown).map(Part::Defect));
        self.pending.push_back(Part::End);
        self.pending.pop_front()
    }
}

impl<R: Read> Iterator for Parts<R> {
    type Item = Result<Part, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(part) = self.pending.pop_front() {
            return Some(Ok(part));
        }
        if self.finished {
            return None;
        }
        let item = self.read().transpose();
        self.finished |= matches!(item, Some(Err(_)));
        item
    }
}

impl Current {
    fn read_section(&mut self, input: &mut impl Read) -> io::Result<Found> {
        let cut_off = Defect::CutOff { sections: self.sections, bytes: self.bytes };
        let mut header = [0; SECTION_HEADER];
        let got = read_up_to(input, &mut header)?;
        self.bytes += got as u64;
        if got < SECTION_HEADER {
            return Ok(Found::Nothing(cut_off));
        }
        let Some(header) = SectionHeader::from_bytes(&header).filter(|header| {
            header.length <= MAX_SECTION && self.bytes + header.length <= MAX_SNAPSHOT && self.sections < MAX_SECTIONS
        }) else {
            return Ok(Found::Nothing(Defect::Unreadable { bytes: self.bytes }));
        };
        let SectionHeader { kind, flags, version, length, payload_crc } = header;
        let payload = read_payload(input, length)?;
        self.bytes += payload.len() as u64;
        if (payload.len() as u64) < length {
            return Ok(Found::Nothing(cut_off));
        }
        self.sections += 1;
        if crc32fast::hash(&payload) != payload_crc {
            return Ok(Found::Damaged(kind));
        }
        if kind == SectionKind::END {
            return Ok(Found::End);
        }
        let section = RawSection { kind, flags, version, payload };
        self.note(&section);
        Ok(Found::Section(section))
    }

    fn note(&mut self, section: &RawSection) {
        if section.is_unknown_critical() {
            self.unknown.get_or_insert((section.kind, section.version));
        }
        if section.kind == SectionKind::CAPTURE && self.tool.is_none() {
            let capture = Capture::decode(section.version, &section.payload);
            self.tool = Some(capture.map_or_else(|_| newer_pyst(), |capture| capture.tool));
        }
    }

    fn unknown_critical(self) -> Option<Defect> {
        let (kind, version) = self.unknown?;
        Some(Defect::UnknownCritical { kind, version, tool: self.tool.unwrap_or_else(newer_pyst) })
    }
}

fn newer_pyst() -> String {
    "a newer pyst".to_owned()
}

/// A payload; a short one means the input has ended.
fn read_payload(input: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    // Zeros that come with the memory: as long as nothing is written there, they take none.
    let mut payload = vec![0; size(length.min(FIRST_ROOM))];
    let mut filled = 0;
    loop {
        filled += read_up_to(input, payload.get_mut(filled..).unwrap_or_default())?;
        if filled < payload.len() || filled as u64 == length {
            payload.truncate(filled);
            return Ok(payload);
        }
        let room = size(length.min(filled as u64 * 4));
        payload.reserve_exact(room.saturating_sub(filled));
        payload.resize(room, 0);
    }
}

/// Lengths are checked to be those of a section.
fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
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
