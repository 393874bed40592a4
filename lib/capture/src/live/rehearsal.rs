//! The rehearsal: all that the stop will read, read while the target runs.
//!
//! In the stop the same is read, and what has not changed need not be walked over again: the walk is a function of what it
//! reads. What must hold for that: what is compared is what the walk has seen, all of it, and a thread that is not where it
//! slept, or was not there, is not as rehearsed.

use super::copy::Copy;
use super::memory::LiveMemory;
use super::pagemap::Pagemap;
use super::sleepers::Sleeper;
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::{Map, Python};
use pyst_snapshot::{Address, Range, Tid};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// How long what was read is taken to be there still. It is asked about in no time, so that what is gained is little where a look
/// takes longer; and a target that maps a file of a network file system in its place must not have much time for that.
const FRESH: Duration = Duration::from_millis(50);

/// Ranges that are closer than this are read as one.
pub(crate) const GRAIN: u64 = 64;

/// What ranges held before the stop, told by a checksum. Kept as it was, it would be as large as the copy itself; and a change
/// that none shows costs no more than what nobody has read then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// Ascending and disjoint.
    pub(crate) ranges: Vec<Range>,
    /// Of what they held, one after the other.
    pub(crate) checksum: u32,
}

impl Expected {
    /// What `memory` holds of `ranges`, which are ascending and disjoint; none of those that cannot be read.
    pub(crate) fn of(ranges: &[Range], memory: &dyn Memory) -> Expected {
        let mut checksum = Checksum::default();
        let mut bytes = Vec::new();
        let mut is_read = |range: &&Range| {
            let Ok(length) = usize::try_from(range.len()) else { return false };
            bytes.resize(length, 0);
            let is_read = memory.read(range.start, &mut bytes).is_ok();
            if is_read {
                checksum.add(&bytes);
            }
            is_read
        };
        let ranges = ranges.iter().filter(|range| is_read(range)).copied().collect();
        Expected { ranges, checksum: checksum.value() }
    }
}

/// A checksum of bytes that come in small pieces: gathered first, for it is fast over long ones only.
pub(crate) struct Checksum {
    sum: crc32fast::Hasher,
    gathered: [u8; 4096],
    length: usize,
}

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum { sum: crc32fast::Hasher::new(), gathered: [0; 4096], length: 0 }
    }
}

impl Checksum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let after = self.length.saturating_add(bytes.len());
        if let Some(place) = self.gathered.get_mut(self.length..after) {
            place.copy_from_slice(bytes);
            self.length = after;
        } else {
            self.flush();
            self.sum.update(bytes);
        }
    }

    pub(crate) fn value(mut self) -> u32 {
        self.flush();
        self.sum.finalize()
    }

    fn flush(&mut self) {
        self.sum.update(self.gathered.get(..self.length).unwrap_or_default());
        self.length = 0;
    }
}

/// What was looked at while the target ran.
#[derive(Default)]
pub(crate) struct Seen<'a> {
    /// What the walk over Python's structures has read, and that over locals.
    pub(crate) walked: RangeSet,
    /// Whether the Python frames hold together.
    pub(crate) settled: bool,
    pub(crate) python: Option<&'a Python>,
    /// Threads that sleep, by ascending tid, and the parts of their stacks that are used and in memory.
    pub(crate) stacks: Vec<(Sleeper, Vec<Range>)>,
    /// What the stacks lead to.
    pub(crate) led_to: RangeSet,
    /// Where more may be wanted by then.
    pub(crate) slack: Vec<Range>,
}

/// What the stop will read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rehearsal {
    /// All of it that is in memory: ascending, disjoint, within mappings.
    pub(crate) ranges: Vec<Range>,
    /// What of it was not read a moment ago, or is of a file, and since when that is known: the rest is what the kernel takes back
    /// last.
    doubtful: Vec<Range>,
    since: Option<Instant>,
    /// What the walk saw; nothing where that was too much to keep until now.
    expected: Option<Expected>,
    /// Whether the Python frames hold together.
    settled: bool,
    /// The thread states, with the threads that run them.
    states: Vec<(Address, Option<Tid>)>,
    /// By ascending tid, with what their stacks held.
    sleepers: Vec<(Sleeper, Expected)>,
}

