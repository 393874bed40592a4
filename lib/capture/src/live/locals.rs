//! What exceptions, arguments and locals are made of: which ranges they lie in is learnt before the stop, and they are read
//! with all else.
//!
//! Where they hold during the stop what they held before, nothing more is to be done. Else the walk over the copy says what
//! it misses, and that is read once more; what is still missing then stays so, and pyst-py says it. So they cost one
//! batched read at most, however they change. Only what is in memory is read: a page that has to be brought may take for
//! ever.

use super::copy::Copy;
use super::maps;
use super::pagemap::Pagemap;
use super::rehearsal::{Expected, widen};
use pyst_memory::{Memory, RangeSet, Recorder};
use pyst_snapshot::payload::{FoundRuntime, Map, Python};
use pyst_snapshot::{Address, Range};
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
    /// What they are made of, and what that held before the stop.
    expected: Arc<Expected>,
    /// Where the thread states were.
    states: Arc<Vec<Address>>,
    /// Where the frames were, and what they ran, if locals are wanted.
    frames: Arc<Vec<Frame>>,
}

/// A frame: where it lies, and the address of its code.
type Frame = (Address, Address);

impl Locals {
    /// Walks over the exceptions of `python`, and over its variables if there is a limit for them, in the running target.
    pub(crate) fn look(found: &FoundRuntime, python: &Python, limit: Option<u64>, memory: &dyn Memory) -> Locals {
        let recorder = Recorder::new(memory);
        walk(found, python, &recorder, limit);
        let frames = limit.map_or_else(Vec::new, |_| frames(python));
        let states = python.states.iter().map(|state| state.address).collect();
        Locals {
            limit,
            expected: Arc::new(Expected::of(&recorder.ranges(), memory)),
            states: Arc::new(states),
            frames: Arc::new(frames),
        }
    }

    /// Where they were before the stop: ascending and disjoint.
    pub(crate) fn ranges(&self) -> &[Range] {
        &self.expected.ranges
    }

    /// Whether `copy` holds what they held before the stop.
    pub(crate) fn are_in(&self, copy: &Copy) -> bool {
        copy.is(&self.expected)
    }

    /// Reads what `copy`, which has what was predicted, misses of what `python` leads to, as far as it is in memory.
    pub(crate) fn complete(&self, copy: &Copy, found: &FoundRuntime, python: &Python, maps: &[Map], pagemap: &Pagemap) {
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
        let wanted: RangeSet = missed.iter().filter(|range| is_mapped(range)).map(around).collect();
        let _ = copy.read_ranges(&pagemap.present(&widen(wanted, maps)));
    }

    fn is_as_expected(&self, copy: &Copy, python: &Python) -> bool {
        let states = python.states.iter().map(|state| state.address);
        let has_frames = self.limit.is_none() || *self.frames == frames(python);
        has_frames && states.eq(self.states.iter().copied()) && self.are_in(copy)
    }
}

fn walk(found: &FoundRuntime, python: &Python, memory: &dyn Memory, limit: Option<u64>) {
    let _ = pyst_python::exceptions(found, python, memory);
    if let Some(limit) = limit {
        let _ = pyst_python::variables(found, python, memory, limit);
    }
}

fn frames(python: &Python) -> Vec<Frame> {
    let code = |index: u32| python.codes.get(index as usize).map(|code| code.address).unwrap_or_default();
    let frames = python.states.iter().flat_map(|state| &state.frames);
    frames.map(|frame| (frame.address, code(frame.code))).collect()
}
