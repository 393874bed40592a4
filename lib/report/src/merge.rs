//! Merge: where the Python frames of a thread belong among its native frames.
//!
//! A pure function over one native stack and the thread's Python states. It goes by address: where the interpreter keeps
//! something of a run on the C stack (the run's *anchor*), that address lies in the `[sp, CFA)` of exactly one native
//! frame, which is the evaluation loop that runs those frames. No symbol is needed, so stripped and JIT builds merge too.
//! Up to 3.10 it keeps nothing there; but a loop has the frame that it runs in a register ([`registers`]). What must hold:
//!
//! - Every native frame and every Python frame of the input comes out, once.
//! - The Python frames of a state keep their order, and a run never parts.
//! - What cannot be placed is shown where the order of its chain puts it, marked, and noted. Nothing is guessed silently.

use pyst_snapshot::payload::{AnchorKind, FrameChainEnd, PackedFrame, PackedStack, PythonState, StackEnd};
use pyst_snapshot::{Address, Range};
use std::collections::BTreeSet;

mod registers;

/// How a Python frame got its place among the native ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlacedBy {
    /// Its run's anchor lies in the native frame before it.
    Anchor(AnchorKind),
    /// The evaluation loop before it has the frame's address in a register.
    Register,
    /// Its run has no anchor, but there are as many evaluation loops without a run between its neighbours as runs
    /// without a place, so that only one assignment keeps the order of both chains.
    Order,
    /// Its place is not known; it is shown directly inside the next outer run that has one, or outermost.
    Unplaced,
}

/// One line of a merged stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A physical native frame.
    Native {
        /// Index into the native stack.
        frame: usize,
        /// Whether it is the evaluation loop of a run.
        runs_python: bool,
    },
    /// A Python frame.
    Python {
        /// Index into the states.
        state: usize,
        /// Index into the frames of that state.
        frame: usize,
        /// Whether it is the outermost frame of its run: the one that C code called.
        entry: bool,
        /// How it was placed; absent when there is no native stack to place it on.
        placed_by: Option<PlacedBy>,
    },
}

/// Why a run could not be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has no anchor, and the runs around it do not tell its place.
    NoAnchor,
    /// Its anchor lies in no native frame.
    OutsideStack,
    /// Its anchor lies in more than one native frame.
    Ambiguous,
    /// Its place contradicts that of another run.
    Disorder,
}

/// Runs that could not be placed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Why.
    pub reason: Reason,
    /// How many runs with frames.
    pub runs: usize,
    /// How many frames they have.
    pub frames: usize,
}

/// A merged stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Outermost first.
    pub entries: Vec<Entry>,
    /// The states by their innermost frames, innermost first; those without frames last.
    pub states: Vec<usize>,
    /// The runs without a place, by reason.
    pub unplaced: Vec<Unplaced>,
    /// Whether frames of several states had to be put one state after the other, in no order that is known to be true.
    pub state_order_unknown: bool,
}

/// Frames that one evaluation loop runs. Chains and native frames are innermost first everywhere in this file until
/// [`lay_out`] turns them round.
struct Run {
    state: usize,
    frames: std::ops::Range<usize>,
    anchor: Option<Address>,
    kind: AnchorKind,
    /// Its innermost frame.
    innermost: Option<Address>,
    /// Whether its outermost frame is known to be the one that C code called.
    whole: bool,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    At(usize, PlacedBy),
    Nowhere(Reason),
}

impl Run {
    fn native_frame(&self) -> Option<usize> {
        match self.place {
            Place::At(frame, _) => Some(frame),
            Place::Nowhere(_) => None,
        }
    }
}

