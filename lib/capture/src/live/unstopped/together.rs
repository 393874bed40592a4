//! What was read of each thread, and of the process beside them, made one: one memory, one list of threads, and what is to be
//! thought of each.

use super::attempt::{self, Reading};
use super::process::{self, Whole};
use super::{Target, Tried, Unstopped, doubts, values};
use crate::live::copy::Copy;
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::{PythonState, StateVerdict, Thread, ThreadReading, ThreadVerdict, Verdicts};
use std::cmp::Reverse;
use std::time::SystemTime;

/// Makes one memory of what was read of each thread, and what the process has beside it.
pub(super) fn put_together(
    target: &Target<'_>,
    threads: Vec<Thread>,
    tried: Vec<Tried>,
    before: process::Said,
    captured_at: SystemTime,
) -> Unstopped {
    let held = held(&tried);
    let mut threads = threads;
    for thread in &mut threads {
        let asleep = tried.iter().find(|tried| tried.unit.tid == Some(thread.tid));
        if let Some(asleep) = asleep.and_then(|tried| tried.reading.asleep.as_ref()) {
            thread.registers.clone_from(&asleep.registers);
            thread.stack = asleep.stack;
        }
    }
    // One that has ended since, and was not read before that, is none of the process's any more.
    let alive = target.proc.tids().unwrap_or_default();
    let was_read = |thread: &Thread| {
        let mut of_it = tried.iter().filter(|tried| tried.unit.tid == Some(thread.tid));
        thread.registers.is_some() || of_it.any(|tried| tried.reading.verified && !tried.reading.told.is_empty())
    };
    threads.retain(|thread| alive.binary_search(&thread.tid.0).is_ok() || was_read(thread));
    let Whole { copy, walked, same_list } = process::read(target, &threads, &held);
    let mut verdicts = Verdicts::default();
    for state in &walked.states {
        let of_state = tried.iter().find(|tried| tried.unit.states.contains(&state.address));
        let is_as_told = |tried: &&Tried| process::is_as_told(state, &walked, &tried.reading.told);
        let verified =
            of_state.is_some_and(|tried| tried.reading.verified) && of_state.as_ref().is_some_and(is_as_told);
        // A native stack was read at another moment than frames that turn out to be on it.
        if let Some(tid) = state.tid.filter(|tid| of_state.is_some_and(|tried| tried.unit.tid != Some(*tid))) {
            threads.iter_mut().filter(|thread| thread.tid == tid).for_each(forget_stack);
        }
        let retries = of_state.map_or(0, |tried| tried.retries);
        verdicts.states.push(StateVerdict { address: state.address, verified, retries });
    }
    let mut diagnostics = Vec::new();
    for thread in &threads {
        let is_of = |state: &&PythonState| state.tid == Some(thread.tid);
        let mut states = walked.states.iter().filter(is_of).filter_map(|state| verdicts.of_state(state.address));
        let of_thread = tried.iter().find(|tried| tried.unit.tid == Some(thread.tid));
        let retries = of_thread.map_or(0, |tried| tried.retries);
        let verified = states.all(|state| state.verified);
        let stopped = of_thread.is_some_and(|tried| tried.reading.stopped);
        let reading = match thread.registers {
            Some(_) if stopped => ThreadReading::STOPPED,
            Some(_) => ThreadReading::SLEPT,
            None => ThreadReading::RAN,
        };
        diagnostics.extend(doubts::of_thread(target, thread, reading, verified));
        verdicts.threads.push(ThreadVerdict { tid: thread.tid, reading, verified, retries });
    }
    diagnostics.extend(doubts::of_states_alone(&walked, &verdicts, &diagnostics));
    diagnostics.extend((!same_list).then(process::changed_all_the_time));
    let bytes = copy.bytes();
    let changed = changed_values(&tried, &copy);
    verdicts.locks_verified = process::Said::of(&walked) == before;
    let mut memory = copy.into_copied();
    memory.leave_out(changed);
    Unstopped { threads, memory, bytes, captured_at, verdicts, diagnostics, part_stop: None }
}

/// The words of values that did not stay the same, or that other threads had otherwise when they were read.
fn changed_values(tried: &[Tried], copy: &Copy) -> RangeSet {
    let verified = || tried.iter().filter(|tried| tried.reading.verified).map(|tried| &tried.reading.values);
    let mut changed: RangeSet = verified().flat_map(|values| values.changed.iter().copied()).collect();
    for (range, bytes) in verified().flat_map(|values| &values.pieces) {
        let mut held = vec![0; bytes.len()];
        match copy.read(range.start, &mut held) {
            Ok(()) if held == **bytes => {}
            Ok(()) => {
                values::changed_words(range.start, bytes, &held).into_iter().for_each(|word| changed.insert(word))
            }
            Err(_) => changed.insert(*range),
        }
    }
    changed
}

fn forget_stack(thread: &mut Thread) {
    (thread.registers, thread.stack) = (None, None);
}

/// What was read of the threads, verified ones first, for of bytes read twice the first count.
fn held(tried: &[Tried]) -> attempt::Pieces {
    let readings = |verified: bool| {
        let readings = tried.iter().map(|tried| &tried.reading);
        readings.filter(move |reading| reading.verified == verified)
    };
    let of = |verified: bool, pieces: fn(&Reading) -> &[attempt::Piece]| {
        readings(verified).flat_map(move |reading| pieces(reading).iter().cloned())
    };
    let mut held: attempt::Pieces = of(true, |reading| &reading.own).collect();
    held.extend(of(true, |reading| &reading.shared));
    held.extend(of(true, |reading| &reading.values.pieces));
    // Stacks may share a mapping, and then one seems to go on into the one above it, which comes first.
    let mut stacks: attempt::Pieces = of(true, Reading::kept_stack).collect();
    stacks.sort_by_key(|(range, _)| Reverse(range.start));
    held.extend(stacks);
    held.extend(of(false, |reading| &reading.own));
    held.extend(of(false, |reading| &reading.shared));
    held
}
