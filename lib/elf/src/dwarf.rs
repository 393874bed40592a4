//! Lines and inlined functions, from DWARF.
//!
//! Nothing is kept between batches: what DWARF is read for one is dropped with it, so that the debug information of a large
//! program costs memory only while it is asked, and only as far as it is read. Split DWARF (`.dwo`) is not followed; what is then missing is said.

use crate::file::ElfFile;
use crate::parallel;
use budget::Budget;
use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};
use object::LittleEndian as LE;
use object::read::elf::SectionHeader as _;
use object::read::{CompressedData, CompressionFormat};
use pyst_snapshot::Svma;
use section::Section;
use std::borrow::Cow;
use std::cell::Cell;

mod budget;
mod functions;
mod lines;
mod lookup;
mod names;
mod outline;
mod section;
mod table;
mod units;

/// The most that the sections of one file are unpacked to. The largest programs there are have a few gigabytes of debug
/// information; those keep it in files of their own, or unpacked.
const MAX_UNPACKED: u64 = 1 << 30;

/// The most calls at one svma that are told of.
const MAX_CALLS: usize = 256;

/// Longer names and paths are cut.
const MAX_TEXT: usize = 8 << 10;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The sections of one file. `.debug_info`, `.debug_line` and `.debug_abbrev`, most of what there is, are read from their starts
/// on; the others are read whole.
struct Sections<'f> {
    info: Section<'f>,
    lines: Section<'f>,
    abbreviations: Section<'f>,
    others: DwarfSections<Section<'f>>,
}

/// A call at an svma: a function, and where it stands in that function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The raw name of the function: its linkage name where it has one.
    pub function: Option<Vec<u8>>,
    /// The source file, as the compiler was told of it.
    pub file: Option<Vec<u8>>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// What debug information says of an svma.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Innermost first: the functions that are inlined there, each into the next, and the one that the code is of.
    pub calls: Vec<Call>,
    /// The file that holds more, and was not read: a `.dwo`, or a supplement (dwz) that is not there.
    pub lacking: Option<Vec<u8>>,
}

impl ElfFile {
    /// What debug information, the file's own or its debug file's, says of each svma, in the order asked.
    #[must_use]
    pub fn calls_covering(&self, svmas: &[Svma]) -> Vec<Calls> {
        let none = || vec![Calls::default(); svmas.len()];
        let Some(file) = self.with_dwarf() else { return none() };
        let Some(mut sections) = file.dwarf_sections() else { return none() };
        let supplement = file.supplement.as_deref().and_then(ElfFile::dwarf_sections);
        let mut sorted = svmas.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let budget = Budget::new();
        let units =
            table::units_of(sections.others.debug_aranges.borrow(|table| slice(table.whole())), &sorted, &budget);
        if let Some(last) = units.keys().next_back() {
            sections.unpack_through(*last);
        }
        let mut dwarf = sections.borrow();
        if let Some(supplement) = &supplement {
            dwarf.set_sup(supplement.borrow());
        }
        let mut calls = lookup::calls_at(&dwarf, &sections, supplement.as_ref(), &sorted, units, &budget);
        if let Some(missing) = file.missing_supplement() {
            let is_nameless = |calls: &&mut Calls| calls.calls.iter().any(|call| call.function.is_none());
            for calls in calls.iter_mut().filter(is_nameless) {
                calls.lacking.get_or_insert_with(|| cut(missing));
            }
        }
        let answer = |svma| sorted.binary_search(svma).ok().and_then(|index| calls.get(index).cloned());
        svmas.iter().map(|svma| answer(svma).unwrap_or_default()).collect()
    }

    /// Whether there is debug information.
    pub(crate) fn has_dwarf(&self) -> bool {
        self.with_dwarf().is_some()
    }

    /// The file that has the debug information of this one.
    fn with_dwarf(&self) -> Option<&ElfFile> {
        let files = [Some(self), self.debug.as_deref()];
        files.into_iter().flatten().find(|file| {
            file.section_bytes(b".debug_info").is_some_and(|(_, bytes)| !bytes.is_empty())
                || file.old_compressed(b".debug_info").is_some()
        })
    }