/// Merges the native stack of a thread, if there is one, with the frames of its Python states. `is_loop` tells whether
/// the native frame with an index is an evaluation loop by its symbol; it decides only where no anchor does.
#[must_use]
pub fn merge(native: Option<&PackedStack>, states: &[&PythonState], is_loop: &dyn Fn(usize) -> bool) -> Merged {
    let frames = native.map_or(&[][..], |stack| &stack.frames);
    let mut chains: Vec<Vec<Run>> = states.iter().enumerate().map(|(at, state)| runs_of(at, state)).collect();
    if let Some(stack) = native.filter(|stack| !stack.frames.is_empty()) {
        place_by_anchor(frames, &mut chains);
        chains.iter_mut().for_each(|chain| refuse_disorder(chain));
        refuse_shared_frames(frames.len(), &mut chains);
        let reaches_base = matches!(stack.end, StackEnd::COMPLETE | StackEnd::ZERO_RETURN_ADDRESS);
        let mut chains: Vec<&mut Vec<Run>> = chains.iter_mut().filter(|chain| !chain.is_empty()).collect();
        if chains.iter().flat_map(|chain| chain.iter()).any(|run| run.anchor.is_none()) {
            let loops = registers::Loops::of_stack(frames, reaches_base, is_loop);
            let is_alone = chains.len() == 1;
            for chain in &mut chains {
                loops.place(chain, is_alone);
            }
            if let [chain] = chains.as_mut_slice() {
                place_by_order(chain, frames.len(), reaches_base, &loops);
            }
        }
    }
    lay_out(frames.len(), &chains)
}

/// Splits a state's frames into its runs. Frames that its runs leave over, which only a damaged payload has, are a run
/// without an anchor; counts beyond the frames are cut.
fn runs_of(index: usize, state: &PythonState) -> Vec<Run> {
    let mut runs = Vec::with_capacity(state.runs.len() + 1);
    let mut start = 0;
    let mut push = |count: usize, anchor, kind| {
        let end = state.frames.len().min(start + count);
        let innermost = state.frames.get(start..end).and_then(|frames| Some(frames.first()?.address));
        let place = Place::Nowhere(Reason::NoAnchor);
        runs.push(Run { state: index, frames: start..end, anchor, kind, innermost, whole: true, place });
        start = end;
        state.frames.len() - start
    };
    let mut left = state.frames.len();
    for run in &state.runs {
        left = push(run.frames as usize, run.anchor, run.anchor_kind);
    }
    if left > 0 {
        push(left, None, AnchorKind::default());
    }
    // A chain that broke off may have lost outer frames of its last run; an anchor is read after the whole run.
    if let Some(last) = runs.last_mut() {
        last.whole = last.anchor.is_some() || state.end == FrameChainEnd::COMPLETE;
    }
    runs
}

/// Places each run at the one native frame whose range holds its anchor: a sweep over all ranges and anchors by address,
/// for both may be many and ranges of a hostile payload may overlap.
fn place_by_anchor(frames: &[PackedFrame], chains: &mut [Vec<Run>]) {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        End(usize),
        Start(usize),
        Anchor(usize, usize),
    }
    let ranges = frames.iter().enumerate().filter_map(|(index, frame)| {
        let end = upper_end(frame, frames.get(index + 1)).filter(|end| frame.sp < *end)?;
        Some((Range { start: frame.sp, end }, index))
    });
    let ranges: Vec<(Range, usize)> = ranges.collect();
    // As they are in every sound stack.
    if ranges.is_sorted_by(|(inner, _), (outer, _)| inner.end <= outer.start) {
        return place_in_disjoint(&ranges, chains);
    }
    let mut events = Vec::new();
    for (range, index) in ranges {
        events.push((range.start, Event::Start(index)));
        events.push((range.end, Event::End(index)));
    }
    for (chain, runs) in chains.iter().enumerate() {
        let anchors = runs.iter().enumerate().filter_map(|(run, r)| Some((r.anchor?, Event::Anchor(chain, run))));
        events.extend(anchors);
    }
    events.sort_unstable();
    let mut open = BTreeSet::new();
    for (_, event) in events {
        match event {
            Event::Start(frame) => _ = open.insert(frame),
            Event::End(frame) => _ = open.remove(&frame),
            Event::Anchor(chain, run) => {
                if let Some(run) = chains.get_mut(chain).and_then(|runs| runs.get_mut(run)) {
                    run.place = match (open.len(), open.first()) {
                        (1, Some(&frame)) => Place::At(frame, PlacedBy::Anchor(run.kind)),
                        (0, _) => Place::Nowhere(Reason::OutsideStack),
                        _ => Place::Nowhere(Reason::Ambiguous),
                    };
                }
            }
        }
    }
}

