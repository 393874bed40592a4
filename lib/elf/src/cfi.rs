//! Call frame information: which CIE and FDE cover an svma.
//!
//! `.eh_frame_hdr`, a sorted table, answers almost always. Where it is missing, damaged or does not list the svma, every
//! FDE of `.eh_frame` is indexed, then every one of `.debug_frame`, which strip moves to the debug file.

use crate::file::ElfFile;
use crate::seam::CfiEntry;
use gimli::{
    BaseAddresses, CieOrFde, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry, LittleEndian, UnwindOffset,
    UnwindSection,
};
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::ProgramHeader as _;
use pyst_snapshot::Svma;
use pyst_snapshot::payload::CfiSection;
use std::cell::Cell;

/// The longest CIE or FDE that is believed, in bytes. The longest real ones describe interpreter loops, in a few KiB.
const MAX_ENTRY: usize = 1 << 20;

/// The longest CIE that is believed, in bytes, while every FDE is looked at: each has its CIE parsed again.
const MAX_INDEXED_CIE: usize = 1 << 10;

/// The most that `.debug_frame` is unpacked to, in bytes: a hundred times what the largest programs have.
const MAX_UNPACKED: u64 = 256 << 20;

/// The size of a pointer, in bytes.
const ADDRESS_SIZE: u8 = 8;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Where each FDE of a file lies, ascending by the svmas it covers.
#[derive(Debug, Default)]
pub(crate) struct CfiIndex {
    fdes: Vec<IndexedFde>,
}

#[derive(Debug)]
struct IndexedFde {
    start: u64,
    end: u64,
    offset: usize,
    section: CfiSection,
}

/// A section of CFI with the svma of its first byte.
#[derive(Clone, Copy)]
struct CfiBytes<'a> {
    svma: u64,
    bytes: &'a [u8],
}

impl ElfFile {
    /// The CIE and FDE that cover `svma`.
    #[must_use]
    pub fn cfi(&self, svma: Svma) -> Option<CfiEntry> {
        let own = self.cfi_by_table(svma).or_else(|| self.cfi_by_index(svma));
        own.or_else(|| self.cfi_of_debug_file(svma))
    }

    fn cfi_by_table(&self, svma: Svma) -> Option<CfiEntry> {
        let table = self.eh_frame_hdr()?;
        let section = CfiBytes { svma: table.eh_frame, bytes: self.bytes_from(Svma(table.eh_frame))? };
        let offset = usize::try_from(table.lookup(svma)?.checked_sub(table.eh_frame)?).ok()?;
        section.eh_frame_entry(offset).filter(|entry| entry.start <= svma && svma < entry.end)
    }

    fn cfi_by_index(&self, svma: Svma) -> Option<CfiEntry> {
        let index = self.cfi_index.get_or_init(|| self.index_cfi());
        let after = index.fdes.partition_point(|fde| fde.start <= svma.0);
        let fde = index.fdes.get(after.checked_sub(1)?).filter(|fde| svma.0 < fde.end)?;
        match fde.section {
            CfiSection::DEBUG_FRAME => self.debug_frame()?.debug_frame_entry(fde.offset),
            _ => self.eh_frame()?.eh_frame_entry(fde.offset),
        }
    }

    fn cfi_of_debug_file(&self, svma: Svma) -> Option<CfiEntry> {
        let debug = self.debug.as_deref()?;
        debug.cfi_by_index(svma).filter(|entry| entry.section == CfiSection::DEBUG_FRAME)
    }

    fn index_cfi(&self) -> CfiIndex {
        let mut fdes = Vec::new();
        if let Some(section) = self.eh_frame() {
            section.index(&section.eh_frame(), CfiSection::EH_FRAME, &mut fdes);
        }
        if let Some(section) = self.debug_frame() {
            section.index(&section.debug_frame(), CfiSection::DEBUG_FRAME, &mut fdes);
        }
        // Where both sections describe a function, `.eh_frame`, which comes first, is kept.
        fdes.sort_by_key(|fde| fde.start);
        fdes.dedup_by_key(|fde| fde.start);
        CfiIndex { fdes }
    }

    /// `.eh_frame_hdr`, through its segment: that one is there without section headers too.
    fn eh_frame_hdr(&self) -> Option<SearchTable<'_>> {
        let mut headers = self.program_headers().ok()?.iter();
        let of_segment = headers.find(|header| header.p_type(LE) == elf::PT_GNU_EH_FRAME);
        let svma = match of_segment {
            Some(header) => header.p_vaddr(LE),
            None => self.section(".eh_frame_hdr")?.start.0,
        };
        SearchTable::parse(svma, self.bytes_from(Svma(svma))?)
    }

    /// `.eh_frame`; without section headers from where `.eh_frame_hdr` says to the end of its segment.
    fn eh_frame(&self) -> Option<CfiBytes<'_>> {
        if let Some((header, bytes)) = self.section_bytes(b".eh_frame") {
            return Some(CfiBytes { svma: header.sh_addr.get(LE), bytes });
        }
        let svma = self.eh_frame_hdr()?.eh_frame;
        Some(CfiBytes { svma, bytes: self.bytes_from(Svma(svma))? })
    }

    /// `.debug_frame`. Its entries are named by their offset.
    fn debug_frame(&self) -> Option<CfiBytes<'_>> {
        if let Some((header, bytes)) = self.section_bytes(b".debug_frame")
            && header.sh_flags.get(LE).0 & elf::SHF_COMPRESSED.0 == 0
        {
            return Some(CfiBytes { svma: 0, bytes });
        }
        let unpack = || Some(self.unpacked(b".debug_frame", &Cell::new(MAX_UNPACKED))?.into_owned());
        let bytes = self.unpacked_debug_frame.get_or_init(unpack).as_deref()?;
        Some(CfiBytes { svma: 0, bytes })
    }
}

