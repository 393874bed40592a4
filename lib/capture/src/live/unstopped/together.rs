//! What was read of each thread, and of the process beside them, made one: one memory, one list of threads, and what is to be
//! thought of each.

use super::attempt::{self, Contradiction, Reading};
use super::doubts::{self, Doubts};
use super::process::{self, Whole};
use super::readings::{Readings, Tried};
use super::{Target, Unstopped, values};
use crate::live::copy::Copy;
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::{PythonState, StateVerdict, Thread, ThreadReading, ThreadVerdict, Verdicts};
use pyst_snapshot::{Address, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// All of it.
pub(super) struct Together {
    /// The threads, with the registers and stacks of those that slept.
    threads: Vec<Thread>,
    /// Those that live.
    living: Vec<u32>,
    whole: Whole,
}

impl Together {
    /// Reads what the process has beside its threads.
    pub(super) fn of(target: &Target<'_>, threads: &[Thread], readings: &Readings) -> Together {
        let mut threads = threads.to_vec();
        for thread in &mut threads {
            let tried = readings.of_thread(thread.tid);
            if let Some(asleep) = tried.and_then(|tried| tried.reading.asleep.as_ref()) {
                thread.registers.clone_from(&asleep.registers);
                thread.stack = asleep.stack;
            }
        }
        // One that has ended since, and was not read before that, is none of the process's any more.
        let living = target.proc.tids().unwrap_or_default();
        let was_read = |thread: &Thread| match target.stacks {
            true => thread.registers.is_some(),
            false => readings.of_thread(thread.tid).is_some_and(|tried| tried.reading.is_of_a_thread()),
        };
        // It may be listed until it is gone.
        let is_leaving = |thread: &Thread| {
            let should_be_stopped = target.may_stop && target.stacks && thread.registers.is_none();
            let stat = || target.proc.task(thread.tid.0).stat();
            should_be_stopped && thread.state != Some(b'Z') && stat().is_none_or(|stat| stat.is_exiting())
        };
        let is_alive = |thread: &Thread| living.binary_search(&thread.tid.0).is_ok() && !is_leaving(thread);
        threads.retain(|thread| is_alive(thread) || was_read(thread));
        let sound = readings.by_state().into_iter().filter(|(_, tried)| tried.reading.worth() > 0);
        let known = sound.map(|(state, _)| state).collect();
        let whole = process::read(target, &threads, &held(readings), &known);
        Together { threads, living, whole }
    }

    /// Notes which readings what was read later contradicts. Whether another attempt may be better: a thread that has ended
    /// is as it is.
    pub(super) fn contradicts(&self, readings: &mut Readings) -> bool {
        let walked = &self.whole.walked;
        let states: BTreeMap<Address, &PythonState> =
            walked.states.iter().map(|state| (state.address, state)).collect();
        // One that is not known yet. That of a thread that is about to begin is said to be of the one that starts it, and has
        // no frames.
        let was_read = readings.by_state();
        let unknown: Vec<&PythonState> =
            walked.states.iter().filter(|state| !was_read.contains_key(&state.address)).collect();
        let with_frames = unknown.iter().filter(|state| !state.frames.is_empty());
        let with_another: BTreeSet<Tid> = with_frames.filter_map(|state| state.tid).collect();
        let mut has_any = !unknown.is_empty();
        for tried in readings.in_order_mut() {
            let of_state = |address: &Address| match states.get(address) {
                None => Some(Contradiction::Unlisted),
                Some(state) => {
                    let is_as_told = process::is_as_told(state, walked, &tried.reading.told);
                    (!is_as_told).then_some(Contradiction::Otherwise)
                }
            };
            let is_sound = tried.reading.verified;
            let has_another = tried.unit.tid.is_some_and(|tid| with_another.contains(&tid));
            let contradiction = tried.unit.states.iter().find_map(of_state);
            let contradiction = contradiction.or(has_another.then_some(Contradiction::Otherwise));
            tried.reading.contradiction = contradiction.filter(|_| is_sound);
            // A state that no thread runs, and that is not listed any more, is gone.
            let is_gone = tried.has_ended || tried.unit.tid.is_none();
            has_any |= tried.reading.contradiction.is_some() && !is_gone;
        }
        has_any
    }

    /// Makes one memory of it, and says what is to be thought of each thread.
    pub(super) fn into_unstopped(
        self,
        target: &Target<'_>,
        readings: &Readings,
        before: &process::Said,
        captured_at: SystemTime,
    ) -> Unstopped {
        let Together { mut threads, living, whole: Whole { copy, walked, same_list } } = self;
        let by_thread = |tid| readings.of_thread(tid);
        let contradiction = |tid| by_thread(tid).and_then(|tried| tried.reading.contradiction);
        let mut verdicts = Verdicts::default();
        let by_state = readings.by_state();
        let contradicted = threads.iter().map(|thread| thread.tid).filter(|tid| contradiction(*tid).is_some());
        let mut doubtful: BTreeSet<Tid> = contradicted.collect();
        for state in &walked.states {
            let tried = by_state.get(&state.address);
            let is_sound =
                |tried: &&Tried| tried.reading.verified && process::is_as_told(state, &walked, &tried.reading.told);
            let verified = tried.is_some_and(is_sound);
            // That of a thread that is about to begin is said to be of the one that starts it, and has no frames.
            let has_it = |tid: &Tid| by_thread(*tid).is_none_or(|tried| tried.unit.states.contains(&state.address));
            let is_of = |tid: &Tid| !state.frames.is_empty() || has_it(tid);
            doubtful.extend(state.tid.filter(is_of).filter(|_| !verified));
            // A native stack was read at another moment than frames that turn out to be on it.
            if let Some(tid) = state.tid.filter(|tid| tried.is_some_and(|tried| tried.unit.tid != Some(*tid))) {
                threads.iter_mut().filter(|thread| thread.tid == tid).for_each(forget_stack);
            }
            let retries = tried.map_or(0, |tried| tried.retries);
            verdicts.states.push(StateVerdict { address: state.address, verified, retries });
        }
        // One that has ended by now, and of which not all is known: nothing is lost of what there still is. To end takes a thread
        // longer than to be read, so that it may have been listed, or stopped, on its way out.
        let lives = |tid: u32| target.proc.task(tid).stat().is_some_and(|stat| !stat.is_exiting());
        let is_there = |thread: &Thread| thread.state == Some(b'Z') || lives(thread.tid.0);
        let lacks_nothing =
            |thread: &Thread| !doubtful.contains(&thread.tid) && (thread.registers.is_some() || !target.stacks);
        threads.retain(|thread| {
            lacks_nothing(thread) || (living.binary_search(&thread.tid.0).is_ok() && is_there(thread))
        });
        let mut diagnostics = Vec::new();
        for thread in &threads {
            let of_thread = by_thread(thread.tid);
            let retries = of_thread.map_or(0, |tried| tried.retries);
            let verified = !doubtful.contains(&thread.tid);
            let stopped = of_thread.is_some_and(|tried| tried.reading.stopped);
            let reading = match thread.registers {
                Some(_) if stopped => ThreadReading::STOPPED,
                Some(_) => ThreadReading::SLEPT,
                None => ThreadReading::RAN,
            };
            let is_new = of_thread.is_none_or(|tried| tried.is_new);
            let is_unlisted = contradiction(thread.tid) == Some(Contradiction::Unlisted);
            let doubts = Doubts { thread, reading, verified, is_new, is_unlisted };
            diagnostics.extend(doubts.diagnostic(target));
            verdicts.threads.push(ThreadVerdict { tid: thread.tid, reading, verified, retries });
        }
        diagnostics.extend(doubts::of_states_alone(&walked, &verdicts, &diagnostics));
        diagnostics.extend((!same_list).then(process::changed_all_the_time));
        let bytes = copy.bytes();
        let changed = changed_values(readings, &copy);
        verdicts.locks_verified = process::Said::of(&walked) == *before;
        let mut memory = copy.into_copied();
        memory.leave_out(changed);
        Unstopped { threads, memory, bytes, captured_at, verdicts, diagnostics, part_stop: None }
    }
}

/// The words of values that did not stay the same, or that other threads had otherwise when they were read.
fn changed_values(readings: &Readings, copy: &Copy) -> RangeSet {
    let tried = readings.in_order();
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
fn held(readings: &Readings) -> attempt::Pieces {
    let tried = readings.in_order();
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
