//! What there is to read: which threads there are, and what of the process is whose.

use super::asleep::Asleep;
use super::attempt::Unit;
use super::{Target, process};
use crate::live::careful::Careful;
use crate::live::look;
use crate::live::memory::LiveMemory;
use crate::live::stack::{MAX_STACK, stack_at};
use pyst_memory::Recorder;
use pyst_snapshot::Tid;
use pyst_snapshot::payload::Thread;
use std::collections::{BTreeMap, BTreeSet};

/// Which threads there are, which of them runs which thread states, and what is likely to be read of each; and what the
/// interpreters say of their locks. Nothing else that is read here is kept.
pub(super) fn survey(target: &mut Target<'_>, threads: &mut Vec<Thread>) -> (Vec<Unit>, process::Said) {
    let tids = target.proc.tids().unwrap_or_default();
    let known: BTreeSet<Tid> = threads.iter().map(|thread| thread.tid).collect();
    let born = tids.into_iter().filter(|tid| !known.contains(&Tid(*tid)));
    threads.extend(born.filter_map(|tid| look::thread(target.proc, tid)));
    threads.sort_by_key(|thread| thread.tid);

    let memory = LiveMemory::of(target.pid, target.proc, target.maps);
    let careful = Careful::by(&memory, &target.pages);
    let placed: Vec<Thread> = threads.iter().map(|thread| placed(target, thread)).collect();
    let walked = target.found.map(|found| pyst_python::walk(found, &placed, &careful).python).unwrap_or_default();
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
    (units.into_values().chain(of_no_thread).collect(), said)
}

/// A thread with what tells whose stack an address is on: the stack of one that sleeps.
fn placed(target: &Target<'_>, thread: &Thread) -> Thread {
    let asleep = Asleep::now(&target.proc.task(thread.tid.0));
    let stack = asleep.as_ref().map(|asleep| stack_at(asleep.sp, None, target.maps, MAX_STACK));
    Thread { registers: asleep.map(|asleep| asleep.registers), stack, ..thread.clone() }
}