/// `.eh_frame_hdr` as every linker writes it: offsets of four bytes, ascending. One in another encoding is not used.
struct SearchTable<'a> {
    /// The svma of the table itself, which its offsets count from.
    svma: u64,
    /// The svma of `.eh_frame`.
    eh_frame: u64,
    /// A function's start and its FDE, each as an offset.
    rows: &'a [[u8; 8]],
}

impl<'a> SearchTable<'a> {
    fn parse(svma: u64, bytes: &'a [u8]) -> Option<SearchTable<'a>> {
        // Version 1; a pc-relative pointer, a count, and a table relative to itself, of four bytes each.
        let rest = bytes.strip_prefix(&[1, 0x1b, 0x03, 0x3b])?;
        let (pointer, rest) = rest.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let eh_frame = relative(svma.wrapping_add(4), *pointer);
        let (rows, _) = rest.as_chunks::<8>();
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        Some(SearchTable { svma, eh_frame, rows: rows.get(..count)? })
    }

    /// The svma of the FDE with the last start that is not past `svma`; it need not cover it.
    fn lookup(&self, svma: Svma) -> Option<u64> {
        let start = |row: &[u8; 8]| row.first_chunk().map_or(0, |offset| relative(self.svma, *offset));
        let after = self.rows.partition_point(|row| start(row) <= svma.0);
        let row = self.rows.get(after.checked_sub(1)?)?;
        Some(relative(self.svma, *row.last_chunk()?))
    }
}

/// What a signed offset from `base` points to.
fn relative(base: u64, offset: [u8; 4]) -> u64 {
    base.wrapping_add_signed(i32::from_le_bytes(offset).into())
}

impl<'a> CfiBytes<'a> {
    fn bases(&self) -> BaseAddresses {
        BaseAddresses::default().set_eh_frame(self.svma)
    }

    fn eh_frame(&self) -> EhFrame<Slice<'a>> {
        let mut section = EhFrame::new(self.bytes, LittleEndian);
        section.set_address_size(ADDRESS_SIZE);
        section
    }

    fn debug_frame(&self) -> DebugFrame<Slice<'a>> {
        let mut section = DebugFrame::new(self.bytes, LittleEndian);
        section.set_address_size(ADDRESS_SIZE);
        section
    }

    fn eh_frame_entry(&self, offset: usize) -> Option<CfiEntry> {
        let fde = self.eh_frame().fde_from_offset(&self.bases(), offset.into(), EhFrame::cie_from_offset).ok()?;
        self.entry(&fde, CfiSection::EH_FRAME)
    }

    fn debug_frame_entry(&self, offset: usize) -> Option<CfiEntry> {
        let fde = self.debug_frame().fde_from_offset(&self.bases(), offset.into(), DebugFrame::cie_from_offset).ok()?;
        self.entry(&fde, CfiSection::DEBUG_FRAME)
    }

    fn entry(&self, fde: &FrameDescriptionEntry<Slice<'a>>, section: CfiSection) -> Option<CfiEntry> {
        let cie = fde.cie().offset();
        let svma = |offset: usize| Some(Svma(self.svma.checked_add(offset as u64)?));
        Some(CfiEntry {
            section,
            cie_svma: svma(cie)?,
            cie: self.whole(cie, fde.cie().entry_len())?,
            fde_svma: svma(fde.offset())?,
            fde: self.whole(fde.offset(), fde.entry_len())?,
            start: Svma(fde.initial_address()),
            end: Svma(fde.end_address()),
        })
    }

    /// The entry at `offset` with its length field, which is not part of the `length` it states.
    fn whole(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes.get(offset..)?;
        let field = if bytes.starts_with(&[0xff; 4]) { 12 } else { 4 };
        let length = length.checked_add(field).filter(|length| *length <= MAX_ENTRY)?;
        bytes.get(..length).map(<[u8]>::to_vec)
    }

    /// Adds every FDE that parses. An entry whose length is wrong ends the section: nothing after it can be found.
    fn index<S>(&self, section: &S, kind: CfiSection, fdes: &mut Vec<IndexedFde>)
    where
        S: UnwindSection<Slice<'a>>,
        S::Offset: UnwindOffset<usize>,
    {
        let bases = self.bases();
        let mut entries = section.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            if !self.has_plausible_length(UnwindOffset::into(partial.cie_offset())) {
                continue;
            }
            let Ok(fde) = partial.parse(S::cie_from_offset) else { continue };
            let (start, end) = (fde.initial_address(), fde.end_address());
            if start < end {
                fdes.push(IndexedFde { start, end, offset: fde.offset(), section: kind });
            }
        }
    }

    fn has_plausible_length(&self, cie: usize) -> bool {
        let length = self.bytes.get(cie..).and_then(|bytes| bytes.first_chunk());
        length.is_some_and(|length| u32::from_le_bytes(*length) as usize <= MAX_INDEXED_CIE)
    }
}
