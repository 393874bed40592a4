//! What exceptions, arguments and locals are made of: which ranges they lie in is learnt before the stop, and they are read
//! with all else.
//!
//! Where they hold during the stop what they held before, nothing more is to be done. Else the walk over the copy says what
//! it misses, and that is read once more; what is still missing then stays so, and pyst-py says it. So they cost one
//! batched read at most, however they change. Only what is in memory is read: a page that has to be brought may take for
//! ever.

use super::copy::Copy;
use super::look::widen;
use super::maps;
use super::memory::PAGE;
use super::resident::Resident;
use pyst_memory::{Memory, RangeSet, Recorder};
use pyst_snapshot::payload::{FoundRuntime, Map, Python};
use pyst_snapshot::{Address, Range};
use std::fs::File;
use std::sync::Arc;

/// What is read around an object that the walk over the copy misses: its items, digits or characters lie right behind it,
/// most of the time.
const AROUND: u64 = 256;

/// How many missing ranges are read at most.
const MISSED: usize = 16 << 10;

/// What exceptions, arguments and locals are expected to be.
#[derive(Clone)]
pub(crate) struct Locals {
    /// How many bytes may be read for arguments and locals, if they are wanted.
    limit: Option<u64>,
    /// The ranges, ascending, disjoint, within mappings, and what they held before the stop.
    expected: Arc<Vec<(Range, Vec<u8>)>>,
    ranges: Arc<Vec<Range>>,
    /// What of them is in memory.
    resident: Arc<Vec<Range>>,
    /// Where the thread states were.
    states: Arc<Vec<Address>>,
    /// Where the frames were, and what they ran, if locals are wanted.
    frames: Arc<Vec<Frame>>,
}

/// A frame: where it lies, and the address of its code.
type Frame = (Address, Address);

impl Locals {
    /// Walks over the exceptions of `python`, and over its variables if there is a limit for them, in the running target.
    pub(crate) fn look(
        found: &FoundRuntime,
        python: &Python,
        limit: Option<u64>,
        memory: &dyn Memory,
        maps: &[Map],
    ) -> Locals {
        let recorder = Recorder::new(memory);
        walk(found, python, &recorder, limit);
        let ranges = joined(widen(&recorder.ranges(), maps, 0));
        let held = |range: &Range| {
            let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
            memory.read(range.start, &mut bytes).ok()?;
            Some((*range, bytes))
        };
        let expected = ranges.iter().filter_map(held).collect();
        let frames = limit.map_or_else(Vec::new, |_| frames(python));
        let ranges = Arc::new(ranges);
        let states = python.states.iter().map(|state| state.address).collect();
        Locals {
            limit,
            expected: Arc::new(expected),
            resident: Arc::clone(&ranges),
            ranges,
            states: Arc::new(states),
            frames: Arc::new(frames),
        }
    }

    /// The same, of which is known what is in memory.
    pub(crate) fn among(&self, resident: &Resident) -> Locals {
        Locals { resident: Arc::new(resident.part_of(&self.ranges)), ..self.clone() }
    }

    /// What is in memory of where they were before the stop.
    pub(crate) fn resident(&self) -> &[Range] {
        &self.resident
    }

    /// Where they were before the stop.
    pub(crate) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Reads what `copy`, which has what was predicted, misses of what `python` leads to, as far as it is in memory.
    pub(crate) fn complete(
        &self,
        copy: &Copy,
        found: &FoundRuntime,
        python: &Python,
        maps: &[Map],
        pagemap: Option<&File>,
    ) {
        if self.is_as_expected(copy, python) {
            return;
        }
        let ((), mut missed) = copy.without_fetching(|| walk(found, python, copy, self.limit));
        missed.truncate(MISSED);
        let around = |range: &Range| {
            let end = range.end.0.max(range.start.0.saturating_add(AROUND));
            Range { start: range.start, end: Address(end) }
        };
        let is_mapped = |range: &Range| maps::find(maps, range.start).is_some();
        let mut wanted: RangeSet = missed.iter().filter(|range| is_mapped(range)).map(around).collect();
        let wanted = widen(wanted.merged(), maps, 0);
        let wanted = match pagemap {
            Some(pagemap) => Resident::by(pagemap, wanted.iter().copied()).part_of(&wanted),
            None => wanted,
        };
        let _ = copy.read_ranges(&wanted);
    }

    fn is_as_expected(&self, copy: &Copy, python: &Python) -> bool {
        let states = python.states.iter().map(|state| state.address);
        let has_frames = self.limit.is_none() || *self.frames == frames(python);
        has_frames && states.eq(self.states.iter().copied()) && copy.is(&self.expected)
    }
}

fn walk(found: &FoundRuntime, python: &Python, memory: &dyn Memory, limit: Option<u64>) {
    let _ = pyst_python::exceptions(found, python, memory);
    if let Some(limit) = limit {
        let _ = pyst_python::variables(found, python, memory, limit);
    }
}

/// The ranges with those of one page made one that are close to each other: a call reads only so many.
fn joined(ranges: Vec<Range>) -> Vec<Range> {
    const CLOSE: u64 = 512;
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last)
                if range.start.0.saturating_sub(last.end.0) <= CLOSE
                    && last.end.0.saturating_sub(1) / PAGE == range.start.0 / PAGE =>
            {
                last.end = range.end;
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn frames(python: &Python) -> Vec<Frame> {
    let code = |index: u32| python.codes.get(index as usize).map(|code| code.address).unwrap_or_default();
    let frames = python.states.iter().flat_map(|state| &state.frames);
    frames.map(|frame| (frame.address, code(frame.code))).collect()
}