impl Rehearsal {
    pub(crate) fn of(seen: Seen<'_>, memory: &LiveMemory, maps: &[Map]) -> Rehearsal {
        let Seen { walked, settled, python, stacks, led_to, slack } = seen;
        // Of thousands of threads these are tens of thousands, so that each list goes when the next is made.
        let there = |ranges: Vec<Range>| -> Vec<Range> {
            let mut there = Vec::with_capacity(ranges.len());
            let is_there = |page| memory.is_there(page);
            ranges.into_iter().for_each(|range| there.extend(pages_of(range, is_there)));
            there
        };
        let walked = there(walked.into_merged());
        let led_to = there(led_to.into_merged());
        let of_stacks = stacks.iter().flat_map(|(_, parts)| parts);
        let mut all: RangeSet = walked.iter().chain(&led_to).chain(of_stacks).chain(&slack).copied().collect();
        let most = all.merged().iter().map(|range| range.len()).sum::<u64>() / 2 * 3;
        let ranges = there(joined(widen(all, maps), most));
        let states = python.into_iter().flat_map(|python| &python.states);
        let doubtful = ranges.iter().flat_map(|range| pages_of(*range, |page| !memory.is_fresh(page))).collect();
        Rehearsal {
            ranges,
            doubtful,
            since: Some(memory.since()),
            expected: memory.kept_all().then(|| Expected::of(&walked, memory)),
            settled,
            states: states.map(|state| (state.address, state.tid)).collect(),
            sleepers: stacks.into_iter().map(|(sleeper, parts)| (sleeper, Expected::of(&parts, memory))).collect(),
        }
    }

    /// Ranges of which nothing was seen.
    pub(crate) fn unseen(ranges: Vec<Range>) -> Rehearsal {
        Rehearsal { ranges, ..Rehearsal::default() }
    }

