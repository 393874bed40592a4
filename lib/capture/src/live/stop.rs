//! The stop: every thread of the target is interrupted, its registers and memory are copied, and all are let go.
//!
//! What happens between the first interrupt and the last detach is time that the target loses. No ELF file, path or text
//! is looked at in between; what can be made before is made before. What must hold:
//!
//! - The target runs again whatever happens. A read can block for ever on a page that a userfaultfd, FUSE or NFS has to
//!   bring, so the thread that lets go (the tracer) reads only what was in memory right before; everything else is left to a
//!   thread of its own. Should this process die, the kernel lets go.
//! - A signal that a stop reports is handed on, or it would be lost. A target that was stopped stays stopped.
//! - A thread that does not stop (in vfork, frozen by a cgroup, starved) costs a bounded wait and is reported.

use super::LIVE_ARCH;
use super::copy::Copy;
use super::late;
use super::leads::leads;
use super::locals::Locals;
use super::maps;
use super::resident::Resident;
use super::stack::stack_at;
use crate::registers::{RED_ZONE, layout, stack_pointer};
use crate::sys::{self, Report};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use pyst_memory::RangeSet;
use pyst_python::Walked;
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, Map, Python, Registers, Severity, Thread};
use pyst_snapshot::{Address, Range, Tid};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, SystemTime};

/// What of a stack is read at first: almost always all that is used of it.
pub(crate) const FIRST_OF_STACK: u64 = 64 << 10;

/// What of a stack is read at most.
pub(super) const MAX_STACK: u64 = 8 << 20;

/// What of all stacks is read at most.
pub(super) const MAX_STACKS: u64 = 256 << 20;

/// What the tracer reads and walks over itself: that takes far less than any limit. More of it, as of a hundred thousand
/// frames, is left to the reader, so that the tracer can watch the clock.
const READ_BY_TRACER: u64 = 2 << 20;

/// How often threads are asked whether they have stopped when nothing says so.
const REPORT_INTERVAL: Duration = Duration::from_millis(1);

/// How often a thread is asked at once before waiting for word of it. Most stop within microseconds, and a processor that
/// fell idle meanwhile takes tens of them to come back; giving way in between lets the thread have this one.
const EAGER_POLLS: usize = 100;

/// The most threads that are traced.
const MAX_THREADS: usize = 65_536;

/// What to do while the target is stopped, all of it decided before.
pub(crate) struct Plan {
    pub(crate) task_directory: File,
    /// The threads known so far, without registers. The first is the one whose refusal is that of the process, so it must
    /// not be one that comes and goes.
    pub(crate) threads: Vec<Thread>,
    pub(crate) maps: Arc<Vec<Map>>,
    /// What the walk is expected to read: ascending, disjoint, within mappings.
    pub(crate) prediction: Vec<Range>,
    /// What of that and of the stacks is in memory.
    pub(crate) resident: Resident,
    pub(crate) runtime: Option<FoundRuntime>,
    /// The thread states of the threads named above, if no others are to be stopped and looked at.
    pub(crate) only: Option<Arc<Vec<Address>>>,
    /// What exceptions, arguments and locals are expected to be, where there is a runtime.
    pub(crate) locals: Option<Locals>,
    /// Tells what is in memory.
    pub(crate) pagemap: Option<File>,
    /// Whether stacks are wanted.
    pub(crate) stacks: bool,
    /// How long the stop may take.
    pub(crate) limit: Duration,
    pub(crate) copy: Copy,
}

