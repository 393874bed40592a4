//! One attempt at one thread of a process that runs: what it changes itself is read at once, then what that leads to, then
//! the first again.
//!
//! What is the same each time did not change in between, but for a thread that went away from there and came back to the
//! very same bytes just then, each time. What frames lead to (code, values) is read between two readings of the frames, so
//! that it was in use while it was read.

use super::asleep::Asleep;
use super::values::Values;
use super::{Target, at_once, descriptor};
use crate::live::LIVE_ARCH;
use crate::live::careful::Careful;
use crate::live::copy::Copy;
use crate::live::leads::leads;
use crate::live::page::PAGE;
use crate::live::stack::{self, MAX_STACK, stack_at};
use crate::registers::stack_pointer;
use pyst_memory::{Memory, RangeSet, Recorder};
use pyst_python::Alone;
use pyst_snapshot::payload::{Python, PythonState, Thread};
use pyst_snapshot::{Address, Range, Tid};
use std::sync::Arc;

/// How often what a thread changes is read again. Once leaves no impossible stack in a million that is sought; a thread that
/// does the same all the time may show the same one twice, so it is once more.
const READ_AGAIN: usize = 2;

/// Bytes and where they were; they may be held in several places.
pub(super) type Piece = (Range, Arc<Vec<u8>>);
pub(super) type Pieces = Vec<Piece>;

/// A thread, or a thread state of which is not known which thread runs it, and what it is expected to read of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    pub(super) tid: Option<Tid>,
    /// The thread's id in its own pid namespace.
    pub(super) own_tid: u32,
    /// Its thread states.
    pub(super) states: Vec<Address>,
    /// What it changes itself.
    pub(super) own: Vec<Range>,
    /// What its frames lead to.
    pub(super) shared: Vec<Range>,
}

/// What of a process does not go with what was read of a thread before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// The process has no such thread state, or its list of them could not be read so far.
    Unlisted,
    /// Frames have other code by now, or are others.
    Otherwise,
}

/// What an attempt brought.
#[derive(Default)]
pub(super) struct Reading {
    /// Whether what the thread changes itself was the same each time, and holds together.
    pub(super) verified: bool,
    /// What the process turned out to have beside it.
    pub(super) contradiction: Option<Contradiction>,
    /// Whether the thread was stopped for it.
    pub(super) stopped: bool,
    /// The thread, with its registers and its stack, if it slept all the time, or was stopped.
    pub(super) asleep: Option<Thread>,
    pub(super) told: Vec<Alone>,
    pub(super) own: Pieces,
    pub(super) shared: Pieces,
    /// The stack, and what it and the system call lead to, of a thread that slept.
    pub(super) stack: Pieces,
    pub(super) values: Values,
}

impl Reading {
    /// Whether another attempt has nothing to add.
    pub(super) fn is_all(&self, unit: &Unit, target: &Target<'_>) -> bool {
        let is_sound = self.verified && self.contradiction.is_none();
        is_sound && (self.asleep.is_some() || unit.tid.is_none() || !target.stacks)
    }

    /// The stack of a thread that slept; of others it may be one of several moments.
    pub(super) fn kept_stack(&self) -> &[Piece] {
        if self.asleep.is_some() { &self.stack } else { &[] }
    }

    /// How much it is worth.
    pub(super) fn worth(&self) -> u8 {
        match self.verified && self.contradiction.is_none() {
            true => 2 + u8::from(self.asleep.is_some()),
            false => 0,
        }
    }

    /// Whether it tells something of a thread, also of one that has ended since.
    pub(super) fn is_of_a_thread(&self) -> bool {
        self.worth() > 0 && (self.asleep.is_some() || !self.told.is_empty())
    }
}

