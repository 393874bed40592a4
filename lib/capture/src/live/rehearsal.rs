//! The rehearsal: all that the stop will read, read while the target runs.
//!
//! In the stop the same is read, and what has not changed need not be walked over again: the walk is a function of what it
//! reads. What must hold for that: what is compared is what the walk has seen, to the byte, and a thread that is not where it
//! slept, or was not there, is not as rehearsed.

use super::copy::Copy;
use super::memory::LiveMemory;
use super::sleepers::Sleeper;
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::Map;
use pyst_snapshot::{Address, Range, Tid};

/// The most bytes that are kept for comparison. Whoever has more is walked over in the stop.
const MAX_EXPECTED: u64 = 8 << 20;

/// Ranges that are closer than this are read as one.
pub(crate) const GRAIN: u64 = 64;

/// What ranges held before the stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// Ascending and disjoint.
    pub(crate) ranges: Vec<Range>,
    /// What they held, one after the other.
    pub(crate) bytes: Vec<u8>,
}

impl Expected {
    /// What `memory` holds of `ranges`, which are ascending and disjoint; none of those that cannot be read.
    pub(crate) fn of(ranges: &[Range], memory: &dyn Memory) -> Expected {
        let length: u64 = ranges.iter().map(|range| range.len()).sum();
        let mut expected = Expected { ranges: Vec::with_capacity(ranges.len()), bytes: Vec::new() };
        expected.bytes.reserve_exact(usize::try_from(length).unwrap_or(0));
        for range in ranges {
            let before = expected.bytes.len();
            let Some(after) = usize::try_from(range.len()).ok().and_then(|length| before.checked_add(length)) else {
                continue;
            };
            expected.bytes.resize(after, 0);
            let place = expected.bytes.get_mut(before..).unwrap_or_default();
            if memory.read(range.start, place).is_ok() {
                expected.ranges.push(*range);
            } else {
                expected.bytes.truncate(before);
            }
        }
        expected
    }
}

/// What the stop will read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rehearsal {
    /// All of it that is in memory: ascending, disjoint, within mappings.
    pub(crate) ranges: Vec<Range>,
    /// What the walk saw; nothing where that is too much to compare.
    expected: Option<Expected>,
    /// By ascending tid.
    sleepers: Vec<Sleeper>,
    /// Whether the Python frames hold together.
    settled: bool,
}

impl Rehearsal {
    /// Of what the walk and whoever else has `seen`, and of `slack` where more may be wanted by then.
    pub(crate) fn of(
        seen: RangeSet,
        slack: &[Range],
        sleepers: Vec<Sleeper>,
        settled: bool,
        memory: &LiveMemory,
        maps: &[Map],
    ) -> Rehearsal {
        let mut seen = seen;
        let seen: Vec<Range> = seen.merged().iter().flat_map(|range| in_memory(*range, memory)).collect();
        let all: RangeSet = seen.iter().chain(slack).copied().collect();
        let ranges = joined(widen(all, maps)).into_iter().flat_map(|range| in_memory(range, memory)).collect();
        let is_small = seen.iter().map(|range| range.len()).sum::<u64>() <= MAX_EXPECTED;
        let expected = (is_small && memory.kept_all()).then(|| Expected::of(&seen, memory));
        Rehearsal { ranges, expected, sleepers, settled }
    }

    /// Ranges of which nothing was seen.
    pub(crate) fn unseen(ranges: Vec<Range>) -> Rehearsal {
        Rehearsal { ranges, ..Rehearsal::default() }
    }

    /// A thread that slept.
    pub(crate) fn sleeper(&self, tid: Tid) -> Option<&Sleeper> {
        let at = self.sleepers.binary_search_by_key(&tid, |sleeper| sleeper.tid).ok()?;
        self.sleepers.get(at)
    }

    /// How many bytes will be read.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|range| range.len()).sum()
    }

    /// Whether the Python frames hold together, if `copy` holds what the walk has seen.
    pub(crate) fn settled(&self, copy: &Copy) -> Option<bool> {
        let expected = self.expected.as_ref()?;
        copy.is(expected).then_some(self.settled)
    }
}

