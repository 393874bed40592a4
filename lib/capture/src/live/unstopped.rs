//! Reading a process that is not stopped.
//!
//! Each thread is read by itself, and again, and tried again a bounded number of times if it was not the same (`attempt`).
//! What must hold:
//!
//! - What is said to be verified was there at one moment: the bytes of a thread's frames come from the reading that was
//!   found to be the same again, and no byte that was read for another thread or at another time takes their place.
//! - Nothing is traced and nothing is stopped, but what could not be verified, on demand (`fallback`). A page that somebody
//!   else would have to bring is not read.
//! - What belongs to the process and not to a thread (its threads' list, the GIL) is read last, and again. Who has the GIL is
//!   told only if it was the same before all and after all.

mod asleep;
mod at_once;
mod attempt;
mod descriptor;
mod doubts;
mod fallback;
mod process;
mod readings;
mod survey;
mod together;
mod values;

use super::LIVE_ARCH;
use super::careful::{Careful, Pages};
use super::copy::Copied;
use super::look::Look;
use super::memory::LiveMemory;
use super::page::PAGE;
use super::procfs::Proc;
use super::stack::MAX_STACKS;
use crate::{NoBlock, Options};
use fallback::PartStop;
use nix::unistd::Pid;
use pyst_elf::Reach;
use pyst_memory::{Memory, Recorder};
use pyst_python::States;
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, InterpreterV1, Map, Thread, ThreadWait, Verdicts};
use pyst_snapshot::{Address, Range};
use readings::Readings;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use survey::Survey;
use together::Together;

/// How often a thread is tried again that could not be verified, and how long it runs in between. At once is of no use: it
/// runs, or it has just been given what it waits for.
const RETRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_micros(1500);

/// How often threads are stopped with `--no-block=fallback`: once is enough but where what one has now was another's before.
/// Then that one is stopped, too, and with it again all that were, so that there are ever fewer others.
const STOPS: usize = 8;

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
    reach: &'a Reach,
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

/// Reads the process without stopping it.
pub(super) fn read(look: &Look, options: &Options) -> Unstopped {
    let found = look.runtime.found.as_ref();
    let memory = LiveMemory::of(look.living, &look.proc, &look.maps, &look.reach);
    let mut target = Target {
        pid: look.living,
        proc: &look.proc,
        maps: &look.maps,
        reach: &look.reach,
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
    let mut readings = Readings::default();
    let (mut before, mut together) = (None, None);
    for retries in 0..=RETRIES {
        if retries > 0 {
            std::thread::sleep(BETWEEN_TRIES);
            target.pages.forget();
        }
        let Survey { units, said } = survey::survey(&mut target, &mut threads, &readings);
        before.get_or_insert(said);
        readings.attempt(&target, units, retries);
        // What the process has beside its threads takes as long again: it is of no use while much is missing.
        if readings.are_all(&target) || retries + 1 >= RETRIES {
            let whole = together.insert(Together::of(&target, &threads, &readings));
            if !whole.contradicts(&mut readings) && readings.are_all(&target) {
                break;
            }
        }
    }
    let captured_at = SystemTime::now();
    let (mut part_stop, mut refusal): (Option<PartStop>, _) = (None, None);
    for _ in 0..if target.may_stop { STOPS } else { 0 } {
        match fallback::stop_the_rest(look, options.stop_limit, &target, &threads, &mut readings) {
            Ok(None) => break,
            Ok(Some(stop)) => {
                part_stop = Some(part_stop.map_or_else(|| stop.clone(), |before| before.and(stop.clone())))
            }
            Err(error) => {
                refusal = Some(doubts::of_refusal(&error));
                break;
            }
        }
        readings.doubt_conflicts(&target);
        together.insert(Together::of(&target, &threads, &readings)).contradicts(&mut readings);
    }
    let together = together.unwrap_or_else(|| Together::of(&target, &threads, &readings));
    let mut read = together.into_unstopped(&target, &readings, &before.unwrap_or_default(), captured_at);
    read.diagnostics.extend(refusal);
    Unstopped { part_stop, ..read }
}

impl Target<'_> {
    /// The thread states that the process lists now.
    fn listed(&self) -> Vec<Address> {
        let memory = LiveMemory::of(self.pid, self.proc, self.maps, self.reach);
        let careful = Careful::by(&memory, &self.pages);
        self.states.as_ref().map(|states| states.addresses(&careful)).unwrap_or_default()
    }

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