/// The same where each of the ranges of frames lies above those before it.
fn place_in_disjoint(ranges: &[(Range, usize)], chains: &mut [Vec<Run>]) {
    for run in chains.iter_mut().flatten() {
        let Some(anchor) = run.anchor else { continue };
        let first = ranges.partition_point(|(range, _)| range.end <= anchor);
        run.place = match ranges.get(first).filter(|(range, _)| range.contains(anchor)) {
            Some((_, frame)) => Place::At(*frame, PlacedBy::Anchor(run.kind)),
            None => Place::Nowhere(Reason::OutsideStack),
        };
    }
}

/// Where a frame's part of the stack ends: at its CFA. A frame that could not be unwound has none; then its caller's sp
/// bounds it, and without a caller nothing does.
fn upper_end(frame: &PackedFrame, caller: Option<&PackedFrame>) -> Option<Address> {
    frame.cfa.or(caller.map(|caller| caller.sp))
}

/// Takes the place from every run of a chain that contradicts another's: further in must be a frame further in. Which of
/// two is wrong cannot be told, so both lose their place.
fn refuse_disorder(chain: &mut [Run]) {
    let mut wrong = BTreeSet::new();
    let mut highest = None;
    for (index, run) in chain.iter().enumerate() {
        let Some(frame) = run.native_frame() else { continue };
        if highest.is_some_and(|highest| frame <= highest) {
            wrong.insert(index);
        }
        highest = highest.max(Some(frame));
    }
    let mut lowest = None;
    for (index, run) in chain.iter().enumerate().rev() {
        let Some(frame) = run.native_frame() else { continue };
        if lowest.is_some_and(|lowest| frame >= lowest) {
            wrong.insert(index);
        }
        lowest = Some(lowest.map_or(frame, |lowest: usize| lowest.min(frame)));
    }
    for index in wrong {
        if let Some(run) = chain.get_mut(index) {
            run.place = Place::Nowhere(Reason::Disorder);
        }
    }
}

/// Takes the place from runs of different states that claim the same native frame: one loop runs one state's frames.
fn refuse_shared_frames(frames: usize, chains: &mut [Vec<Run>]) {
    let mut claims = vec![0_usize; frames];
    for frame in chains.iter().flatten().filter_map(Run::native_frame) {
        if let Some(claims) = claims.get_mut(frame) {
            *claims += 1;
        }
    }
    for run in chains.iter_mut().flatten() {
        if run.native_frame().and_then(|frame| claims.get(frame)).is_some_and(|claims| *claims > 1) {
            run.place = Place::Nowhere(Reason::Disorder);
        }
    }
}

/// Places runs without an anchor between neighbours that have a place (or the ends of the stack), where as many
/// evaluation loops lie between as there are such runs. A gap with a run whose anchor led nowhere stays as it is: its
/// evidence contradicts the count; and so does one with a loop that has another run's frame in a register.
fn place_by_order(chain: &mut [Run], frames: usize, reaches_base: bool, loops: &registers::Loops) {
    let placed: Vec<(usize, usize)> =
        chain.iter().enumerate().filter_map(|(run, r)| Some((run, r.native_frame()?))).collect();
    let mut inner = (0, 0);
    for outer in placed.into_iter().map(Some).chain([None]) {
        let (first_run, first_frame) = inner;
        let (end_run, end_frame) = outer.unwrap_or((chain.len(), frames));
        inner = (end_run + 1, end_frame + 1);
        let gap = chain.get_mut(first_run..end_run).unwrap_or_default();
        if gap.iter().any(|run| run.anchor.is_some()) || (outer.is_none() && !reaches_base) {
            continue;
        }
        let between: Vec<usize> = loops.between(first_frame..end_frame).take(gap.len() + 1).collect();
        if between.len() == gap.len() && !loops.contradict(&between, gap) {
            for (run, frame) in gap.iter_mut().zip(between) {
                run.place = Place::At(frame, PlacedBy::Order);
            }
        }
    }
}

