//! Where a runtime may be: the modules' writable memory, and all else that is writable. How it is read: in bulk.

use super::Target;
use pyst_elf::{ElfFile, ModuleId};
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::{MapV1, Module};
use pyst_snapshot::{Address, Range};

/// How much is read at once.
const PIECE: u64 = 1 << 20;

/// How much of the zeroed data behind a module is searched where no file tells its length.
const UNKNOWN_BSS: u64 = 64 << 20;

/// The unit in which memory is mapped.
const PAGE: u64 = 4096;

/// Shared with other processes.
const SHARED: u16 = 8;

/// A range that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) range: Range,
    /// The module that it belongs to.
    pub(super) module: Option<ModuleId>,
}

/// The writable memory of modules, those first that come first in `modules`.
pub(super) fn of_modules(target: &Target<'_>, modules: &[(ModuleId, &Module)]) -> Vec<Place> {
    modules.iter().flat_map(|(id, module)| of_module(target, *id, module)).collect()
}

/// The writable memory of one module: what is mapped from its file, and the zeroed data behind that, which is mapped from
/// nowhere.
pub(super) fn of_module(target: &Target<'_>, id: ModuleId, module: &Module) -> Vec<Place> {
    let mapped = module.ranges.iter().copied().chain(bss(target.maps, module, (target.files)(id)));
    let parts =
        mapped.flat_map(|range| among(target.maps, range).filter(is_data).map(move |map| map.range.intersect(range)));
    parts.filter(|range| !range.is_empty()).map(|range| Place { range, module: Some(id) }).collect()
}

/// Where the readable memory of a module is that nobody may write: its code and constants.
pub(super) fn constants_of(target: &Target<'_>, module: &Module) -> Vec<Range> {
    let constant = |map: &&MapV1| map.is_readable() && !map.is_writable();
    let parts = module
        .ranges
        .iter()
        .flat_map(|range| among(target.maps, *range).filter(constant).map(move |map| map.range.intersect(*range)));
    parts.collect()
}

/// All private memory that is writable and in none of `places`. A running interpreter writes to its runtime all the time,
/// and shares it with no other process. What is mapped of a device may do something when it is read.
pub(super) fn elsewhere(target: &Target<'_>, places: &[Place]) -> Vec<Place> {
    let mut known: RangeSet = places.iter().map(|place| place.range).collect();
    let known = known.merged();
    let writable = target.maps.iter().filter(|map| is_data(map) && !map.path.0.starts_with(b"/dev/"));
    let mut ranges = Vec::new();
    for map in writable {
        let mut start = map.range.start;
        let first = known.partition_point(|range| range.end <= map.range.start);
        for range in known.iter().skip(first).take_while(|range| range.start < map.range.end) {
            ranges.push(Range { start, end: range.start.max(start) });
            start = range.end;
        }
        ranges.push(Range { start, end: map.range.end.max(start) });
    }
    let touched = ranges.into_iter().filter(|range| !range.is_empty()).flat_map(|range| target.memory.touched(range));
    touched.map(|range| Place { range, module: None }).collect()
}

/// The mappings that pointers of a runtime may lead to, joined where they touch.
pub(super) fn pointed_to(target: &Target<'_>) -> Vec<Range> {
    let mut ranges: RangeSet = target.maps.iter().filter(is_data).map(|map| map.range).collect();
    ranges.merged().to_vec()
}

fn is_data(map: &&MapV1) -> bool {
    map.is_readable() && map.is_writable() && map.permissions & SHARED == 0
}

/// The anonymous mapping right behind a module, as far as the module's last segment reaches into it. It can be one mapping
/// with the heap.
fn bss(maps: &[MapV1], module: &Module, file: Option<&ElfFile>) -> Option<Range> {
    let end = module.ranges.iter().map(|range| range.end).max()?;
    let behind = maps.iter().find(|map| map.range.start == end)?;
    let segments = file.map(ElfFile::load_segments).unwrap_or_default();
    let stated = segments.iter().map(|segment| segment.memory.end.to_address(module.bias)).max();
    let limit = match stated {
        Some(stated) => Address(stated.0.checked_next_multiple_of(PAGE)?),
        None if behind.path.0.is_empty() => end.checked_add(UNKNOWN_BSS)?,
        None => return None,
    };
    let anonymous = behind.path.0.is_empty() || behind.path.0.starts_with(b"[");
    let range = behind.range.intersect(Range { start: end, end: limit.max(end) });
    (anonymous && !range.is_empty()).then_some(range)
}

