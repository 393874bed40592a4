//! One ELF file: its headers, its loaded content, and where it is mapped.
//!
//! What is asked for is looked up in the file's own tables on each call; the few indices that exist are built when first
//! needed. Section headers are a convenience that stripped files may lack, so whatever the loader works with (symbols,
//! hash, unwind table, notes) is found through the program headers where they can name it.

use crate::cfi::CfiIndex;
use crate::error::ElfError;
use memmap2::Mmap;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _, SectionTable};
use pyst_snapshot::{Address, Bias, Svma};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::sync::OnceLock;

pub(crate) type Header = FileHeader64<LE>;
pub(crate) type Sections<'a> = SectionTable<'a, Header>;

/// The most that is read of something that cannot be mapped (a pipe, a device).
const MAX_UNMAPPED: u64 = 1 << 30;

/// The longest build-id that is believed; `ld --build-id=0x…` takes any length, the common ones have 8 to 20 bytes.
const MAX_BUILD_ID: usize = 64;

/// Files are mapped by pages of at least this size, whatever alignment their segments ask for.
const PAGE: u64 = 4096;

/// An ELF file: 64-bit, little-endian.
#[derive(Debug)]
pub struct ElfFile {
    content: Content,
    segments: Vec<LoadSegment>,
    /// What the loader has added to the addresses in the dynamic section.
    relocated: Bias,
    pub(crate) cfi_index: OnceLock<CfiIndex>,
    /// `.debug_frame`, where it is compressed.
    pub(crate) unpacked_debug_frame: OnceLock<Option<Vec<u8>>>,
    /// The file in `.gnu_debugdata`.
    pub(crate) debugdata: OnceLock<Option<Box<ElfFile>>>,
    /// What was stripped from it.
    pub(crate) debug: Option<Box<ElfFile>>,
    /// What its debug information shares with that of other files (dwz).
    pub(crate) supplement: Option<Box<ElfFile>>,
}

#[derive(Debug)]
enum Content {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

/// A segment that is loaded into memory (`PT_LOAD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// Its svmas, as far as the file has content for them.
    pub svmas: Range<Svma>,
    /// Its svmas in memory: what lies past the content is zero at first.
    pub memory: Range<Svma>,
    /// Where in the file it starts.
    pub offset: u64,
    /// `p_flags`: 4 readable, 2 writable, 1 executable.
    pub flags: u32,
}

impl LoadSegment {
    /// Whether it holds code.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.flags & elf::PF_X.0 != 0
    }

    /// Whether it may be written to.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.flags & elf::PF_W.0 != 0
    }

    fn file_end(&self) -> u64 {
        self.offset.saturating_add(self.svmas.end.0 - self.svmas.start.0)
    }
}

impl ElfFile {
    /// Opens a file. A regular file is mapped, anything else is read.
    ///
    /// Whoever truncates the file while it is in use ends this process with SIGBUS, as it does every process that has it
    /// mapped, the target included.
    ///
    /// # Errors
    /// It cannot be read, or is no ELF file that pyst can use.
    pub fn open(file: File) -> Result<ElfFile, ElfError> {
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > 0 {
            // SAFETY: the mapping is read-only and private; its bytes are only ever read as plain integers, so a file that
            // changes beneath it can make an answer wrong but break no invariant of the language.
            #[expect(unsafe_code)]
            let mapped = unsafe { Mmap::map(&file) }?;
            return ElfFile::parse(Content::Mapped(mapped));
        }
        let mut bytes = Vec::new();
        file.take(MAX_UNMAPPED).read_to_end(&mut bytes)?;
        ElfFile::from_bytes(bytes)
    }