/// What the stop brought. The memory is in the plan's copy.
pub(crate) struct Stopped {
    /// By ascending tid.
    pub(crate) threads: Vec<Thread>,
    pub(crate) captured_at: SystemTime,
    pub(crate) stopped: Duration,
    /// Whether a thread was stopped at a moment at which its Python frames do not hold together.
    pub(crate) unsettled: bool,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// One thread in the tracer's hands.
struct Traced {
    tid: Pid,
    thread: Thread,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Seized,
    Interrupted,
    /// With the signal to hand on, or 0.
    Stopped(i32),
    Late,
    Gone,
}

/// Carries the plan out, on a thread of its own, for tracing is a bond between two threads: when that thread ends, the
/// kernel lets go of everything that it still holds.
pub(crate) fn stop(plan: Plan) -> Result<Stopped, Errno> {
    let tracer = std::thread::Builder::new().name("tracer".to_owned()).spawn(move || trace(plan));
    tracer.map_err(|_| Errno::EAGAIN)?.join().unwrap_or(Err(Errno::EIO))
}

fn trace(mut plan: Plan) -> Result<Stopped, Errno> {
    let _ = SigSet::from_iter([Signal::SIGCHLD]).thread_block();
    sys::hurry();
    let reader = Reader::start(&plan)?;
    let mut buffer = vec![0; 32 << 10];
    let mut traced = Vec::with_capacity(plan.threads.len() + 64);
    for thread in std::mem::take(&mut plan.threads) {
        seize(thread, &mut traced)?;
    }

    let started = Instant::now();
    let captured_at = SystemTime::now();
    // While the only thread has not stopped, waiting costs the target nothing. Where others wait for the last one, a part
    // of the time is left for reading what those have.
    let patience = plan.limit.mul_f64(if traced.len() == 1 { 5.0 } else { 0.7 });
    stop_all(&mut traced, &plan, &mut buffer, started + patience);
    let left = match traced.len() {
        1 => plan.limit,
        _ => (started + plan.limit).saturating_duration_since(Instant::now()),
    };
    read_registers(&mut traced);
    let threads = give_stacks(&traced, &plan);
    let settled = read_resident(&plan, &threads).or_else(|| reader.read(threads.clone(), left));
    plan.copy.close();
    let late = let_go(&mut traced);
    let stopped = started.elapsed();

    let diagnostics = diagnose(&traced, late, settled.is_some(), plan.limit);
    Ok(Stopped { threads, captured_at, stopped, unsettled: settled == Some(false), diagnostics })
}

/// Becomes the tracer of a thread, which runs on. A thread that has exited meanwhile is left out.
fn seize(thread: Thread, traced: &mut Vec<Traced>) -> Result<(), Errno> {
    let tid = Pid::from_raw(thread.tid.0.cast_signed());
    let state = match ptrace::seize(tid, ptrace::Options::empty()) {
        Ok(()) => State::Seized,
        Err(Errno::ESRCH) => return Ok(()),
        // A leader that has exited before its other threads can no more be seized.
        Err(Errno::EPERM) if matches!(thread.state, Some(b'Z' | b'X')) => State::Gone,
        Err(Errno::EPERM) if !traced.is_empty() => State::Gone,
        Err(error) => return Err(error),
    };
    traced.push(Traced { tid, thread, state });
    Ok(())
}

/// Stops all threads, those too that are born while the others are being stopped.
fn stop_all(traced: &mut Vec<Traced>, plan: &Plan, buffer: &mut [u8], deadline: Instant) {
    loop {
        for thread in traced.iter_mut().filter(|thread| thread.state == State::Seized) {
            thread.state = match ptrace::interrupt(thread.tid) {
                Ok(()) => State::Interrupted,
                Err(_) => State::Gone,
            };
        }
        for thread in traced.iter_mut().filter(|thread| thread.state == State::Interrupted) {
            thread.state = wait(thread.tid, deadline);
        }
        if plan.only.is_some() {
            return;
        }
        let mut known: Vec<u32> = traced.iter().map(|thread| thread.thread.tid.0).collect();
        known.sort_unstable();
        let mut born = Vec::new();
        let listed = sys::numeric_entries(plan.task_directory.as_fd(), buffer, |tid| {
            if known.binary_search(&tid).is_err() && known.len() + born.len() < MAX_THREADS {
                born.push(tid);
            }
        });
        for tid in born {
            let _ = seize(Thread { tid: Tid(tid), ..Thread::default() }, traced);
        }
        if traced.len() == known.len() || listed.is_err() || Instant::now() >= deadline {
            return;
        }
    }
}

/// Waits for one thread by its number: waiting for any is quadratic in the number of threads.
fn wait(tid: Pid, deadline: Instant) -> State {
    let mut polls = 0;
    loop {
        match sys::poll_thread(tid) {
            Ok(Report::Nothing) => {}
            Ok(Report::Stopped) => return State::Stopped(0),
            Ok(Report::SignalDelivery(signal)) => return State::Stopped(signal),
            Ok(Report::Gone) | Err(_) => return State::Gone,
        }
        if polls < EAGER_POLLS {
            polls += 1;
            std::thread::yield_now();
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return State::Late;
        }
        sys::wait_for_reports(left.min(REPORT_INTERVAL));
    }
}

fn read_registers(traced: &mut [Traced]) {
    for thread in traced.iter_mut().filter(|thread| matches!(thread.state, State::Stopped(_))) {
        // A shorter set is a 32-bit thread's, whose words mean something else.
        match sys::general_registers(thread.tid) {
            Ok((words, length)) if length == layout(LIVE_ARCH).words * 8 => {
                let registers = thread.thread.registers.get_or_insert_with(Registers::default);
                layout(LIVE_ARCH).fill(registers, &words);
            }
            Ok(_) => {}
            Err(_) => thread.state = State::Gone,
        }
    }
}

/// The threads by ascending tid, each with the part of its stack that will be read.
fn give_stacks(traced: &[Traced], plan: &Plan) -> Vec<Thread> {
    let mut left = MAX_STACKS;
    let mut threads: Vec<Thread> = Vec::with_capacity(traced.len());
    for traced in traced.iter().filter(|traced| traced.state != State::Gone || traced.thread.state == Some(b'Z')) {
        let mut thread = traced.thread.clone();
        if plan.stacks {
            let registers = thread.registers.as_ref();
            let pointer = registers.and_then(|registers| registers.thread_pointer);
            let sp = registers.and_then(|registers| stack_pointer(registers, LIVE_ARCH));
            thread.stack = sp.map(|sp| stack_at(Address(sp), pointer, &plan.maps, MAX_STACK.min(left)));
            left -= thread.stack.map_or(0, |stack| stack.read.len()).min(left);
        }
        threads.push(thread);
    }
    threads.sort_by_key(|thread| thread.tid);
    threads
}

/// Lets every thread go. Those that never stopped cannot be told to; the end of this thread frees them.
fn let_go(traced: &mut [Traced]) -> usize {
    let mut late = 0;
    for thread in traced {
        match thread.state {
            State::Stopped(signal) => {
                let _ = sys::detach(thread.tid, signal);
            }
            State::Seized | State::Interrupted | State::Late => {
                late += 1;
                // It may have stopped in the meantime. If it has not, the end of this thread frees it: should it stop just
                // now, with a signal, being told that it takes none would cost it that.
                let signal = match sys::poll_thread(thread.tid) {
                    Ok(Report::Stopped) => 0,
                    Ok(Report::SignalDelivery(signal)) => signal,
                    _ => continue,
                };
                let _ = sys::detach(thread.tid, signal);
            }
            State::Gone => {}
        }
    }
    late
}

fn diagnose(traced: &[Traced], late: usize, complete: bool, limit: Duration) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::with_capacity(late);
    for traced in traced.iter().filter(|t| matches!(t.state, State::Seized | State::Interrupted | State::Late)) {
        let tid = traced.thread.tid;
        let why = late::why(tid);
        // Without the thread's id, so that threads share the message.
        let message = format!("not stopped in time, so that registers and native frames are missing: {why}");
        diagnostics.push(Diagnostic::new(Severity::LOSS, "thread-not-stopped", message).on(tid));
    }
    if !complete {
        let message = format!(
            "the memory could not be read within {} ms, and the process was let go: what follows may be \
             incomplete; try again",
            limit.as_millis()
        );
        diagnostics.push(Diagnostic::new(Severity::LOSS, "stop-limit", message));
    }
    diagnostics
}