    fn dwarf_sections(&self) -> Option<Sections<'_>> {
        let left = Cell::new(MAX_UNPACKED);
        let part = |id: SectionId| self.read_from_start(id.name().as_bytes(), &left).unwrap_or_default();
        let (info, lines) = (part(SectionId::DebugInfo), part(SectionId::DebugLine));
        let abbreviations = part(SectionId::DebugAbbrev);
        let section = |id: SectionId| match id {
            SectionId::DebugAddr | SectionId::DebugAranges | SectionId::DebugRanges | SectionId::DebugRngLists => {
                part(id)
            }
            SectionId::DebugStr | SectionId::DebugStrOffsets | SectionId::DebugLineStr => part(id),
            // Apart, or of variables, types and macros, or another way to what is read here.
            _ => Section::default(),
        };
        let others = DwarfSections::load(|id| Ok::<_, ()>(section(id))).ok()?;
        Some(Sections { info, lines, abbreviations, others })
    }

    /// A section's bytes as they are when unpacked; `None` where there are none that can be used.
    pub(crate) fn unpacked(&self, name: &[u8], left: &Cell<u64>) -> Option<Cow<'_, [u8]>> {
        self.compressed(name, left)?.decompress().ok()
    }

    /// The same, unpacked as far as it is read where that can be done.
    fn read_from_start(&self, name: &[u8], left: &Cell<u64>) -> Option<Section<'_>> {
        let section = self.compressed(name, left)?;
        if section.format == CompressionFormat::Zlib {
            return Some(Section::zlib(section.data, usize::try_from(section.uncompressed_size).ok()?));
        }
        section.decompress().ok().map(Section::plain)
    }

    /// A section as the file has it. What it unpacks to is taken from what is `left`.
    fn compressed(&self, name: &[u8], left: &Cell<u64>) -> Option<CompressedData<'_>> {
        let Some((header, bytes)) = self.section_bytes(name) else {
            let packed = self.old_compressed(name)?;
            left.set(left.get().checked_sub(packed.uncompressed_size)?);
            return Some(packed);
        };
        let Some((compression, offset, size)) = header.compression(LE, self.data()).ok()? else {
            return Some(CompressedData::none(bytes));
        };
        let start = usize::try_from(offset).ok()?;
        let data = self.data().get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        let uncompressed_size = compression.ch_size.get(LE);
        left.set(left.get().checked_sub(uncompressed_size)?);
        let format = match compression.ch_type.get(LE) {
            object::elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            object::elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        Some(CompressedData { format, data, uncompressed_size })
    }

    /// A section as it was compressed before ELF had a flag for that, and still is with `-gz=zlib-gnu`: under another name
    /// (`.zdebug_info`), as `ZLIB`, the size in big-endian order, and a stream.
    fn old_compressed(&self, name: &[u8]) -> Option<CompressedData<'_>> {
        let name = [b".z", name.strip_prefix(b".")?].concat();
        let (_, bytes) = self.section_bytes(&name)?;
        let (size, data) = bytes.strip_prefix(b"ZLIB")?.split_first_chunk()?;
        Some(CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size: u64::from_be_bytes(*size) })
    }
}

impl Sections<'_> {
    /// Those that are whole.
    fn borrow(&self) -> Dwarf<Slice<'_>> {
        self.others.borrow(|section| slice(section.whole()))
    }

    /// Unpacks, on several processors, what is needed to read the units up to the one that starts at `last`. That is a guess where it
    /// is about other sections than `.debug_info`, which take their order from that; what it misses is unpacked when it is read.
    fn unpack_through(&mut self, last: usize) {
        let Sections { info, lines, abbreviations, others } = self;
        if !info.is_packed() {
            return;
        }
        let whole = info.length();
        let share = move |section: &Section<'_>| {
            let share = section.length() as u128 * last as u128 / whole.max(1) as u128;
            usize::try_from(share).unwrap_or(usize::MAX)
        };
        parallel::all(vec![
            Box::new(move || _ = info.through(last)),
            Box::new(move || _ = lines.first(share(lines))),
            Box::new(move || _ = abbreviations.first(share(abbreviations))),
            Box::new(move || _ = others.borrow(|section| slice(section.whole()))),
        ]);
    }
}

fn slice(bytes: &[u8]) -> Slice<'_> {
    EndianSlice::new(bytes, LittleEndian)
}

fn cut(text: &[u8]) -> Vec<u8> {
    text.get(..MAX_TEXT).unwrap_or(text).to_vec()
}
