//! The stop: every thread of the target is interrupted, its registers and memory are copied, and all are let go.
//!
//! What happens between the first interrupt and the last detach is time that the target loses. No ELF file, path or text
//! is looked at in between; what can be made before is made before. What must hold:
//!
//! - The target runs again whatever happens. A read can block for ever on a page that a userfaultfd, FUSE or NFS has to
//!   bring, so the thread that lets go (the tracer) reads only what was in memory right before, or was read within the
//!   last 50 ms and is of no file; everything else is left to a
//!   thread of its own. Should this process die, the kernel lets go.
//! - A signal that a stop reports is handed on, or it would be lost. A target that was stopped stays stopped.
//! - A thread that does not stop (in vfork, frozen by a cgroup, starved) costs a bounded wait and is reported.

use super::LIVE_ARCH;
use super::copy::Copy;
use super::late;
use super::pagemap::Pagemap;
use super::reading::{Ask, Moved, Reader, Review};
use super::rehearsal::Rehearsal;
use super::stack::{MAX_STACK, MAX_STACKS, stack_at};
use super::together::Together;
use super::tracer::{State, Traced, Tracer};
use crate::registers::stack_pointer;
use crate::sys;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{Diagnostic, Map, Severity, Thread};
use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What to do while the target is stopped, all of it decided before.
pub(crate) struct Plan {
    pub(crate) task_directory: File,
    /// The threads known so far, without registers. The first is the one whose refusal is that of the process, so it must
    /// not be one that comes and goes.
    pub(crate) threads: Vec<Thread>,
    /// What will be read, and what that held.
    pub(crate) rehearsal: Arc<Rehearsal>,
    /// What is to be read where that does not hold any more.
    pub(crate) ask: Ask,
    /// Tells the tracer what is in memory.
    pub(crate) pagemap: Pagemap,
    /// Whether pages that are in memory now may be gone in the stop, never to come back.
    pub(crate) pages_may_go: bool,
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

/// How often the limit is waited for the only thread to stop.
const PATIENCE_WITH_ONE: u32 = 5;

/// How long a stop takes at most, if nothing is stuck.
pub(crate) fn longest(limit: Duration) -> Duration {
    limit.saturating_mul(PATIENCE_WITH_ONE + 1)
}

/// Carries the plan out, on a thread of its own, for tracing is a bond between two threads: when that thread ends, the
/// kernel lets go of everything that it still holds.
pub(crate) fn stop(plan: Plan) -> Result<Stopped, Errno> {
    let tracer = std::thread::Builder::new().name("tracer".to_owned()).spawn(move || trace(plan));
    tracer.map_err(|_| Errno::EAGAIN)?.join().unwrap_or(Err(Errno::EIO))
}

fn trace(plan: Plan) -> Result<Stopped, Errno> {
    let _ = SigSet::from_iter([Signal::SIGCHLD]).thread_block();
    sys::hurry();
    let Plan { task_directory, threads, rehearsal, ask, pagemap, pages_may_go, stacks, limit, copy } = plan;
    let reader = Reader::start(&copy, &ask)?;
    let mut tracer = Tracer::of(task_directory, threads)?;
    let count = tracer.threads().len();
    let present = (!pages_may_go).then(|| rehearsal.present(&pagemap));
    let together = present.as_deref().and_then(Together::of).map(Arc::new);

    let started = Instant::now();
    let captured_at = SystemTime::now();
    // While the only thread has not stopped, waiting costs the target nothing. Where others wait for the last one, a part
    // of the time is left for reading what those have.
    let patience = if count == 1 { limit.saturating_mul(PATIENCE_WITH_ONE) } else { limit.mul_f64(0.7) };
    tracer.stop_all(started + patience, ask.only.is_none());
    // One that took long to stop went on until then, or waited for something else.
    let began = if count == 1 && started.elapsed() > limit { Instant::now() } else { started };
    let deadline = if count == 1 { Instant::now() } else { started } + limit;
    if let Some(together) = &together {
        reader.help(together, deadline);
    }
    tracer.read_registers();
    let mut threads = tracer.take_threads();
    let moved = if stacks { give_stacks(&mut threads, &rehearsal, &ask.maps) } else { Vec::new() };
    let read = || {
        if let Some(together) = &together {
            together.finish(&copy, deadline).ok()?;
        } else {
            let present = present.as_deref().map_or_else(|| pagemap.present(&rehearsal.ranges).into(), Cow::from);
            copy.read_until(&present, Some(deadline)).ok()?;
        }
        let (threads, moved) = (&threads, moved.as_slice());
        let review =
            Review { copy: &copy, threads, moved, rehearsal: &rehearsal, ask: &ask, pagemap: &pagemap, deadline };
        review.read_what_has_changed()
    };
    let left = || deadline.saturating_duration_since(Instant::now());
    let settled = read().or_else(|| reader.read(threads.clone(), left()));
    copy.close();
    tracer.let_go();
    let stopped = began.elapsed();

    let mut diagnostics = diagnose(tracer.threads(), settled.is_some(), limit);
    diagnostics.extend((stopped > limit).then(|| longer_than_allowed(stopped, limit, threads.len())));
    Ok(Stopped { threads, captured_at, stopped, unsettled: settled == Some(false), diagnostics })
}

/// Gives each thread the part of its stack that will be read. The threads that are not where they slept before.
fn give_stacks(threads: &mut [Thread], rehearsal: &Rehearsal, maps: &[Map]) -> Vec<Moved> {
    let mut left = MAX_STACKS;
    let mut moved = Vec::new();
    for thread in threads {
        let Some(registers) = &thread.registers else { continue };
        let Some(sp) = stack_pointer(registers, LIVE_ARCH).map(Address) else { continue };
        let sleeper = rehearsal.sleeper(thread.tid);
        let stack = match sleeper.filter(|sleeper| sleeper.is(registers)) {
            Some(sleeper) => sleeper.stack,
            None => {
                let known = sleeper.and_then(|sleeper| sleeper.stack_from(sp)).filter(|stack| stack.read.len() <= left);
                let pointer = registers.thread_pointer;
                let stack = known.unwrap_or_else(|| stack_at(sp, pointer, maps, MAX_STACK.min(left)));
                moved.push(Moved { tid: thread.tid, stack: stack.read });
                stack
            }
        };
        left = left.saturating_sub(stack.read.len());
        thread.stack = Some(stack);
    }
    moved
}

/// What the limit cannot shorten: a stop is over when the kernel has stopped and let go each thread.
fn longer_than_allowed(stopped: Duration, limit: Duration, threads: usize) -> Diagnostic {
    let message = format!(
        "the process was stopped for {} ms, longer than the {} ms of --stop-limit: that long the kernel took to stop its {threads} \
         threads and to let them go; --no-block stops none",
        stopped.as_millis(),
        limit.as_millis()
    );
    Diagnostic::new(Severity::WARNING, "stop-took-longer", message)
}

fn diagnose(traced: &[Traced], complete: bool, limit: Duration) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for traced in traced.iter().filter(|t| matches!(t.state, State::Seized | State::Interrupted | State::Late)) {
        let why = late::why(traced.tid());
        // Without the thread's id, so that threads share the message.
        let message = format!("not stopped in time, so that registers and native frames are missing: {why}");
        diagnostics.push(Diagnostic::new(Severity::LOSS, "thread-not-stopped", message).on(traced.tid()));
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
