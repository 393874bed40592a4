//! Lines and inlined functions, from DWARF.
//!
//! Nothing is kept between batches: what DWARF is read for one is dropped with it, so that the debug information of a large
//! program costs memory only while it is asked. Split DWARF (`.dwo`) is not followed; what is then missing is said.

use crate::file::ElfFile;
use addr2line::Context;
use gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId};
use object::LittleEndian as LE;
use object::read::elf::SectionHeader as _;
use object::read::{CompressedData, CompressionFormat};
use pyst_snapshot::Svma;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

mod limits;

/// The most that the sections of one file are unpacked to. The largest programs there are have a few gigabytes of debug
/// information; those keep it in files of their own, or unpacked.
const MAX_UNPACKED: u64 = 1 << 30;

/// The most calls at one svma that are told of.
const MAX_CALLS: usize = 256;

/// Longer names and paths are cut.
const MAX_TEXT: usize = 8 << 10;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Bytes<'a> = DwarfSections<Cow<'a, [u8]>>;

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
    /// The file that holds more, and is not read: `.dwo`.
    pub lacking: Option<Vec<u8>>,
}

impl ElfFile {
    /// What debug information, the file's own or its debug file's, says of each svma, in the order asked.
    #[must_use]
    pub fn calls_covering(&self, svmas: &[Svma]) -> Vec<Calls> {
        let none = || vec![Calls::default(); svmas.len()];
        let Some(file) = self.with_dwarf() else { return none() };
        let Some(sections) = file.dwarf_sections() else { return none() };
        let supplement = file.supplement.as_deref().and_then(ElfFile::dwarf_sections);
        let mut dwarf = borrow(&sections);
        if let Some(supplement) = &supplement {
            dwarf.set_sup(borrow(supplement));
        }
        if !limits::are_kept(&dwarf, svmas) {
            return none();
        }
        let Ok(context) = Context::from_dwarf(dwarf) else { return none() };
        let mut units = Units::default();
        svmas.iter().map(|svma| calls_at(&context, *svma, &mut units)).collect()
    }

    /// The file that has the debug information of this one.
    fn with_dwarf(&self) -> Option<&ElfFile> {
        let files = [Some(self), self.debug.as_deref()];
        files
            .into_iter()
            .flatten()
            .find(|file| file.section_bytes(b".debug_info").is_some_and(|(_, bytes)| !bytes.is_empty()))
    }

    fn dwarf_sections(&self) -> Option<Bytes<'_>> {
        let left = Cell::new(MAX_UNPACKED);
        DwarfSections::load(|id: SectionId| Ok::<_, ()>(self.unpacked(id.name().as_bytes(), &left).unwrap_or_default()))
            .ok()
    }

    /// A section's bytes as they are when unpacked; `None` where there are none that can be used.
    pub(crate) fn unpacked(&self, name: &[u8], left: &Cell<u64>) -> Option<Cow<'_, [u8]>> {
        let (header, bytes) = self.section_bytes(name)?;
        let Some((compression, offset, size)) = header.compression(LE, self.data()).ok()? else {
            return Some(Cow::Borrowed(bytes));
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
        CompressedData { format, data, uncompressed_size }.decompress().ok()
    }
}

fn borrow<'a>(sections: &'a Bytes<'_>) -> Dwarf<Slice<'a>> {
    sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian))
}

/// The files that the entries of units are in, if those are others, by where the units start.
#[derive(Default)]
struct Units {
    split_off: HashMap<usize, Option<Vec<u8>>>,
}

impl Units {
    fn split_off(&mut self, context: &Context<Slice<'_>>, svma: Svma) -> Option<Vec<u8>> {
        // Split parts are not loaded; then this is the skeleton that names them.
        let unit = context.find_dwarf_and_unit(svma.0).skip_all_loads()?;
        let start = unit.debug_info_offset().map_or(usize::MAX, |offset| offset.0);
        let name = || {
            let name = unit.dwo_name().ok().flatten().and_then(|name| unit.attr_string(name).ok());
            unit.dwo_id.map(|_| cut(name.map_or(b"?", |name| name.slice())))
        };
        self.split_off.entry(start).or_insert_with(name).clone()
    }
}

fn calls_at(context: &Context<Slice<'_>>, svma: Svma, units: &mut Units) -> Calls {
    let mut calls = Calls { calls: Vec::new(), lacking: units.split_off(context, svma) };
    let Ok(mut frames) = context.find_frames(svma.0).skip_all_loads() else { return calls };
    while let Ok(Some(frame)) = frames.next() {
        let location = frame.location.as_ref();
        calls.calls.push(Call {
            function: frame.function.map(|function| cut(function.name.slice())),
            file: location.and_then(|location| location.file).map(|file| cut(file.as_bytes())),
            line: location.and_then(|location| location.line).filter(|line| *line > 0),
        });
        if calls.calls.len() >= MAX_CALLS {
            break;
        }
    }
    // An entry that tells nothing is none.
    calls.calls.retain(|call| *call != Call::default());
    calls
}

fn cut(text: &[u8]) -> Vec<u8> {
    text.get(..MAX_TEXT).unwrap_or(text).to_vec()
}