/// The thread that reads the target's memory while the tracer watches the clock.
struct Reader {
    jobs: Sender<Vec<Thread>>,
    done: Receiver<bool>,
}

impl Reader {
    fn start(plan: &Plan) -> Result<Reader, Errno> {
        let (jobs, job) = mpsc::channel::<Vec<Thread>>();
        let (finished, done) = mpsc::channel();
        let copy = plan.copy.clone();
        let ask = Ask {
            prediction: plan.prediction.clone(),
            runtime: plan.runtime.clone(),
            only: plan.only.clone(),
            locals: plan.locals.clone(),
            maps: Arc::clone(&plan.maps),
            pagemap: plan.pagemap.as_ref().and_then(|pagemap| pagemap.try_clone().ok()),
        };
        let read = move || {
            // The tracer may give up before there is anything to read.
            if let Ok(threads) = job.recv() {
                let settled = read_all(&copy, &threads, &ask);
                let _ = finished.send(settled);
            }
        };
        std::thread::Builder::new().name("reader".to_owned()).spawn(read).map_err(|_| Errno::EAGAIN)?;
        Ok(Reader { jobs, done })
    }

    /// Has everything read, and says whether the Python frames in it hold together, if that came to an end in time.
    fn read(&self, threads: Vec<Thread>, limit: Duration) -> Option<bool> {
        self.jobs.send(threads).ok()?;
        self.done.recv_timeout(limit).ok()
    }
}