/// What of a range is in memory.
fn in_memory(range: Range, memory: &LiveMemory) -> Vec<Range> {
    const PAGE: u64 = super::memory::PAGE;
    let mut parts: Vec<Range> = Vec::with_capacity(1);
    let mut start = range.start;
    while start < range.end {
        let end = Address((start.0 | (PAGE - 1)).saturating_add(1)).min(range.end);
        if memory.is_there(start.0) {
            match parts.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => parts.push(Range { start, end }),
            }
        }
        start = end;
    }
    parts
}

/// The ranges with their ends rounded, clipped to readable mappings: one byte that cannot be read ends a whole batch.
pub(crate) fn widen(mut ranges: RangeSet, maps: &[Map]) -> Vec<Range> {
    let round = |range: &Range| Range {
        start: Address(range.start.0 & !(GRAIN - 1)),
        end: Address(range.end.0.checked_next_multiple_of(GRAIN).unwrap_or(range.end.0)),
    };
    let mut wide: RangeSet = ranges.merged().iter().map(round).collect();
    let mut clipped = RangeSet::new();
    for range in wide.merged() {
        let first = maps.partition_point(|map| map.range.end <= range.start);
        for map in maps.iter().skip(first).take_while(|map| map.range.start < range.end) {
            if map.is_readable() {
                clipped.insert(map.range.intersect(*range));
            }
        }
    }
    clipped.merged().to_vec()
}

/// The ranges with those made one that are close to each other: each costs more than what lies between.
fn joined(ranges: Vec<Range>) -> Vec<Range> {
    const CLOSE: u64 = 512;
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start.0.saturating_sub(last.end.0) <= CLOSE => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::super::{maps, own_memory};
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start: Address(start), end: Address(end) }
    }

    #[test]
    fn what_will_be_read_is_within_readable_mappings() {
        let maps = maps::parse(
            b"1000-2000 rw-p 00000000 00:00 0 \n2000-3000 ---p 00000000 00:00 0 \n3000-4000 rw-p 00000000 00:00 0 \n",
        );
        let widen = |ranges: &[Range]| super::widen(ranges.iter().copied().collect(), &maps);
        assert_eq!(widen(&[range(0x1101, 0x1110)]), [range(0x1100, 0x1140)]);
        assert_eq!(
            widen(&[range(0x1ff0, 0x2010), range(0x3100, 0x3101)]),
            [range(0x1fc0, 0x2000), range(0x3100, 0x3140)]
        );
        assert_eq!(widen(&[range(0x2100, 0x2101), range(0x9000, 0x9001)]), []);
    }

    #[test]
    fn ranges_that_are_close_are_read_as_one() {
        let ranges = vec![range(0x1000, 0x1040), range(0x1240, 0x1280), range(0x1f80, 0x2000), range(0x2201, 0x2240)];
        assert_eq!(joined(ranges), [range(0x1000, 0x1280), range(0x1f80, 0x2000), range(0x2201, 0x2240)]);
    }

    #[test]
    fn a_byte_that_the_walk_saw_and_that_has_changed_is_noticed() {
        let mut bytes = vec![1u8; 10_000];
        let at = bytes.as_ptr().addr() as u64;
        let memory = own_memory();
        let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        let seen = [range(at + 100, at + 200), range(at + 5000, at + 5001)];
        let rehearsal =
            Rehearsal::of(seen.into_iter().collect(), &[range(at + 5001, at + 5200)], Vec::new(), true, &memory, &maps);
        let settled = |rehearsal: &Rehearsal| {
            let copy = Copy::expecting(nix::unistd::getpid(), 0);
            copy.read_ranges(&rehearsal.ranges).unwrap();
            rehearsal.settled(&copy)
        };
        assert_eq!(settled(&rehearsal), Some(true));
        bytes[5100] = 2;
        std::hint::black_box(&mut bytes);
        assert_eq!(settled(&rehearsal), Some(true), "nobody has seen it");
        bytes[5000] = 2;
        std::hint::black_box(&mut bytes);
        assert_eq!(settled(&rehearsal), None);
    }
}
