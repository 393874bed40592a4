//! `--no-block=fallback`: the threads that could not be verified are stopped, and no others.

use super::Target;
use super::attempt::{Reading, held, held_pages, wanted_of_stack, without};
use super::descriptor::own_part;
use super::readings::Readings;
use super::values::Values;
use crate::error::CaptureError;
use crate::live::copy::Copy;
use crate::live::look::Look;
use crate::live::pagemap::Pagemap;
use crate::live::reading::Ask;
use crate::live::refusal;
use crate::live::rehearsal::{Rehearsal, widen};
use crate::live::stop::{self, Plan, Stopped};
use nix::errno::Errno;
use pyst_memory::{RangeSet, Recorder};
use pyst_python::Alone;
use pyst_snapshot::payload::{Diagnostic, Thread};
use pyst_snapshot::{Address, Range, Tid};
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// What is read beyond each predicted range: a busy thread will have pushed a few frames by then.
const SLACK: u64 = 512;

/// What a stop of some threads brought, beside what was read of them.
#[derive(Clone)]
pub(in crate::live) struct PartStop {
    pub(in crate::live) stopped: Duration,
    /// The bytes read in it.
    pub(in crate::live) bytes: u64,
    pub(in crate::live) diagnostics: Vec<Diagnostic>,
}

impl PartStop {
    /// Both together.
    pub(super) fn and(mut self, later: PartStop) -> PartStop {
        self.stopped += later.stopped;
        self.bytes += later.bytes;
        self.diagnostics.extend(later.diagnostics);
        self
    }
}

/// Stops the threads of which something is missing, and reads them. `None` if there are none. Those that were stopped before
/// are stopped again, so that what was read of all is of one moment.
///
/// # Errors
/// They may not be stopped.
pub(super) fn stop_the_rest(
    look: &Look,
    limit: Duration,
    target: &Target<'_>,
    threads: &[Thread],
    readings: &mut Readings,
) -> Result<Option<PartStop>, CaptureError> {
    if readings.are_all(target) {
        return Ok(None);
    }
    let mut rest = readings.in_order_mut();
    rest.retain(|tried| tried.unit.tid.is_some() && (tried.reading.stopped || !tried.is_all(target)));
    let tids: BTreeSet<Tid> = rest.iter().filter_map(|tried| tried.unit.tid).collect();
    let is_alive = |thread: &&Thread| !matches!(thread.state, Some(b'Z' | b'X'));
    let plain = |thread: &Thread| Thread { registers: None, stack: None, ..thread.clone() };
    let threads: Vec<Thread> =
        threads.iter().filter(|thread| tids.contains(&thread.tid)).filter(is_alive).map(plain).collect();
    if threads.is_empty() {
        return Ok(None);
    }
    let states: Vec<Address> = rest.iter().flat_map(|tried| tried.unit.states.iter().copied()).collect();
    let expected = rest.iter().flat_map(|tried| tried.unit.own.iter().chain(&tried.unit.shared).copied());
    let slack = |range: Range| Range { end: Address(range.end.0.saturating_add(SLACK)), ..range };
    let prediction = widen(expected.map(slack).collect(), target.maps);
    let of_locals = look.locals.iter().flat_map(|locals| locals.ranges());
    let mut all: RangeSet = prediction.iter().chain(of_locals).copied().collect();
    let stacks = if target.stacks { threads.len() as u64 * super::super::EXPECTED_STACK } else { 0 };
    let copy = Copy::expecting(target.pid, all.merged(), stacks);
    let rehearsal = Arc::new(Rehearsal::unseen(all.merged().to_vec()));
    let ask = Ask {
        prediction: Arc::new(prediction),
        runtime: target.found.cloned(),
        only: Some(Arc::new(states)),
        locals: look.locals.clone(),
        maps: Arc::clone(&look.maps),
        pagemap: Pagemap::of(target.proc),
    };
    let refused = |error: &std::io::Error| refusal::of(look.process.pid, error);
    let plan = Plan {
        task_directory: File::open(target.proc.path("task")).map_err(|error| refused(&error))?,
        threads,
        rehearsal,
        ask,
        pagemap: Pagemap::of(target.proc),
        pages_may_go: target.proc.may_have_userfaultfd(),
        stacks: target.stacks,
        limit,
        copy: copy.clone(),
    };
    let Stopped { threads, stopped, diagnostics, .. } = match stop::stop(plan) {
        Ok(stopped) => stopped,
        // The last of them has ended.
        Err(Errno::ESRCH) => return Ok(None),
        Err(error) => return Err(refused(&error.into())),
    };
    readings.begin_stop();
    for tried in readings.in_order_mut() {
        let thread = threads.iter().find(|thread| Some(thread.tid) == tried.unit.tid);
        if let Some(thread) = thread.filter(|thread| thread.registers.is_some()) {
            let reading = reading(target, thread, &tried.unit.states, &copy);
            tried.take(reading);
        }
    }
    Ok(Some(PartStop { stopped, bytes: copy.bytes(), diagnostics }))
}

/// What was read of a thread while it was stopped.
fn reading(target: &Target<'_>, thread: &Thread, states: &[Address], copy: &Copy) -> Reading {
    let (own, shared) = (Recorder::new(copy), Recorder::new(copy));
    let alone = |all: &pyst_python::States| {
        states.iter().filter_map(|state| all.alone(*state, &own, &shared)).collect::<Vec<Alone>>()
    };
    let told = target.states.as_ref().map(alone).unwrap_or_default();
    let own = without(&own.ranges(), states.iter().filter_map(|state| target.states.as_ref()?.links(*state)));
    let (own, shared) = (held(copy, &own), held(copy, &shared.ranges()));
    let pointer = thread.registers.as_ref().and_then(|registers| registers.thread_pointer);
    let mut stack: RangeSet = thread.stack.map(|stack| own_part(stack, pointer)).into_iter().collect();
    wanted_of_stack(target, thread, &told, copy).into_iter().for_each(|range| stack.insert(range));
    target.pointed_to(thread, copy).into_iter().for_each(|range| stack.insert(range));
    let stack = held_pages(copy, &target.readable(stack.merged()));
    let values = Values::of_stopped(target, &told, &own, &shared, copy);
    let verified = told.len() == states.len();
    Reading {
        verified,
        contradiction: None,
        stopped: true,
        asleep: Some(thread.clone()),
        told,
        own,
        shared,
        stack,
        values,
    }
}
