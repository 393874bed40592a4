//! Reading a process that is not stopped.
//!
//! Each thread is read by itself, and again, and tried again a bounded number of times if it was not the same (`attempt`).
//! What must hold:
//!
//! - What is said to be verified was there at one moment: the bytes of a thread's frames come from the reading that was
//!   found to be the same again, and no byte that was read for another thread or at another time takes their place.
//! - Nothing is traced and nothing is stopped. A page that somebody else would have to bring is not read.
//! - What belongs to the process and not to a thread (its threads' list, the GIL) is read last, and again. Who has the GIL is
//!   told only if it was the same before all and after all.

mod asleep;
mod at_once;
mod attempt;
mod descriptor;
mod fallback;
mod process;
mod values;

use super::LIVE_ARCH;
use super::careful::{Careful, Pages};
use super::copy::Copy;
use super::look::{self, Look};
use super::memory::{LiveMemory, PAGE};
use super::procfs::Proc;
use super::stack::{MAX_STACK, MAX_STACKS, stack_at};
use crate::{NoBlock, Options};
use asleep::Asleep;
use attempt::{Reading, Unit, attempt};
use fallback::PartStop;
use nix::unistd::Pid;
use process::Whole;
use pyst_memory::{Image, Memory, RangeSet, Recorder};
use pyst_python::States;
use pyst_snapshot::payload::{
    Diagnostic, FoundRuntime, InterpreterV1, Map, Python, PythonState, Severity, StateVerdict, Thread, ThreadReading,
    ThreadVerdict, ThreadWait, Verdicts,
};
use pyst_snapshot::{Address, Range, Tid};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often a thread is tried again that could not be verified, and how long it runs in between. At once is of no use: it
/// runs, or it has just been given what it waits for.
const RETRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_micros(1500);

/// How often threads are stopped with `--no-block=fallback`: once is enough but where what one has now was another's before.
const STOPS: usize = 3;

/// What was read of a process that ran.
pub(super) struct Unstopped {
    pub(super) threads: Vec<Thread>,
    pub(super) image: Image<'static>,
    pub(super) bytes: u64,
    pub(super) captured_at: SystemTime,
    pub(super) verdicts: Verdicts,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Some threads were stopped at last.
    pub(super) part_stop: Option<PartStop>,
}

/// What is read, and how.
pub(super) struct Target<'a> {
    pid: Pid,
    proc: &'a Proc,
    maps: &'a Arc<Vec<Map>>,
    pages: Rc<Pages<'a>>,
    found: Option<&'a FoundRuntime>,
    states: Option<States>,
    interpreters: Vec<InterpreterV1>,
    /// What the kernel said of the threads' system calls at the look.
    waits: Vec<ThreadWait>,
    /// Whether native stacks are wanted.
    stacks: bool,
    /// How many bytes of stacks may still be read.
    stacks_left: Cell<u64>,
    /// How many bytes may be read for arguments and locals, if they are wanted.
    locals: Option<u64>,
    /// Whether threads may be stopped that could not be verified.
    may_stop: bool,
    /// Another process traces it, so that nobody else can stop its threads.
    is_traced: bool,
}

/// The best reading of a unit so far.
struct Tried {
    unit: Unit,
    reading: Reading,
    /// How often it had been tried before.
    retries: u32,
    /// What was as good until something better came: that may turn out to contradict what was read of others.
    before: Option<(Reading, u32)>,
}

impl Tried {
    /// Takes another reading, if that is worth more, or the one so far is worth nothing.
    fn renew(&mut self, unit: Unit, reading: Reading, retries: u32) {
        let worth = self.reading.worth();
        if reading.worth() > worth || worth == 0 {
            let before = (std::mem::replace(&mut self.reading, reading), std::mem::replace(&mut self.retries, retries));
            self.before = Some(before).filter(|_| worth > 0 && self.unit.states == unit.states);
            self.unit = unit;
        }
    }
}

