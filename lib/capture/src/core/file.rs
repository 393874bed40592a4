//! A core file as a file: opening it, telling what it is if it is none, its segments, and the memory in them.

use crate::error::CaptureError;
use memmap2::Mmap;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::payload::Arch;
use pyst_snapshot::{Address, Range};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// The most that is read of a core that cannot be mapped: a pipe.
const MAX_UNMAPPED: u64 = 16 << 30;

/// A core file.
pub(crate) struct CoreFile {
    content: Content,
    /// Ascending and disjoint.
    segments: Vec<Segment>,
    pub(crate) modified: Option<SystemTime>,
    /// How many bytes the headers promise and the file lacks.
    pub(crate) missing: u64,
}

enum Content {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

/// A mapping of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) range: Range,
    /// As in ELF: 4 readable, 2 writable, 1 executable.
    pub(crate) flags: u32,
    /// Where its bytes start in the file.
    offset: u64,
    /// How many bytes it has there; what was not dumped follows.
    length: u64,
}

impl CoreFile {
    pub(crate) fn open(path: &Path) -> Result<CoreFile, CaptureError> {
        let io = |action| move |source| CaptureError::Io { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read"))?;
        if metadata.is_dir() {
            return Err(CaptureError::NotACore { path: path.to_owned(), kind: "a directory".to_owned() });
        }
        let content = if metadata.is_file() && metadata.len() > 0 {
            #[expect(unsafe_code, reason = "a core may be larger than memory, so it is mapped")]
            // SAFETY: read-only and private; the bytes are only ever read as plain integers, so a file that changes
            // beneath it breaks no invariant. Who truncates it meanwhile ends this process with SIGBUS.
            Content::Mapped(unsafe { Mmap::map(&file) }.map_err(io("read"))?)
        } else {
            let mut bytes = Vec::new();
            file.take(MAX_UNMAPPED).read_to_end(&mut bytes).map_err(io("read"))?;
            Content::Owned(bytes)
        };
        let mut core = CoreFile { content, segments: Vec::new(), modified: metadata.modified().ok(), missing: 0 };
        core.check(path)?;
        core.read_segments(path)?;
        Ok(core)
    }

    /// The mappings, ascending.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The note segments, as far as they are in the file.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &[u8]> {
        let data = self.data();
        let headers = FileHeader64::<LE>::parse(data).and_then(|header| header.program_headers(LE, data));
        let notes = headers.unwrap_or_default().iter().filter(|header| header.p_type(LE) == elf::PT_NOTE);
        notes.filter_map(move |header| {
            let start = usize::try_from(header.p_offset(LE)).ok()?;
            let length = usize::try_from(header.p_filesz(LE)).ok()?;
            data.get(start..start.checked_add(length)?.min(data.len()))
        })
    }

    /// The instruction set.
    pub(crate) fn arch(&self) -> Arch {
        FileHeader64::<LE>::parse(self.data()).map_or(Arch::X86_64, |header| Arch(header.e_machine(LE).0))
    }

    fn check(&self, path: &Path) -> Result<(), CaptureError> {
        let data = self.data();
        if data.is_empty() {
            return Err(CaptureError::EmptyCore { path: path.to_owned() });
        }
        if let Some((format, tool)) = compression(data) {
            let command = format!("{tool} -dc {} > core.decompressed", path.display());
            return Err(CaptureError::CompressedCore { path: path.to_owned(), format, command });
        }
        let not_a_core = |kind: &str| CaptureError::NotACore { path: path.to_owned(), kind: kind.to_owned() };
        if data.starts_with(&pyst_snapshot::MAGIC) {
            return Err(not_a_core("a pyst snapshot; give it to pyst-unwind, pyst-py or pyst-fmt"));
        }
        let Some([0x7f, b'E', b'L', b'F', class, order, _, _, _, _, _, _, _, _, _, _, kind, kind_high, machine, high]) =
            data.first_chunk::<20>()
        else {
            return Err(not_a_core("no ELF file"));
        };
        let kind = u16::from_le_bytes([*kind, *kind_high]);
        match if *order == 2 { kind.swap_bytes() } else { kind } {
            4 => {}
            1 => return Err(not_a_core("an ELF object file")),
            2 | 3 => return Err(not_a_core("an ELF executable or library; give that after the core file")),
            _ => return Err(not_a_core("an ELF file of another kind")),
        }
        let machine = u16::from_le_bytes([*machine, *high]);
        if *class != 2 || *order != 1 || !matches!(Arch(machine), Arch::X86_64 | Arch::AARCH64) {
            let architecture = crate::architecture_name(*class, *order, machine);
            return Err(CaptureError::Architecture { what: format!("core file {}", path.display()), architecture });
        }
        Ok(())
    }