    /// An ELF file that is in memory already, such as the vDSO.
    ///
    /// # Errors
    /// It is no ELF file that pyst can use.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<ElfFile, ElfError> {
        ElfFile::parse(Content::Owned(bytes))
    }

    /// The same file, taken from the memory of a process that loaded it with `bias`: glibc's loader turns the svmas in the
    /// dynamic section into addresses, where they are.
    #[must_use]
    pub fn loaded_with(mut self, bias: Bias) -> ElfFile {
        self.relocated = bias;
        self
    }

    /// The content that an entry of the dynamic section names.
    pub(crate) fn bytes_of_entry(&self, value: u64) -> Option<&[u8]> {
        self.bytes_from(Svma(value)).or_else(|| self.bytes_from(Address(value).to_svma(self.relocated)))
    }

    fn parse(content: Content) -> Result<ElfFile, ElfError> {
        let mut file = ElfFile {
            content,
            segments: Vec::new(),
            relocated: Bias(0),
            cfi_index: OnceLock::new(),
            unpacked_debug_frame: OnceLock::new(),
            debugdata: OnceLock::new(),
            debug: None,
            supplement: None,
        };
        let ident = file.data().first_chunk::<16>().ok_or(ElfError::NotElf)?;
        match ident {
            [0x7f, b'E', b'L', b'F', 2, 1, ..] => {}
            [0x7f, b'E', b'L', b'F', 1, ..] => return Err(ElfError::Unsupported("32-bit")),
            [0x7f, b'E', b'L', b'F', 2, 2, ..] => return Err(ElfError::Unsupported("big-endian")),
            _ => return Err(ElfError::NotElf),
        }
        let segments = file.program_headers()?.iter().filter_map(load_segment).collect();
        file.segments = segments;
        Ok(file)
    }

    /// The ELF machine number: 62 for x86_64, 183 for aarch64.
    #[must_use]
    pub fn machine(&self) -> u16 {
        self.header().map_or(0, |header| header.e_machine(LE).0)
    }

    /// The svma of the first instruction.
    #[must_use]
    pub fn entry(&self) -> Svma {
        Svma(self.header().map_or(0, |header| header.e_entry.get(LE)))
    }

    /// The loaded segments, in the order of the file.
    #[must_use]
    pub fn load_segments(&self) -> &[LoadSegment] {
        &self.segments
    }

    /// The GNU build-id.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        let data = self.data();
        let of_segments = self
            .program_headers()
            .unwrap_or_default()
            .iter()
            .filter_map(|header| header.notes(LE, data).ok().flatten());
        let sections = self.sections();
        let of_sections = sections.iter().filter_map(|header| header.notes(LE, data).ok().flatten());
        of_segments.chain(of_sections).find_map(build_id_among)
    }

    /// What a mapping of this file tells of its bias: the mapping of file offset `offset` starts at `start`. `None` when no
    /// segment would be mapped so.
    ///
    /// Two segments may share a page of the file, and then a mapping of that page can be either's; the first is assumed.
    /// Ask about the module's first mapping, which is the first segment's, whenever it is known.
    #[must_use]
    pub fn bias_of(&self, start: Address, offset: u64) -> Option<Bias> {
        let first_page = |segment: &&LoadSegment| segment.offset / PAGE == offset / PAGE;
        let any_page = |segment: &&LoadSegment| {
            segment.offset / PAGE * PAGE <= offset
                && offset < segment.file_end().checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
        };
        let segment = self.segments.iter().find(first_page).or_else(|| self.segments.iter().find(any_page))?;
        let svma = segment.svmas.start.0.wrapping_sub(segment.offset).wrapping_add(offset);
        Some(Bias(start.0.wrapping_sub(svma)))
    }

    /// The svmas of a section that is loaded; `None` where there is none of that name, or no section headers.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Range<Svma>> {
        let (_, header) = self.sections().section_by_name(LE, name.as_bytes())?;
        let start = header.sh_addr.get(LE);
        let end = start.checked_add(header.sh_size.get(LE))?;
        let loaded = header.sh_flags.get(LE).0 & elf::SHF_ALLOC.0 != 0;
        loaded.then_some(Svma(start)..Svma(end))
    }

    /// Fills `buffer` from the file's content at `svma`: what the loader maps there, before relocation.
    ///
    /// # Errors
    /// The file holds fewer bytes there.
    pub fn read_svma(&self, svma: Svma, buffer: &mut [u8]) -> Result<(), ElfError> {
        let length = buffer.len();
        let bytes = self.bytes_from(svma).and_then(|bytes| bytes.get(..length));
        buffer.copy_from_slice(bytes.ok_or(ElfError::NotInFile { svma, length })?);
        Ok(())
    }

    /// The file's content from `svma` to the end of its segment.
    #[must_use]
    pub fn bytes_from(&self, svma: Svma) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|segment| segment.svmas.contains(&svma))?;
        let start = segment.offset.checked_add(svma.0 - segment.svmas.start.0)?;
        let data = self.data();
        // A truncated file still has the start of its last segment.
        let end = segment.file_end().min(data.len() as u64);
        data.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).filter(|bytes| !bytes.is_empty())
    }

    pub(crate) fn data(&self) -> &[u8] {
        match &self.content {
            Content::Mapped(bytes) => bytes,
            Content::Owned(bytes) => bytes,
        }
    }

    pub(crate) fn program_headers(&self) -> Result<&[ProgramHeader64<LE>], ElfError> {
        let header = self.header().ok_or(ElfError::NotElf)?;
        header
            .program_headers(LE, self.data())
            .map_err(|_| ElfError::Malformed("its program headers lie outside of it"))
    }

    /// The sections; none where the headers are stripped or damaged.
    pub(crate) fn sections(&self) -> Sections<'_> {
        self.header().and_then(|header| header.sections(LE, self.data()).ok()).unwrap_or_default()
    }

    /// A section's header and bytes, loaded or not.
    pub(crate) fn section_bytes(&self, name: &[u8]) -> Option<(&SectionHeader64<LE>, &[u8])> {
        let (_, header) = self.sections().section_by_name(LE, name)?;
        Some((header, header.data(LE, self.data()).ok()?))
    }

    fn header(&self) -> Option<&Header> {
        Header::parse(self.data()).ok()
    }
}

fn load_segment(header: &ProgramHeader64<LE>) -> Option<LoadSegment> {
    if header.p_type(LE) != elf::PT_LOAD {
        return None;
    }
    let start = header.p_vaddr(LE);
    let content = header.p_filesz(LE).min(header.p_memsz(LE));
    Some(LoadSegment {
        svmas: Svma(start)..Svma(start.checked_add(content)?),
        memory: Svma(start)..Svma(start.checked_add(header.p_memsz(LE))?),
        offset: header.p_offset(LE),
        flags: header.p_flags(LE).0,
    })
}

fn build_id_among(notes: NoteIterator<'_, Header>) -> Option<&[u8]> {
    notes
        .map_while(Result::ok)
        .find(|note| note.name() == elf::ELF_NOTE_GNU && note.n_type(LE) == elf::NT_GNU_BUILD_ID)
        .map(|note| note.desc())
        .filter(|id| !id.is_empty() && id.len() <= MAX_BUILD_ID)
}