/// Reads a thread.
pub(super) fn attempt(target: &Target<'_>, unit: &Unit) -> Reading {
    let task = unit.tid.map(|tid| target.proc.task(tid.0));
    let asleep = task.as_ref().and_then(Asleep::now);
    let copy = Copy::of(target.pid);
    let careful = Careful::by(&copy, &target.pages);
    let thread = unit.tid.zip(asleep.as_ref()).map(|(tid, asleep)| asleep_thread(target, tid, asleep));
    let stack = thread.as_ref().and_then(|thread| thread.stack);
    let top = stack.map(|stack| stack.read.intersect(stack::top_of_stack(stack.read.start)));
    let first = disjoint([&unit.own, top.as_slice(), &unit.shared]);
    let first: Vec<Range> = first.iter().flat_map(|range| target.readable(&[*range])).collect();
    let _ = copy.read_ranges(&first);

    let (own, shared) = (Recorder::new(&careful), Recorder::new(&careful));
    let alone = |states: &pyst_python::States| {
        unit.states.iter().filter_map(|state| states.alone(*state, &own, &shared)).collect::<Vec<Alone>>()
    };
    let told = target.states.as_ref().map(alone).unwrap_or_default();
    let own = without(&own.ranges(), unit.states.iter().filter_map(|state| target.states.as_ref()?.links(*state)));
    let (own, shared) = (held(&careful, &own), held(&careful, &shared.ranges()));
    let mut thread = thread;
    let stack = thread.as_mut().map(|thread| read_stack(target, unit, thread, &told, &copy)).unwrap_or_default();
    let call = thread.as_ref().map(|thread| held(&careful, &target.pointed_to(thread, &careful))).unwrap_or_default();
    let stack = stack.into_iter().chain(call).collect();
    let values = Values::read(target, &told, &own, &shared, &copy);

    let all_read = told.len() == unit.states.len();
    let same = all_read && (0..READ_AGAIN).all(|_| is_still(target, &own));
    let slept = task.as_ref().zip(asleep.as_ref()).is_some_and(|(task, asleep)| asleep.slept_on(task));
    let asleep = thread.filter(|_| slept);
    let settled = told.iter().all(|alone| alone.settled);
    Reading {
        verified: same && (settled || asleep.is_some()),
        contradiction: None,
        stopped: false,
        asleep,
        told,
        own,
        shared,
        stack,
        values,
    }
}

/// The ranges of `groups`, the first group first, without what came before: what marks an evaluation loop is on the stack.
fn disjoint<const GROUPS: usize>(groups: [&[Range]; GROUPS]) -> Vec<Range> {
    let mut before = RangeSet::default();
    let mut all = Vec::new();
    for group in groups {
        let mut ranges: RangeSet = group.iter().copied().collect();
        all.extend(without(ranges.merged(), before.merged().iter().copied()));
        group.iter().for_each(|range| before.insert(*range));
    }
    all
}

/// What is known of a thread that sleeps.
fn asleep_thread(target: &Target<'_>, tid: Tid, asleep: &Asleep) -> Thread {
    let limit = MAX_STACK.min(target.stacks_left.get());
    let stack = target.stacks.then(|| stack_at(asleep.sp, None, target.maps, limit));
    Thread { tid, registers: Some(asleep.registers.clone()), stack, ..Thread::default() }
}

/// Reads the rest of a thread's stack, and what the stack leads to. Where it is described, its thread pointer becomes known.
fn read_stack(target: &Target<'_>, unit: &Unit, thread: &mut Thread, told: &[Alone], copy: &Copy) -> Pieces {
    let Some(stack) = thread.stack else { return Pieces::new() };
    let top = stack.read.intersect(stack::top_of_stack(stack.read.start));
    let described = [top, stack.read].into_iter().find_map(|part| {
        let part = target.readable(&[part]);
        let _ = copy.read_ranges(&part);
        descriptor::find(&held_pages(copy, &part), unit.own_tid)
    });
    if let Some(registers) = &mut thread.registers {
        registers.thread_pointer = described;
    }
    if let (Some(pointer), Some(sp)) =
        (described, thread.registers.as_ref().and_then(|known| stack_pointer(known, LIVE_ARCH)))
    {
        thread.stack = Some(stack_at(Address(sp), Some(pointer), target.maps, stack.read.len()));
    }
    let own = descriptor::own_part(stack, described);
    target.stacks_left.set(target.stacks_left.get().saturating_sub(own.len()));
    let mut all: RangeSet = target.readable(&[own]).into_iter().collect();
    let further = target.readable(&wanted_of_stack(target, thread, told, copy));
    let _ = copy.read_ranges(further.iter().copied().collect::<RangeSet>().merged());
    further.into_iter().for_each(|range| all.insert(range));
    held_pages(copy, all.merged())
}

