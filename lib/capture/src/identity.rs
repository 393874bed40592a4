//! Whether a file is the one that was mapped: by its build-id and where it is loaded, or else by what of it is in memory.
//!
//! A name proves nothing. strip and patchelf keep a build-id while they change the rest; so segments are compared, too. Where there is no
//! build-id, or it lies outside of the first page, the contents are compared as far as memory has them: a core may hold no more
//! than the first page.

use pyst_elf::{ElfFile, LoadSegment};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::Map;
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

/// How a file compares with what was mapped.
pub(crate) enum Comparison {
    Same,
    /// Memory holds nothing to compare.
    Unknown,
    /// In words, with what either says.
    Different(String),
}

/// Compares `file` with what `maps`, which are a module's, ascending, have of it in memory.
pub(crate) fn compare(
    file: File,
    maps: &[Map],
    memory: &dyn Memory,
) -> Result<(Comparison, ElfFile), pyst_elf::ElfError> {
    let contents = file.try_clone()?;
    let file = ElfFile::open(file)?;
    let page = maps.first().filter(|map| map.offset == 0).and_then(|map| page_at(map.range.start, memory));
    let Some(page) = page else { return Ok((Comparison::Unknown, file)) };
    let mapped = ElfFile::from_bytes(page)?;
    let ranges_differ = || {
        let (then, now) = (ranges(mapped.load_segments()), ranges(file.load_segments()));
        (mapped.load_segments() != file.load_segments())
            .then(|| format!("it is loaded to {now}, the one mapped to {then}"))
    };
    let difference = match (mapped.build_id(), file.build_id()) {
        (Some(then), Some(now)) if then == now => {
            ranges_differ().map(|ranges| format!("its build-id is the same, {}, but {ranges}", hex(now)))
        }
        (Some(then), now) => {
            let now = now.map_or_else(|| "none".to_owned(), hex);
            Some(format!("its build-id is {now}, that of the one mapped {}", hex(then)))
        }
        (None, _) => {
            let constant: Vec<&Map> = maps.iter().filter(|map| is_constant(map, mapped.load_segments())).collect();
            ranges_differ().or_else(|| contents_differ(&contents, &constant, memory))
        }
    };
    let comparison = difference.map_or(Comparison::Same, Comparison::Different);
    Ok((comparison, file))
}

/// Whether nothing writes to the mapping, not even the loader, which relocates part of what is then made read-only.
fn is_constant(map: &Map, segments: &[LoadSegment]) -> bool {
    let starts_here = |segment: &&LoadSegment| segment.offset & !(PAGE - 1) == map.offset;
    let mut segments = segments.iter().filter(starts_here).peekable();
    map.is_readable() && segments.peek().is_some() && segments.all(|segment| segment.flags & 2 == 0)
}

/// Where the file's contents are not those of memory: at the ends of each of these mappings, where memory has them.
fn contents_differ(file: &File, maps: &[&Map], memory: &dyn Memory) -> Option<String> {
    let mut pages = maps.iter().flat_map(|map| {
        let last = map.range.len().saturating_sub(PAGE);
        [0, last].map(|from_start| (map.range.start.checked_add(from_start), map.offset.saturating_add(from_start)))
    });
    pages.find_map(|(address, offset)| {
        let then = page_at(address?, memory)?;
        let mut now = vec![0; then.len()];
        // What lies past the file's end is zero in memory.
        let mut filled = 0;
        while let Some(rest) = now.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(read) if read > 0 => filled = filled.saturating_add(read),
                _ => break,
            }
        }
        (then != now).then(|| {
            format!("there is no build-id to go by, and their contents differ in the page at offset {offset:#x}")
        })
    })
}

fn page_at(address: Address, memory: &dyn Memory) -> Option<Vec<u8>> {
    memory.read_bytes(address, PAGE, PAGE).ok()
}

/// `0x0..0x1000, 0x2000..0x3000`.
fn ranges(segments: &[LoadSegment]) -> String {
    let of = |segment: &LoadSegment| format!("{:#x}..{:#x}", segment.memory.start.0, segment.memory.end.0);
    segments.iter().take(8).map(of).collect::<Vec<_>>().join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