/// Reads what is in memory, which cannot block, and says whether the Python frames in it hold together; `None` if that
/// was not all that is needed.
fn read_resident(plan: &Plan, threads: &[Thread]) -> Option<bool> {
    let first = plan.resident.part_of(first_ranges(threads, &plan.prediction).merged());
    if first.iter().map(|range| range.len()).sum::<u64>() > READ_BY_TRACER {
        return None;
    }
    let locals = plan.locals.iter().flat_map(|locals| locals.resident());
    let mut all: RangeSet = first.iter().chain(locals).copied().collect();
    plan.copy.read_ranges(all.merged()).ok()?;
    let only = plan.only.as_ref().map(|only| only.as_slice());
    let walk = || plan.runtime.as_ref().map(|found| pyst_python::walk_only(found, only, threads, &plan.copy));
    let (walked, missed) = plan.copy.without_fetching(walk);
    let complete = missed.is_empty()
        && plan.copy.holds(rest_of_stacks(threads, walked.as_ref(), &plan.maps).merged())
        && plan.copy.holds(leads(&plan.copy, threads, &plan.maps, MAX_STACK).merged());
    if !complete {
        return None;
    }
    if let (Some(locals), Some(found), Some(walked)) = (&plan.locals, &plan.runtime, &walked) {
        locals.complete(&plan.copy, found, &walked.python, &plan.maps, plan.pagemap.as_ref());
    }
    Some(walked.is_none_or(|walked| !walked.unsettled))
}

/// What was predicted, and the top of each stack.
fn first_ranges(threads: &[Thread], prediction: &[Range]) -> RangeSet {
    let stacks = threads.iter().filter_map(|thread| thread.stack);
    let tops = stacks.map(|stack| stack.read.intersect(top_of_stack(stack.read.start)));
    prediction.iter().copied().chain(tops).collect()
}

/// What of a stack that is used down to `sp` is read at first, if it is that large.
pub(crate) fn top_of_stack(sp: Address) -> Range {
    let start = sp.0.saturating_sub(RED_ZONE);
    Range { start: Address(start), end: Address(sp.0.saturating_add(FIRST_OF_STACK)) }
}

