//! The constants and fixed-size headers of the stream. `schemas/snapshot.md` is the specification; this must agree.

use crate::code::open_enum;

/// Opens every snapshot. The high bit catches 7-bit channels, CR LF and LF text-mode translation in either direction,
/// and ^Z stops `type` on systems that heed it; PNG's signature works the same way.
pub const MAGIC: [u8; 8] = *b"\x89PYS\r\n\x1a\n";

/// The version of the framing (headers and sections), not of any payload.
pub const FORMAT_VERSION: u16 = 1;

/// The longest payload of one section, in bytes; a reader refuses more before it allocates.
pub const MAX_SECTION: u64 = 64 << 20;

/// The most payload bytes that a snapshot's sections may have together; a reader refuses more.
pub(crate) const MAX_SNAPSHOT: u64 = 4 << 30;

/// The most sections a snapshot may have.
pub(crate) const MAX_SECTIONS: usize = 65_536;

pub(crate) const SNAPSHOT_HEADER: usize = 16;
pub(crate) const SECTION_HEADER: usize = 24;

open_enum!(
    /// What a section holds.
    SectionKind {
        /// What took the snapshot, when, how, with which options.
        CAPTURE = 1, "capture";
        /// The process.
        PROCESS = 2, "process";
        /// Its threads, with their registers.
        THREADS = 3, "threads";
        /// The mappings that hold a recorded address or were asked about.
        MAPS = 4, "maps";
        /// The files mapped into the process.
        MODULES = 5, "modules";
        /// The Python runtime: where it is and how it was found.
        RUNTIME = 6, "runtime";
        /// Answers about call-frame information.
        UNWIND = 7, "unwind";
        /// Answers about symbols.
        SYMBOLS = 8, "symbols";
        /// Source lines of Python frames.
        SOURCE = 9, "source";
        /// Bytes of the target's memory.
        MEMORY = 10, "memory";
        /// Native frames of some of the threads, added by `pyst-unwind`.
        NATIVE = 11, "native";
        /// Python frames, added by `pyst-py`.
        PYTHON = 12, "python";
        /// What a stage could not do.
        DIAGNOSTICS = 13, "diagnostics";
        /// Answers about lines and inlined functions.
        CALLS = 14, "calls";
        /// Arguments and locals of Python frames, added by `pyst-py`.
        VARIABLES = 15, "variables";
        /// What threads wait for, by the kernel, and the files of their system calls.
        WAITS = 16, "waits";
        /// Of a process that ran on: whether what was read of each thread belongs together.
        VERDICTS = 17, "verdicts";
        /// Closes a snapshot; its payload is empty.
        END = 0xffff, "end";
    }
);

/// The flags of a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectionFlags(pub u16);

impl SectionFlags {
    /// A tool that does not know this section cannot make sense of the snapshot without it.
    pub const CRITICAL: SectionFlags = SectionFlags(1);

    /// Whether the section is critical.
    #[must_use]
    pub fn is_critical(self) -> bool {
        self.0 & Self::CRITICAL.0 != 0
    }
}

/// The 24 bytes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectionHeader {
    pub(crate) kind: SectionKind,
    pub(crate) flags: SectionFlags,
    pub(crate) version: u16,
    pub(crate) length: u64,
    pub(crate) payload_crc: u32,
}

impl SectionHeader {
    pub(crate) fn to_bytes(self) -> [u8; SECTION_HEADER] {
        let mut bytes = [0; SECTION_HEADER];
        let fields = [
            &self.kind.0.to_le_bytes()[..],
            &self.flags.0.to_le_bytes(),
            &self.version.to_le_bytes(),
            &[0, 0],
            &self.length.to_le_bytes(),
            &self.payload_crc.to_le_bytes(),
        ]
        .concat();
        let crc = crc32fast::hash(&fields);
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().chain(crc.to_le_bytes())) {
            *to = from;
        }
        bytes
    }

    /// `None` when the header's own CRC-32 is wrong: its length cannot be believed, so nothing after it can be read.
    pub(crate) fn from_bytes(bytes: &[u8; SECTION_HEADER]) -> Option<SectionHeader> {
        let (fields, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
            return None;
        }
        Some(SectionHeader {
            kind: SectionKind(u16::from_le_bytes(*fields.first_chunk()?)),
            flags: SectionFlags(u16::from_le_bytes(*fields.get(2..)?.first_chunk()?)),
            version: u16::from_le_bytes(*fields.get(4..)?.first_chunk()?),
            length: u64::from_le_bytes(*fields.get(8..)?.first_chunk()?),
            payload_crc: u32::from_le_bytes(*fields.get(16..)?.first_chunk()?),
        })
    }
}

/// The 16 bytes that open a snapshot: magic, format version, two reserved bytes (0), CRC-32 of these twelve.
pub(crate) fn snapshot_header() -> [u8; SNAPSHOT_HEADER] {
    let mut bytes = [0; SNAPSHOT_HEADER];
    let fields = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &[0, 0]].concat();
    let crc = crc32fast::hash(&fields);
    for (to, from) in bytes.iter_mut().zip(fields.into_iter().chain(crc.to_le_bytes())) {
        *to = from;
    }
    bytes
}
