//! What there is to read: which threads there are, and what of the process is whose.

use super::asleep::Asleep;
use super::attempt::Unit;
use super::readings::Readings;
use super::{Target, process};
use crate::live::careful::Careful;
use crate::live::look;
use crate::live::memory::LiveMemory;
use crate::live::stack::{MAX_STACK, stack_at};
use pyst_memory::Recorder;
use pyst_snapshot::Tid;
use pyst_snapshot::payload::Thread;
use std::collections::{BTreeMap, BTreeSet};

/// How often the list of thread states is walked over again that was not the same again.
const TRIES: usize = 5;

/// What there is.
pub(super) struct Survey {
    /// The threads that live, and thread states without one.
    pub(super) units: Vec<Unit>,
    /// What the interpreters say of their locks.
    pub(super) said: process::Said,
}

/// Which threads there are, which of them runs which thread states, and what is likely to be read of each. `threads` become
/// those, and those that have ended but were read before. Nothing else that is read here is kept.
pub(super) fn survey(target: &mut Target<'_>, threads: &mut Vec<Thread>, readings: &Readings) -> Survey {
    let tids = target.proc.tids().unwrap_or_default();
    let is_alive = |tid: Tid| tids.binary_search(&tid.0).is_ok();
    let was_read = |tid| readings.of_thread(tid).is_some_and(|tried| tried.reading.is_of_a_thread());
    threads.retain(|thread| is_alive(thread.tid) || was_read(thread.tid));
    let known: BTreeSet<Tid> = threads.iter().map(|thread| thread.tid).collect();
    let born = tids.iter().filter(|tid| !known.contains(&Tid(**tid)));
    threads.extend(born.filter_map(|tid| look::thread(target.proc, *tid)));
    threads.sort_by_key(|thread| thread.tid);

    let memory = LiveMemory::of(target.pid, target.proc, target.maps, target.reach);
    let careful = Careful::by(&memory, &target.pages);
    let living = threads.iter().filter(|thread| is_alive(thread.tid));
    let placed: Vec<Thread> = living.map(|thread| placed(target, thread)).collect();
    let walk = || target.found.map(|found| pyst_python::walk(found, &placed, &careful).python).unwrap_or_default();
    // Where a thread ends while its place in the list is read, the list seems to end there.
    let mut walked = walk();
    for _ in 0..TRIES {
        if walked.states.iter().map(|state| state.address).eq(target.listed()) {
            break;
        }
        walked = walk();
    }
    let said = process::Said::of(&walked);
    target.interpreters.clone_from(&walked.interpreters);

    let unit = |thread: &Thread| {
        let own_tid = thread.namespace_tid.unwrap_or(thread.tid.0);
        let shared = target.pointed_to(thread, &careful);
        (thread.tid, Unit { tid: Some(thread.tid), own_tid, shared, ..Unit::default() })
    };
    let mut units: BTreeMap<Tid, Unit> = placed.iter().map(unit).collect();
    let mut of_no_thread = Vec::new();
    for state in &walked.states {
        let (own, shared) = (Recorder::new(&careful), Recorder::new(&careful));
        let _ = target.states.as_ref().map(|states| states.alone(state.address, &own, &shared));
        let mut unit = Unit::default();
        let unit = match state.tid.and_then(|tid| units.get_mut(&tid)) {
            Some(unit) => unit,
            None => &mut unit,
        };
        unit.states.push(state.address);
        unit.own.extend(own.ranges());
        unit.shared.extend(shared.ranges());
        if unit.tid.is_none() {
            of_no_thread.push(unit.clone());
        }
    }
    Survey { units: units.into_values().chain(of_no_thread).collect(), said }
}

/// A thread with what tells whose stack an address is on: the stack of one that sleeps.
fn placed(target: &Target<'_>, thread: &Thread) -> Thread {
    let asleep = Asleep::now(&target.proc.task(thread.tid.0));
    let stack = asleep.as_ref().map(|asleep| stack_at(asleep.sp, None, target.maps, MAX_STACK));
    Thread { registers: asleep.map(|asleep| asleep.registers), stack, ..thread.clone() }
}