/// All of the stacks that is to be read, those too that the walk has led to.
fn rest_of_stacks(threads: &[Thread], walked: Option<&Walked>, maps: &[Map]) -> RangeSet {
    let stacks = || threads.iter().filter_map(|thread| thread.stack);
    let mut rest: RangeSet = stacks().map(|stack| stack.read).collect();
    if let (Some(walked), true) = (walked, stacks().next().is_some()) {
        own_stacks(&walked.python, threads, maps).into_iter().for_each(|range| rest.insert(range));
    }
    rest
}

/// What is to be read of a target, apart from its stacks.
pub(crate) struct Ask {
    /// What the walk is expected to read.
    pub(crate) prediction: Vec<Range>,
    pub(crate) runtime: Option<FoundRuntime>,
    pub(crate) only: Option<Arc<Vec<Address>>>,
    pub(crate) locals: Option<Locals>,
    pub(crate) maps: Arc<Vec<Map>>,
    /// Tells what is in memory.
    pub(crate) pagemap: Option<File>,
}

/// Reads what was predicted and the top of the stacks, walks over that and fetches what the walk misses, then the rest; at
/// last exceptions, arguments and locals. Says whether the Python frames hold together.
pub(crate) fn read_all(copy: &Copy, threads: &[Thread], ask: &Ask) -> bool {
    let (runtime, maps) = (ask.runtime.as_ref(), ask.maps.as_slice());
    let mut first = first_ranges(threads, &ask.prediction).merged().to_vec();
    // Without the thread states, which are small, all else would be of no use if the time is not enough.
    first.sort_by_key(|range| range.len());
    if copy.read_ranges(&first).is_err() {
        return true;
    }
    let only = ask.only.as_ref().map(|only| only.as_slice());
    let walked = runtime.map(|runtime| pyst_python::walk_only(runtime, only, threads, copy));
    let _ = copy.read_ranges(rest_of_stacks(threads, walked.as_ref(), maps).merged());
    let _ = copy.read_ranges(leads(copy, threads, maps, MAX_STACK).merged());
    if let (Some(locals), Some(found), Some(walked)) = (&ask.locals, runtime, &walked) {
        let resident = ask.pagemap.as_ref().map(|pagemap| Resident::by(pagemap, locals.ranges().iter().copied()));
        let ranges = match resident {
            Some(resident) => resident.part_of(locals.ranges()),
            None => locals.ranges().to_vec(),
        };
        let _ = copy.read_ranges(&ranges);
        locals.complete(copy, found, &walked.python, maps, ask.pagemap.as_ref());
    }
    walked.is_none_or(|walked| !walked.unsettled)
}

/// A thread whose sp is on a side stack (a signal stack, a greenlet's) left its evaluation loops on its own stack: that
/// stack from the innermost of them on, and some of it below, for that loop may have called further.
pub(super) fn own_stacks(python: &Python, threads: &[Thread], maps: &[Map]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut left = MAX_STACKS;
    for state in &python.states {
        let stack = threads.iter().find(|thread| Some(thread.tid) == state.tid).and_then(|thread| thread.stack);
        let Some(stack) = stack else { continue };
        for anchor in state.runs.iter().filter_map(|run| run.anchor) {
            let known = stack.mapping.contains(anchor) || ranges.iter().any(|range| range.contains(anchor));
            let Some(mapping) = maps::find(maps, anchor).filter(|_| !known).map(|map| map.range) else { continue };
            let start = Address(anchor.0.saturating_sub(FIRST_OF_STACK)).max(mapping.start);
            let end = Address(start.0.saturating_add(MAX_STACK.min(left))).min(mapping.end);
            left = left.saturating_sub(end.0.saturating_sub(start.0));
            ranges.push(Range { start, end });
        }
    }
    ranges
}