/// What the stack of a thread, which `copy` has, leads to: other stacks, code that is in no file.
pub(super) fn wanted_of_stack(target: &Target<'_>, thread: &Thread, told: &[Alone], copy: &Copy) -> Vec<Range> {
    let threads = std::slice::from_ref(thread);
    let state =
        |alone: &Alone| PythonState { tid: Some(thread.tid), runs: alone.state.runs.clone(), ..PythonState::default() };
    let python = Python { states: told.iter().map(state).collect(), ..Python::default() };
    let mut wanted: RangeSet = stack::own_stacks(&python, threads, target.maps).into_iter().collect();
    let all: Vec<&Thread> = threads.iter().collect();
    leads(copy, &all, target.maps, MAX_STACK).merged().iter().for_each(|range| wanted.insert(*range));
    wanted.merged().to_vec()
}

/// What `memory` holds of `ranges`.
pub(super) fn held(memory: &dyn Memory, ranges: &[Range]) -> Pieces {
    let read = |range: &Range| {
        let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
        memory.read(range.start, &mut bytes).ok()?;
        Some((*range, Arc::new(bytes)))
    };
    ranges.iter().filter_map(read).collect()
}

/// The same, without the pages that cannot be read: between two stacks of one mapping there is a guard that only reading finds.
pub(super) fn held_pages(memory: &dyn Memory, ranges: &[Range]) -> Pieces {
    let mut pieces: Vec<(Range, Vec<u8>)> = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let end = Address((at.0 | (PAGE - 1)).saturating_add(1)).min(range.end);
            let mut bytes = vec![0; usize::try_from(end.0 - at.0).unwrap_or(0)];
            if memory.read(at, &mut bytes).is_ok() {
                match pieces.last_mut() {
                    Some((before, held)) if before.end == at => {
                        before.end = end;
                        held.append(&mut bytes);
                    }
                    _ => pieces.push((Range { start: at, end }, bytes)),
                }
            }
            at = end;
        }
    }
    pieces.into_iter().map(|(range, bytes)| (range, Arc::new(bytes))).collect()
}

/// Whether these bytes are still there.
fn is_still(target: &Target<'_>, pieces: &Pieces) -> bool {
    let ranges: Vec<Range> = pieces.iter().map(|(range, _)| *range).collect();
    let now = at_once::read(target.pid, &ranges);
    now.is_some_and(|now| now.iter().eq(pieces.iter().flat_map(|(_, bytes)| bytes.iter())))
}

/// `ranges`, ascending and disjoint, without `holes`.
pub(super) fn without(ranges: &[Range], holes: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut holes: RangeSet = holes.collect();
    let holes = holes.merged();
    let mut left = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut start = range.start;
        let first = holes.partition_point(|hole| hole.end <= range.start);
        for hole in holes.iter().skip(first).take_while(|hole| hole.start < range.end) {
            left.push(Range { start, end: hole.start });
            start = hole.end;
        }
        left.push(Range { start, end: range.end });
    }
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_left_out() {
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        let ranges = [range(10, 20), range(30, 40), range(50, 60)];
        let holes = [range(0, 12), range(15, 17), range(18, 35), range(38, 39), range(50, 70)];
        let left = [range(12, 15), range(17, 18), range(35, 38), range(39, 40)];
        assert_eq!(without(&ranges, holes.into_iter()), left);
        assert_eq!(without(&ranges, std::iter::empty()), ranges);
    }

    #[test]
    fn what_is_read_first_is_not_read_twice() {
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        let own = [range(50, 60), range(10, 20), range(55, 65)];
        let first = disjoint([&own, &[range(40, 80)], &[range(5, 15), range(70, 90)]]);
        let (own, top) = ([range(10, 20), range(50, 65)], [range(40, 50), range(65, 80)]);
        assert_eq!(first, [&own[..], &top[..], &[range(5, 10), range(80, 90)][..]].concat());
        assert_eq!(disjoint([&[], &[]]), []);
    }
}
