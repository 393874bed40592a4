//! Reading a process that is not stopped.
//!
//! Each thread is read by itself, and again, and tried again a bounded number of times if it was not the same (`attempt`).
//! What must hold:
//!
//! - What is said to be verified was there at one moment: the bytes of a thread's frames come from the reading that was
//!   found to be the same again, and no byte that was read for another thread or at another time takes their place.
//! - Nothing is traced and nothing is stopped, but what could not be verified on demand (`fallback`). A page that somebody else would have to bring is not read.
//! - What belongs to the process and not to a thread (its threads' list, the GIL) is read last, and again. Who has the GIL is
//!   told only if it was the same before all and after all.

mod asleep;
mod at_once;
mod attempt;
mod descriptor;
mod doubts;
mod fallback;
mod process;
mod survey;
mod together;
mod values;

use super::LIVE_ARCH;
use super::careful::Pages;
use super::copy::{Copied, Copy};
use super::look::Look;
use super::memory::LiveMemory;
use super::page::PAGE;
use super::procfs::Proc;
use super::stack::MAX_STACKS;
use crate::{NoBlock, Options};
use attempt::{Reading, Unit, attempt};
use fallback::PartStop;
use nix::unistd::Pid;
use pyst_memory::{Memory, Recorder};
use pyst_python::States;
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, InterpreterV1, Map, Thread, ThreadWait, Verdicts};
use pyst_snapshot::{Address, Range, Tid};
use std::cell::Cell;
use std::collections::BTreeMap;
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
    pub(super) memory: Copied,
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
        let (units, said) = survey::survey(&mut target, &mut threads);
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
    let read = together::put_together(&target, threads, tried, before.unwrap_or_default(), captured_at);
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