/// Writes both kinds of frame down, outermost first.
fn lay_out(frames: usize, chains: &[Vec<Run>]) -> Merged {
    let mut merged = Merged::default();
    // Per native frame: the run it runs, and the runs shown inside of that one for want of a better place.
    let mut hosted: Vec<(Option<&Run>, Vec<&Run>)> = Vec::new();
    hosted.resize_with(frames, Default::default);
    let mut outermost: Vec<Vec<&Run>> = Vec::new();
    for chain in chains {
        let mut outer = None;
        let mut beyond = Vec::new();
        for run in chain.iter().rev() {
            outer = run.native_frame().or(outer);
            match outer.and_then(|frame| hosted.get_mut(frame)) {
                Some((host, _)) if run.native_frame().is_some() => *host = Some(run),
                Some((_, inside)) => inside.push(run),
                None => beyond.push(run),
            }
        }
        outermost.push(beyond);
    }
    let (beyond, known) = interleave(outermost);
    merged.state_order_unknown = !known;
    let placeable = frames > 0;
    for run in beyond {
        merged.push_run(run, placeable);
    }
    for (frame, (host, inside)) in hosted.into_iter().enumerate().rev() {
        merged.entries.push(Entry::Native { frame, runs_python: host.is_some() });
        for run in host.into_iter().chain(inside) {
            merged.push_run(run, placeable);
        }
    }
    merged.unplaced.sort_by_key(|unplaced| unplaced.reason);
    merged.order_states(chains.len());
    merged
}

/// Puts the runs of several chains that no native frame orders, each outermost first, into one sequence: by their anchors
/// (a stack grows down) where each run has its own and that keeps every chain's order, else one chain after the other,
/// the last state outermost, and then the answer's second half is false.
fn interleave(mut chains: Vec<Vec<&Run>>) -> (Vec<&Run>, bool) {
    chains.iter_mut().for_each(|chain| chain.retain(|run| !run.frames.is_empty()));
    chains.retain(|chain| !chain.is_empty());
    let descend = |runs: &[&Run]| {
        runs.iter().all(|run| run.anchor.is_some()) && runs.is_sorted_by(|outer, inner| outer.anchor > inner.anchor)
    };
    let ordered = chains.iter().all(|chain| descend(chain));
    let one_after_the_other: Vec<&Run> = chains.iter().rev().flatten().copied().collect();
    if chains.len() <= 1 {
        return (one_after_the_other, true);
    }
    let mut by_anchor = one_after_the_other.clone();
    by_anchor.sort_by_key(|run| std::cmp::Reverse(run.anchor));
    if ordered && descend(&by_anchor) { (by_anchor, true) } else { (one_after_the_other, false) }
}

impl Merged {
    fn push_run(&mut self, run: &Run, placeable: bool) {
        if run.frames.is_empty() {
            return;
        }
        let placed_by = match run.place {
            _ if !placeable => None,
            Place::At(_, placed_by) => Some(placed_by),
            Place::Nowhere(reason) => {
                self.note_unplaced(reason, run.frames.len());
                Some(PlacedBy::Unplaced)
            }
        };
        let state = run.state;
        let outermost = run.frames.end - 1;
        for frame in run.frames.clone().rev() {
            self.entries.push(Entry::Python { state, frame, entry: run.whole && frame == outermost, placed_by });
        }
    }

    fn note_unplaced(&mut self, reason: Reason, frames: usize) {
        match self.unplaced.iter_mut().find(|unplaced| unplaced.reason == reason) {
            Some(unplaced) => {
                unplaced.runs += 1;
                unplaced.frames += frames;
            }
            None => self.unplaced.push(Unplaced { reason, runs: 1, frames }),
        }
    }

    fn order_states(&mut self, count: usize) {
        let mut seen = vec![false; count];
        let innermost_first = self.entries.iter().rev().filter_map(|entry| match entry {
            Entry::Python { state, .. } => Some(*state),
            Entry::Native { .. } => None,
        });
        for state in innermost_first.chain(0..count) {
            if let Some(seen) = seen.get_mut(state).filter(|seen| !**seen) {
                *seen = true;
                self.states.push(state);
            }
        }
    }
}

#[cfg(test)]
mod tests;