/// Reads the process without stopping it.
pub(super) fn read(look: &Look, options: &Options) -> Unstopped {
    let found = look.runtime.found.as_ref();
    let memory = LiveMemory::of(look.living, &look.proc, &look.maps);
    let mut target = Target {
        pid: look.living,
        proc: &look.proc,
        maps: &look.maps,
        pages: Rc::new(Pages::of(&look.maps, &look.proc)),
        found,
        states: found.and_then(|found| States::of(found, &memory)),
        interpreters: Vec::new(),
        waits: look.waits.payload(&look.proc, SystemTime::now()).threads,
        stacks: !options.python_only,
        stacks_left: Cell::new(MAX_STACKS),
        locals: options.locals,
        may_stop: options.no_block == Some(NoBlock::Fallback) && look.status.tracer_pid == 0,
        is_traced: look.status.tracer_pid != 0,
    };
    let mut threads = look.threads.clone();
    let mut tried: BTreeMap<(Option<Tid>, Address), Tried> = BTreeMap::new();
    let mut before = None;
    for retries in 0..=RETRIES {
        if retries > 0 {
            std::thread::sleep(BETWEEN_TRIES);
            target.pages.forget();
        }
        let (units, said) = survey(&mut target, &mut threads);
        before.get_or_insert(said);
        for unit in units {
            let key = (unit.tid, if unit.tid.is_some() { Address(0) } else { unit.first_state() });
            let known = tried.get(&key);
            if known.is_some_and(|tried| tried.reading.is_all(&tried.unit, &target)) {
                continue;
            }
            let reading = attempt(&target, &unit);
            match tried.get_mut(&key) {
                Some(tried) => tried.renew(unit, reading, retries),
                None => _ = tried.insert(key, Tried { unit, reading, retries, before: None }),
            }
        }
        doubt_conflicts(&target, tried.values_mut());
        if tried.values().all(|tried| tried.reading.is_all(&tried.unit, &target)) {
            break;
        }
    }
    let captured_at = SystemTime::now();
    let mut tried: Vec<Tried> = tried.into_values().collect();
    let mut part_stop: Option<PartStop> = None;
    for _ in 0..if target.may_stop { STOPS } else { 0 } {
        let Some(stop) = fallback::stop_the_rest(look, options.stop_limit, &target, &threads, &mut tried) else {
            break;
        };
        part_stop = Some(part_stop.map_or_else(|| stop.clone(), |before| before.and(stop.clone())));
        // What these have now was verified of others when those had it.
        tried.sort_by_key(|tried| !tried.reading.stopped);
        doubt_conflicts(&target, tried.iter_mut());
    }
    let read = put_together(&target, threads, tried, before.unwrap_or_default(), captured_at);
    Unstopped { part_stop, ..read }
}

impl Target<'_> {
    /// What the arguments of a thread's system call point to.
    fn pointed_to(&self, thread: &Thread, memory: &dyn Memory) -> Vec<Range> {
        let recorder = Recorder::new(memory);
        let wait = self.waits.iter().find(|wait| wait.tid == thread.tid);
        let _ = pyst_kernel::Call::of(thread, wait, LIVE_ARCH, &recorder);
        recorder.ranges()
    }

    /// What of `ranges` may be read.
    fn readable(&self, ranges: &[Range]) -> Vec<Range> {
        let mut parts: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                let end = Address((at.0 | (PAGE - 1)).saturating_add(1)).min(range.end);
                let page = Range { start: at, end };
                at = end;
                match parts.last_mut() {
                    _ if !self.pages.may_be_read(page) => {}
                    Some(last) if last.end == page.start => last.end = page.end,
                    _ => parts.push(page),
                }
            }
        }
        parts
    }
}

impl Unit {
    fn first_state(&self) -> Address {
        self.states.first().copied().unwrap_or_default()
    }
}

/// Which threads there are, which of them runs which thread states, and what is likely to be read of each; and what the
/// interpreters say of their locks. Nothing else that is read here is kept.
fn survey(target: &mut Target<'_>, threads: &mut Vec<Thread>) -> (Vec<Unit>, process::Said) {
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

/// Makes one memory of what was read of each thread, and what the process has beside it.
fn put_together(
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
        diagnostics.extend(diagnose(target, thread, reading, verified));
        verdicts.threads.push(ThreadVerdict { tid: thread.tid, reading, verified, retries });
    }
    diagnostics.extend(diagnose_states_alone(&walked, &verdicts, &diagnostics));
    diagnostics.extend((!same_list).then(process::changed_all_the_time));
    let bytes = copy.bytes();
    let changed = changed_values(&tried, &copy);
    verdicts.locks_verified = process::Said::of(&walked) == before;
    let mut image = copy.into_image();
    image.leave_out(changed);
    Unstopped { threads, image, bytes, captured_at, verdicts, diagnostics, part_stop: None }
}