/// The mappings that meet `range`.
fn among(maps: &[MapV1], range: Range) -> impl Iterator<Item = &MapV1> {
    let first = maps.partition_point(|map| map.range.end <= range.start);
    maps.iter().skip(first).take_while(move |map| map.range.start < range.end)
}

/// A range in pieces that are read at once, as long as `left` lasts.
pub(super) fn pieces<'b>(range: Range, left: &'b mut u64) -> impl Iterator<Item = Range> + use<'b> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let length = PIECE.min(range.end.0.saturating_sub(start.0)).min(*left);
        let piece = Range::sized(start, length).filter(|piece| !piece.is_empty())?;
        *left = left.saturating_sub(length);
        start = piece.end;
        Some(piece)
    })
}

/// The bytes of a piece; zeroes where there are none to be had.
pub(super) fn read(piece: Range, memory: &dyn Memory) -> Vec<u8> {
    let Ok(length) = usize::try_from(piece.len()) else { return Vec::new() };
    let mut bytes = vec![0; length];
    if memory.read(piece.start, &mut bytes).is_ok() {
        return bytes;
    }
    let mut at = piece.start;
    for page in bytes.chunks_mut(PAGE as usize) {
        if memory.read(at, page).is_err() {
            page.fill(0);
        }
        at = Address(at.0.saturating_add(page.len() as u64));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_elf::ModuleTable;
    use pyst_memory::Image;
    use pyst_snapshot::Bytes;
    use pyst_snapshot::payload::Modules;

    fn range(start: u64, end: u64) -> Range {
        Range { start: Address(start), end: Address(end) }
    }

    fn map(start: u64, end: u64, permissions: u16, path: &str) -> MapV1 {
        MapV1 { range: range(start, end), permissions, path: Bytes::from(path), ..MapV1::default() }
    }

    #[test]
    fn the_zeroed_data_behind_a_module_is_its_own_and_the_rest_is_elsewhere() {
        let maps = [
            map(0x1000, 0x2000, 5, "/bin/a"),
            map(0x2000, 0x3000, 6, "/bin/a"),
            map(0x3000, 0x5000, 6, ""),
            map(0x7000, 0x9000, 6, "[heap]"),
            map(0xa000, 0xb000, 6, "/dev/dri/card0"),
            map(0xb000, 0xc000, 6 | SHARED, "/dev/zero"),
            map(0xd000, 0xe000, 4, ""),
        ];
        let module = Module {
            path: Bytes::from("/bin/a"),
            ranges: vec![range(0x1000, 0x2000), range(0x2000, 0x3000)],
            ..Module::default()
        };
        let table = ModuleTable::new(&Modules { modules: vec![module] });
        let memory = Image::new();
        let target = Target { modules: &table, maps: &maps, files: &|_| None, memory: &memory };
        let modules: Vec<_> = table.iter().collect();
        let places = of_modules(&target, &modules);
        let ranges = |places: &[Place]| places.iter().map(|place| place.range).collect::<Vec<_>>();
        assert_eq!(ranges(&places), [range(0x2000, 0x3000), range(0x3000, 0x5000)]);
        assert_eq!(ranges(&elsewhere(&target, &places)), [range(0x7000, 0x9000)]);
        assert_eq!(ranges(&elsewhere(&target, &places[..1])), [range(0x3000, 0x5000), range(0x7000, 0x9000)]);
        assert_eq!(constants_of(&target, &target.modules.get(ModuleId(0)).unwrap().clone()), [range(0x1000, 0x2000)]);
    }

    #[test]
    fn pieces_cover_a_range_and_end_with_the_budget() {
        let mut left = u64::MAX;
        let all: Vec<Range> = pieces(range(0x1000, 0x1000 + PIECE + 5), &mut left).collect();
        assert_eq!(all, [range(0x1000, 0x1000 + PIECE), range(0x1000 + PIECE, 0x1000 + PIECE + 5)]);
        let mut left = 10;
        assert_eq!(pieces(range(0, PIECE), &mut left).map(Range::len).collect::<Vec<_>>(), [10]);
        assert_eq!(pieces(range(0, PIECE), &mut left).count(), 0);
    }

    #[test]
    fn what_can_not_be_read_of_a_piece_costs_no_more_than_itself() {
        let mut image = Image::new();
        image.extend([(Address(0x1000), vec![7; 0x1000].into()), (Address(0x3000), vec![8; 0x1000].into())]);
        let bytes = read(range(0x1000, 0x4000), &image);
        assert_eq!((bytes[0xfff], bytes[0x1000], bytes[0x2000]), (7, 0, 8));
    }
}