    fn read_segments(&mut self, path: &Path) -> Result<(), CaptureError> {
        let data = self.data();
        let damaged = |what: &str| CaptureError::DamagedCore { path: path.to_owned(), what: what.to_owned() };
        let header = FileHeader64::<LE>::parse(data).map_err(|_| damaged("it ends within its header"))?;
        // Of more than 65,534 segments the count is in the first section header; this reads it there.
        let headers = header
            .program_headers(LE, data)
            .map_err(|_| damaged("it ends within its program headers, so nothing in it can be found"))?;
        let size = data.len() as u64;
        let mut end = 0u64;
        let mut segments = Vec::new();
        for header in headers {
            let (offset, length) = (header.p_offset(LE), header.p_filesz(LE));
            end = end.max(offset.saturating_add(length));
            let range = Range::sized(Address(header.p_vaddr(LE)), header.p_memsz(LE).max(length));
            if let Some(range) = range.filter(|range| header.p_type(LE) == elf::PT_LOAD && !range.is_empty()) {
                segments.push(Segment { range, flags: header.p_flags(LE).0, offset, length });
            }
        }
        segments.sort_by_key(|segment| segment.range);
        segments.dedup_by(|later, earlier| later.range.start < earlier.range.end);
        self.missing = end.saturating_sub(size);
        self.segments = segments;
        Ok(())
    }

    fn data(&self) -> &[u8] {
        match &self.content {
            Content::Mapped(bytes) => bytes,
            Content::Owned(bytes) => bytes,
        }
    }

    /// The bytes from `address` on to the end of what its segment has in the file.
    fn bytes_from(&self, address: Address) -> Option<&[u8]> {
        let after = self.segments.partition_point(|segment| segment.range.start <= address);
        let segment = self.segments.get(after.checked_sub(1)?).filter(|segment| segment.range.contains(address))?;
        let into = address.0 - segment.range.start.0;
        let left = segment.length.checked_sub(into).filter(|left| *left > 0)?;
        let start = usize::try_from(segment.offset.checked_add(into)?).ok()?;
        let bytes = self.data().get(start..)?;
        bytes.get(..usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())).filter(|bytes| !bytes.is_empty())
    }
}

impl Memory for CoreFile {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let range = Range { start: address, end: Address(address.0.saturating_add(buffer.len() as u64)) };
        let mut at = address;
        let mut rest = buffer;
        while !rest.is_empty() {
            let bytes = self.bytes_from(at).ok_or(ReadError::Unreadable(range))?;
            let count = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(bytes.get(..count).unwrap_or_default());
            at = at.checked_add(count as u64).ok_or(ReadError::Unreadable(range))?;
            rest = later;
        }
        Ok(())
    }
}

/// systemd-coredump compresses what it keeps.
fn compression(data: &[u8]) -> Option<(&'static str, &'static str)> {
    match data {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd", "zstd")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(("xz", "xz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(("lz4", "lz4")),
        [0x1f, 0x8b, ..] => Some(("gzip", "gzip")),
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bzip2")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(content: &[u8]) -> CaptureError {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core");
        std::fs::write(&path, content).unwrap();
        CoreFile::open(&path).err().unwrap()
    }

    #[test]
    fn what_is_no_core_is_told_by_what_it_is() {
        assert_eq!(error_of(b"").code(), "core-empty");
        assert_eq!(error_of(b"#!/bin/sh").code(), "not-a-core");
        let error = error_of(b"\x28\xb5\x2f\xfd and more");
        assert_eq!(error.code(), "core-compressed");
        assert!(error.to_string().contains("zstd -dc "), "{error}");
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(error_of(&own).to_string().contains("executable"));
        let mut foreign = own[..64].to_vec();
        foreign[16] = 4;
        foreign[18] = 243;
        assert!(error_of(&foreign).to_string().contains("RISC-V"));
        foreign[18] = 62;
        assert_eq!(error_of(&foreign).code(), "core-damaged");
        assert!(matches!(CoreFile::open(Path::new("/")), Err(CaptureError::NotACore { .. })));
        assert!(matches!(CoreFile::open(Path::new("/no/such")), Err(CaptureError::Io { .. })));
    }

    #[test]
    fn more_segments_than_the_header_can_count_are_all_there() {
        const COUNT: u32 = 70_000;
        let word = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
        let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        word(&mut core, 0);
        // Program headers after the one section header, which follows the file header.
        word(&mut core, 128);
        word(&mut core, 64);
        core.extend([0, 0, 0, 0, 64, 0, 56, 0, 0xff, 0xff, 64, 0, 1, 0, 0, 0]);
        core.resize(64 + 44, 0);
        core.extend(COUNT.to_le_bytes());
        core.resize(128, 0);
        for index in 0..u64::from(COUNT) {
            core.extend([1, 0, 0, 0, 4, 0, 0, 0]);
            for value in [64, 0x10_0000 + index * 0x2000, 0, 8, 0x1000, 0x1000] {
                word(&mut core, value);
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core");
        std::fs::write(&path, &core).unwrap();
        let core = CoreFile::open(&path).unwrap();
        assert_eq!(core.segments().len(), COUNT as usize);
        let last = Address(0x10_0000 + (u64::from(COUNT) - 1) * 0x2000);
        assert!(core.read(last, &mut [0; 8]).is_ok());
        // Eight bytes were dumped of each, and no more can be read.
        assert!(core.read(last, &mut [0; 9]).is_err());
        assert!(core.read(Address(last.0 + 0x1000), &mut [0]).is_err());
    }
}