/// The words of values that did not stay the same, or that other threads had otherwise when they were read.
fn changed_values(tried: &[Tried], copy: &Copy) -> RangeSet {
    let verified = || tried.iter().filter(|tried| tried.reading.verified).map(|tried| &tried.reading.values);
    let mut changed: RangeSet = verified().flat_map(|values| values.changed.iter().copied()).collect();
    for (range, bytes) in verified().flat_map(|values| &values.pieces) {
        let mut held = vec![0; bytes.len()];
        match copy.read(range.start, &mut held) {
            Ok(()) if held == *bytes => {}
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

/// Threads are read one after the other, and memory that one has given back another may have had since: then only one of
/// them has what was read of it.
fn doubt_conflicts<'a>(target: &Target<'_>, tried: impl Iterator<Item = &'a mut Tried>) {
    let copy = Copy::of(target.pid);
    for tried in tried.filter(|tried| tried.reading.verified) {
        if !copy.agrees_with(&tried.reading.own)
            && let Some((reading, retries)) = tried.before.take()
        {
            (tried.reading, tried.retries) = (reading, retries);
        }
        if copy.agrees_with(&tried.reading.own) {
            copy.hold(&tried.reading.own);
        } else {
            tried.reading.verified = false;
            tried.reading.asleep = None;
        }
    }
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

/// What there is to say of a thread that was not stopped.
fn diagnose(target: &Target<'_>, thread: &Thread, reading: ThreadReading, verified: bool) -> Option<Diagnostic> {
    if matches!(thread.state, Some(b'Z' | b'X')) {
        return None;
    }
    // Without the thread's id, so that threads share the message.
    if !verified {
        let what = match reading {
            ThreadReading::RAN => "it ran while it was read, and was another each time",
            _ => "what its frames lead to became another's while it was read",
        };
        let advice = match target {
            Target { is_traced: true, .. } => {
                ", or without the process that traces it: while that does, pyst-grab cannot stop such threads"
            }
            Target { may_stop: true, .. } => "",
            _ => ", or with --no-block=fallback, which stops such threads",
        };
        let message =
            format!("{what}: the frames shown of it may not all have been on its stack at one time; try again{advice}");
        return Some(Diagnostic::new(Severity::LOSS, "not-verified", message).on(thread.tid));
    }
    if target.stacks && thread.registers.is_none() && !target.may_stop {
        let advice = match target.is_traced {
            true => "another process traces it, so that pyst-grab cannot stop it",
            false => "--no-block=fallback stops such threads",
        };
        let message = format!(
            "it did not sleep while it was read, and of a thread that runs and is not stopped no registers are known, so \
             that its native frames are missing; {advice}"
        );
        return Some(Diagnostic::new(Severity::INFO, "not-asleep", message).on(thread.tid));
    }
    None
}

/// What there is to say of thread states that could not be verified, and of whose threads nothing was `said`: those have
/// ended since they were listed, or are just beginning.
fn diagnose_states_alone(walked: &Python, verdicts: &Verdicts, said: &[Diagnostic]) -> Option<Diagnostic> {
    let said: BTreeSet<Tid> = said.iter().filter(|one| one.code == "not-verified").filter_map(|one| one.tid).collect();
    let is_verified = |state: &PythonState| verdicts.of_state(state.address).is_some_and(|verdict| verdict.verified);
    let alone = walked.states.iter().filter(|state| state.tid.is_none_or(|tid| !said.contains(&tid)));
    let count = alone.filter(|state| !is_verified(state)).count();
    let message = format!(
        "Python thread states that no thread runs any more, or not yet, changed while they were read ({count}): the frames \
         shown of them may not all have been on one stack at one time; try again"
    );
    (count > 0).then(|| Diagnostic::new(Severity::LOSS, "not-verified", message))
}
