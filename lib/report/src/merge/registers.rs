//! Placing runs by registers: an evaluation loop of 3.10 and older has the `PyFrameObject` that it runs in a callee-saved
//! register, as compilers do with what a long function needs everywhere (gcc: rbx).
//!
//! A register proves nothing alone. A loop in its first instructions still has its caller's; one that calls another loop
//! may have the callee's frame too, where the function between them was inlined; and a frame object that is reused may be
//! in a register that nobody looks at any more. So the symbols say which native frames are loops, and no place is taken
//! that leaves another run of the chain without a loop.

use super::{Place, PlacedBy, Run};
use pyst_snapshot::payload::PackedFrame;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The evaluation loops of a native stack.
pub(super) struct Loops {
    /// The native frames that are loops, innermost first.
    frames: Vec<usize>,
    /// What each of them has in its registers.
    registers: Vec<Vec<u64>>,
    /// For each of these values the loops that have it, by their places in `frames`.
    having: HashMap<u64, Vec<usize>>,
    /// Whether all loops there are can be seen.
    all: bool,
}

impl Loops {
    /// The loops among `frames`.
    pub(super) fn of_stack(frames: &[PackedFrame], reaches_base: bool, is_loop: &dyn Fn(usize) -> bool) -> Loops {
        let is_loop = |index: &usize| is_loop(*index);
        let indices: Vec<usize> = (0..frames.len()).filter(is_loop).collect();
        let registers = |index: &usize| frames.get(*index).into_iter().flat_map(PackedFrame::registers);
        let values = |index: &usize| registers(index).map(|(_, value)| value).collect();
        let registers: Vec<Vec<u64>> = indices.iter().map(values).collect();
        let mut having: HashMap<u64, Vec<usize>> = HashMap::new();
        for (place, value) in
            registers.iter().enumerate().flat_map(|(place, values)| values.iter().map(move |v| (place, v)))
        {
            having.entry(*value).or_default().push(place);
        }
        Loops { frames: indices, registers, having, all: reaches_base }
    }

    /// Places what runs of a chain it can, outermost first: of the loops that have a run's frame, its own is the outermost,
    /// for those inside of it may have inherited the register. Chains with an anchor are left alone.
    pub(super) fn place(&self, chain: &mut [Run], is_alone: bool) {
        if chain.iter().any(|run| run.anchor.is_some()) {
            return;
        }
        // After coro.throw() frames have no loop of their own; then the number of runs says nothing.
        let counts = is_alone && chain.len() <= self.frames.len();
        let mut end = self.frames.len();
        for (index, run) in chain.iter_mut().enumerate().rev() {
            // A loop is left for each run inside of this one.
            let first = if counts { index } else { 0 };
            let having = address(run).and_then(|address| self.having.get(&address));
            let having = having.map(Vec::as_slice).unwrap_or_default();
            let last = having.partition_point(|place| *place < end);
            let place = last.checked_sub(1).and_then(|last| having.get(last)).filter(|place| **place >= first);
            if let Some((place, frame)) = place.and_then(|place| Some((*place, *self.frames.get(*place)?))) {
                run.place = Place::At(frame, PlacedBy::Register);
                end = place;
            } else if counts && self.all {
                end = end.saturating_sub(1);
            }
        }
    }

    /// The loops among a part of the native frames.
    pub(super) fn between(&self, frames: Range<usize>) -> impl Iterator<Item = usize> {
        let first = self.frames.partition_point(|frame| *frame < frames.start);
        self.frames.get(first..).unwrap_or_default().iter().copied().take_while(move |frame| *frame < frames.end)
    }

    /// Whether one of these loops, each of which is to take the run of the same place, has not that one's frame in a
    /// register but another one's.
    pub(super) fn contradict(&self, loops: &[usize], runs: &[Run]) -> bool {
        let all: HashSet<u64> = runs.iter().filter_map(address).collect();
        loops.iter().zip(runs).any(|(frame, run)| {
            let place = self.frames.binary_search(frame).ok();
            let values = place.and_then(|place| self.registers.get(place)).map(Vec::as_slice).unwrap_or_default();
            !address(run).is_some_and(|own| values.contains(&own)) && values.iter().any(|value| all.contains(value))
        })
    }
}

/// The address of a run's innermost frame.
fn address(run: &Run) -> Option<u64> {
    run.innermost.filter(|address| !address.is_null()).map(|address| address.0)
}