    /// What of it is in memory now.
    pub(crate) fn present(&self, pagemap: &Pagemap) -> Cow<'_, [Range]> {
        let is_fresh = self.since.is_some_and(|since| since.elapsed() < FRESH);
        if is_fresh && pagemap.present(&self.doubtful) == self.doubtful {
            Cow::from(&self.ranges)
        } else {
            pagemap.present(&self.ranges).into()
        }
    }

    /// A thread that slept.
    pub(crate) fn sleeper(&self, tid: Tid) -> Option<&Sleeper> {
        self.asleep(tid).map(|(sleeper, _)| sleeper)
    }

    /// Whether `copy` holds of the stack of a thread that slept what it held then.
    pub(crate) fn is_stack_in(&self, copy: &Copy, tid: Tid) -> bool {
        self.asleep(tid).is_some_and(|(_, expected)| copy.is(expected))
    }

    fn asleep(&self, tid: Tid) -> Option<&(Sleeper, Expected)> {
        let at = self.sleepers.binary_search_by_key(&tid, |(sleeper, _)| sleeper.tid).ok()?;
        self.sleepers.get(at)
    }

    /// The thread states that one of these threads may run.
    pub(crate) fn states_of(&self, may_run: impl Fn(Tid) -> bool) -> Vec<Address> {
        let states = self.states.iter().filter(|(_, tid)| tid.is_none_or(&may_run));
        states.map(|(address, _)| *address).collect()
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

/// What of a range lies in pages that are as wanted; each is known by an address in it.
fn pages_of(range: Range, is_wanted: impl Fn(u64) -> bool) -> Vec<Range> {
    const PAGE: u64 = super::page::PAGE;
    let mut parts: Vec<Range> = Vec::with_capacity(1);
    let mut start = range.start;
    while start < range.end {
        let end = Address((start.0 | (PAGE - 1)).saturating_add(1)).min(range.end);
        if is_wanted(start.0) {
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
pub(crate) fn widen(ranges: RangeSet, maps: &[Map]) -> Vec<Range> {
    let round = |range: &Range| Range {
        start: Address(range.start.0 & !(GRAIN - 1)),
        end: Address(range.end.0.checked_next_multiple_of(GRAIN).unwrap_or(range.end.0)),
    };
    let wide: RangeSet = ranges.into_merged().iter().map(round).collect();
    let mut clipped = RangeSet::new();
    for range in &wide.into_merged() {
        let first = maps.partition_point(|map| map.range.end <= range.start);
        for map in maps.iter().skip(first).take_while(|map| map.range.start < range.end) {
            if map.is_readable() {
                clipped.insert(map.range.intersect(*range));
            }
        }
    }
    clipped.into_merged()
}

/// The ranges with those made one that are close to each other, as far as they have no more than `most` bytes then: each
/// costs more than what lies between, and what nobody wants need not be read.
fn joined(ranges: Vec<Range>, most: u64) -> Vec<Range> {
    const CLOSE: [u64; 3] = [512, 256, 128];
    let length = |ranges: &[Range]| ranges.iter().map(|range| range.len()).sum::<u64>();
    let joined = CLOSE.iter().map(|close| joined_if_closer(&ranges, *close)).find(|joined| length(joined) <= most);
    joined.unwrap_or(ranges)
}

/// The ranges with those made one that are no further apart than `close`.
fn joined_if_closer(ranges: &[Range], close: u64) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start.0.saturating_sub(last.end.0) <= close => last.end = range.end,
            _ => joined.push(*range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::super::{maps, own_memory, procfs::Proc};
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
        let close = [range(0x1000, 0x1280), range(0x1f80, 0x2000), range(0x2201, 0x2240)];
        assert_eq!(joined(ranges.clone(), 0x1000), close);
        assert_eq!(joined(ranges.clone(), 0x200), ranges, "more of what nobody wants than of what is wanted");
    }

    #[test]
    fn a_byte_that_the_walk_saw_and_that_has_changed_is_noticed() {
        let mut bytes = vec![1u8; 10_000];
        let at = bytes.as_ptr().addr() as u64;
        let memory = own_memory();
        let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        let seen = [range(at + 100, at + 200), range(at + 5000, at + 5001)];
        let slack = vec![range(at + 5001, at + 5200)];
        let seen = Seen { walked: seen.into_iter().collect(), settled: true, slack, ..Seen::default() };
        let rehearsal = Rehearsal::of(seen, &memory, &maps);
        let settled = |rehearsal: &Rehearsal| {
            let copy = Copy::of(nix::unistd::getpid());
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

    #[test]
    fn only_what_is_in_memory_is_read_whatever_was_seen_of_it() {
        let mut bytes = Vec::<u8>::with_capacity(64 << 20);
        let start = bytes.as_ptr().addr() as u64;
        let page = |index: u64| Address(((start + (32 << 20)) & !0xfff) + index * 4096);
        let pages = |first, end| Range { start: page(first), end: page(end) };
        let (read, there, not_there) = (pages(0, 1), pages(1, 2), pages(2000, 2001));
        for range in [read, there] {
            let at = (range.start.0 - start) as usize;
            bytes.spare_capacity_mut()[at].write(1);
        }
        let (memory, pagemap) = (own_memory(), Pagemap::of(&Proc::of(std::process::id())));
        let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        memory.read(read.start, &mut [0]).unwrap();
        let seen = Seen { walked: [read].into_iter().collect(), slack: vec![there, not_there], ..Seen::default() };
        let rehearsal = Rehearsal::of(seen, &memory, &maps);
        assert_eq!(rehearsal.doubtful, [there], "the other one was read");
        assert_eq!(*rehearsal.present(&pagemap), [pages(0, 2)]);
        let unseen = Rehearsal::unseen(vec![there, not_there]);
        assert_eq!(*unseen.present(&pagemap), [there]);
    }

    #[test]
    fn a_stack_that_has_changed_is_noticed_and_python_holds_all_the_same() {
        let mut bytes = vec![1u8; 10_000];
        let at = bytes.as_ptr().addr() as u64;
        let memory = own_memory();
        let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        let sleeper = |tid| Sleeper::at(Tid(tid), Address(at));
        let seen = Seen {
            walked: [range(at + 100, at + 200)].into_iter().collect(),
            settled: true,
            stacks: vec![
                (sleeper(7), vec![range(at + 3000, at + 3100)]),
                (sleeper(9), vec![range(at + 5000, at + 5100)]),
            ],
            ..Seen::default()
        };
        let rehearsal = Rehearsal::of(seen, &memory, &maps);
        bytes[5050] = 2;
        std::hint::black_box(&mut bytes);
        let copy = Copy::of(nix::unistd::getpid());
        copy.read_ranges(&rehearsal.ranges).unwrap();
        assert_eq!(rehearsal.settled(&copy), Some(true));
        assert_eq!([7, 9, 11].map(|tid| rehearsal.is_stack_in(&copy, Tid(tid))), [true, false, false]);
    }

    #[test]
    fn a_state_whose_thread_is_not_known_may_be_any_threads() {
        let states = vec![(Address(1), Some(Tid(7))), (Address(2), None), (Address(3), Some(Tid(9)))];
        let rehearsal = Rehearsal { states, ..Rehearsal::default() };
        assert_eq!(rehearsal.states_of(|tid| tid == Tid(9)), [Address(2), Address(3)]);
    }

    #[test]
    fn bytes_have_one_checksum_however_they_are_cut() {
        let bytes: Vec<u8> = (0..20_000u32).map(|at| (at * at) as u8).collect();
        let sum = |length: usize| {
            let mut sum = Checksum::default();
            bytes.chunks(length).for_each(|chunk| sum.add(chunk));
            sum.value()
        };
        assert_eq!([1, 7, 4095, 4096, 4097, 20_000].map(sum), [crc32fast::hash(&bytes); 6]);
    }
}
