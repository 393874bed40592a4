//! Living processes: look while the target runs, stop it for microseconds, finish while it runs again.

mod cache;
mod careful;
mod copy;
mod files;
mod interrupted;
mod late;
mod leads;
mod locals;
mod look;
pub(crate) mod maps;
mod memory;
mod page;
mod pagemap;
mod part;
mod patience;
pub(crate) mod procfs;
mod reading;
mod refusal;
mod rehearsal;
mod row;
mod sight;
mod sleepers;
mod sockets;
pub(crate) mod stack;
mod stop;
mod tasks;
mod together;
mod tracer;
mod unstopped;
mod waits;

use crate::captured::{Captured, Steps};
use crate::error::CaptureError;
use crate::finish::{self, Facts};
use crate::modules::WithFiles;
use crate::source::TargetPaths;
use crate::{Options, nanoseconds, sys};
use copy::{Copied, Copy};
use look::Look;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pagemap::Pagemap;
use procfs::Proc;
use pyst_snapshot::payload::{
    Arch, Blocking, Capture, CaptureSource, Diagnostic, Process, Severity, Thread, ThreadReading, Verdicts, Waits,
};
use pyst_snapshot::{Range, Tid};
pub(crate) use refusal::check_proc;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tasks::Tasks;
use unstopped::Unstopped;

/// The one instruction set whose registers and processes are read.
pub(crate) const LIVE_ARCH: Arch = if cfg!(target_arch = "aarch64") { Arch::AARCH64 } else { Arch::X86_64 };

/// How long looking may take. It is bounded only because reading a file that is mapped can block for ever.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// The same where all memory is searched.
const EXHAUSTIVE_LOOK_LIMIT: Duration = Duration::from_secs(1800);

/// How much longer than its own limits a stop may take. Then the thread that should let go is stuck itself, and only the end of
/// this process frees the target.
const STUCK: Duration = Duration::from_secs(2);

/// How often a process is looked at that becomes another program meanwhile.
const LOOKS: usize = 3;

/// How often a target is stopped at most. At a few instructions of every call the interpreter's own links are not whole: a
/// stop there, one of some hundreds, is worth another. A damaged target costs them all.
const STOPS: usize = 3;

/// How long it runs between two stops: long enough for a thread that has no processor to get one, most of the time.
const BETWEEN_STOPS: Duration = Duration::from_millis(1);

/// What the look at so many threads took is worth a millisecond to give back before what was captured is put together.
const MANY_THREADS: usize = 1000;

/// Buffers made ready for the stack of each thread.
const EXPECTED_STACK: u64 = 16 << 10;

/// Captures process `pid`, which started at `start` if that is given, in clock ticks since the machine did.
pub(crate) fn capture(pid: u32, start: Option<u64>, options: &Options) -> Result<Captured, CaptureError> {
    refusal::check_proc()?;
    if pid == std::process::id() {
        return Err(CaptureError::Itself { pid });
    }
    // The tracer is told of stops with SIGCHLD. The others would stop this process (Ctrl-Z), and with it the target for as
    // long. Threads inherit the mask, so that none of them takes one.
    let blocked = [Signal::SIGCHLD, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
    let mask = SigSet::from_iter(blocked).thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let stuck = |seconds| CaptureError::Stuck { pid, seconds };
    let result = Captured::by(look_limit(options), stuck, {
        let options = options.clone();
        move |steps| capture_here(pid, start, &options, steps)
    });
    if let Ok(mask) = mask {
        let _ = mask.thread_set_mask();
    }
    result
}

fn look_limit(options: &Options) -> Duration {
    if options.exhaustive { EXHAUSTIVE_LOOK_LIMIT } else { LOOK_LIMIT }
}

/// Captures, and hands out what comes of it.
fn capture_here(pid: u32, start: Option<u64>, options: &Options, steps: &Steps) -> Result<(), CaptureError> {
    let (mut look, taken) = look_and_take(pid, options, steps)?;
    look.forget_what_was_expected();
    if taken.threads.len() > MANY_THREADS {
        sys::give_memory_back();
    }
    if !options.python_only {
        look.renew_modules(&options.search);
    }
    steps.finish();
    let Taken { mut threads, memory, captured_at, blocking, stopped, bytes, verdicts, .. } = taken;
    let mut diagnostics = [taken.diagnostics, taken.interrupted].concat();
    diagnostics.extend(pages_out_of_reach(&look.out_of_reach));
    name_newcomers(&look, &mut threads);
    let capture = Capture {
        captured_at_ns: nanoseconds(captured_at),
        source: CaptureSource::LIVE,
        blocking,
        stopped_ns: stopped.map(|stopped| u64::try_from(stopped.as_nanos()).unwrap_or(u64::MAX)),
        stopped_bytes: stopped.map(|_| bytes),
        arch: LIVE_ARCH,
        ..crate::capture_section(options)
    };
    let paths = TargetPaths::Live { root: look.proc.path("root"), working_directory: look.proc.path("cwd") };
    let waits = waits(&look, captured_at, verdicts.as_ref());
    let facts = Facts {
        capture,
        process: look.process,
        threads,
        maps: &look.maps,
        loaded: &look.loaded,
        runtime: look.runtime,
        memory: &memory,
        paths,
        reach: &look.reach,
        diagnostics,
        waits,
        verdicts,
        open_files: &|descriptors| look.waits.files(&look.proc, descriptors),
        // One that has exited by now was what was captured.
        check: &|| match (start, start_of(pid)) {
            (Some(start), Some(now)) if now != start => Err(CaptureError::Exited { pid }),
            _ => Ok(()),
        },
    };
    finish::finish(facts, options, steps)
}

/// A process that became another program between the look and the stop is looked at once more: what is mapped where, and what
/// lies there, was another's.
fn look_and_take(pid: u32, options: &Options, steps: &Steps) -> Result<(Look, Taken), CaptureError> {
    for _ in 0..LOOKS {
        let look = look::look(pid, options)?;
        let taken = match (look.status.tracer_pid, options.no_block) {
            (0, None) => take_stopped(pid, &look, options, steps)?,
            (0, Some(_)) => take_running(pid, &look, options, None)?,
            (tracer, _) => take_running(pid, &look, options, Some(tracer))?,
        };
        if !look.is_of_another_program() {
            return Ok((look, taken));
        }
    }
    Err(CaptureError::Replaced { pid })
}

/// When a process started. What its first thread has to say of itself takes no longer where there are many others.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    Some(Proc::of(pid).task(pid).stat()?.start_ticks)
}

/// What can be told of a process that could not be captured.
pub(crate) fn described(pid: u32) -> Option<Process> {
    let proc = Proc::of(pid);
    Some(look::process(pid, &proc, &proc.stat()?, &proc.status()?))
}

/// The threads with the leader in front. Thread ids wrap around, so a thread that is about to exit may have a lower one.
fn leader_first(pid: u32, threads: &[Thread]) -> Vec<Thread> {
    let mut threads = threads.to_vec();
    threads.sort_by_key(|thread| (thread.tid != Tid(pid), thread.tid));
    threads
}

/// What was taken from the target.
struct Taken {
    threads: Vec<Thread>,
    memory: Copied,
    captured_at: SystemTime,
    blocking: Blocking,
    /// How long the target was stopped, in all.
    stopped: Option<Duration>,
    /// Whether a thread was at a moment at which its Python frames do not hold together.
    unsettled: bool,
    bytes: u64,
    /// Of a target that ran while it was read.
    verdicts: Option<Verdicts>,
    /// Of which calls the stops have made EINTR the result.
    interrupted: Vec<Diagnostic>,
    diagnostics: Vec<Diagnostic>,
}

/// An empty copy with room for what is expected, and if stacks are wanted for those of threads that do not sleep.
fn expected_copy(look: &Look, stacks: bool) -> Copy {
    let is_awake = |thread: &&Thread| stacks && look.rehearsal.sleeper(thread.tid).is_none();
    let awake = look.threads.iter().filter(is_awake).count();
    Copy::expecting(look.living, &look.rehearsal.ranges, EXPECTED_STACK * awake as u64)
        .leaving_out(look.out_of_reach.clone())
}

/// What is to be read of a target.
fn ask(look: &Look) -> reading::Ask {
    reading::Ask {
        prediction: Arc::clone(&look.prediction),
        runtime: look.runtime.found.clone(),
        only: None,
        locals: look.locals.clone(),
        maps: Arc::clone(&look.maps),
        pagemap: Pagemap::of(&look.proc),
    }
}

fn take_stopped(pid: u32, look: &Look, options: &Options, steps: &Steps) -> Result<Taken, CaptureError> {
    let stop_once = || {
        steps.within(stop::longest(options.stop_limit) + STUCK);
        let taken = stop_once(pid, look, options);
        steps.within(look_limit(options));
        taken
    };
    let mut taken = stop_once()?;
    for _ in 1..STOPS {
        if !taken.unsettled || !taken.diagnostics.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN_STOPS);
        // It may exit, or get another tracer, while it runs; then the first time is as good as it gets.
        let Ok(mut again) = stop_once() else { break };
        taken.interrupted.append(&mut again.interrupted);
        if again.blocking != taken.blocking || !again.diagnostics.is_empty() {
            break;
        }
        let lost = taken.stopped.zip(again.stopped).map(|(before, now)| before + now);
        taken = Taken { stopped: lost, interrupted: taken.interrupted, ..again };
    }
    Ok(taken)
}

fn stop_once(pid: u32, look: &Look, options: &Options) -> Result<Taken, CaptureError> {
    let copy = expected_copy(look, !options.python_only);
    let task_directory = File::open(look.proc.path("task")).map_err(|error| refusal::of(pid, &error))?;
    let plan = stop::Plan {
        task_directory,
        threads: leader_first(pid, &look.threads),
        rehearsal: Arc::clone(&look.rehearsal),
        ask: ask(look),
        pagemap: Pagemap::of(&look.proc),
        pages_may_go: look.proc.may_have_userfaultfd(),
        stacks: !options.python_only,
        limit: options.stop_limit,
        copy: copy.clone(),
    };
    let stopped = match stop::stop(plan) {
        Ok(stopped) => stopped,
        // Somebody became its tracer since it was looked at.
        Err(Errno::EPERM) => match Proc::of(pid).status().map_or(0, |status| status.tracer_pid) {
            0 => return Err(refusal::of(pid, &Errno::EPERM.into())),
            tracer => return take_running(pid, look, options, Some(tracer)),
        },
        // Only starting a thread says so.
        Err(error @ Errno::EAGAIN) => {
            return Err(CaptureError::System { what: "start a thread", source: error.into() });
        }
        Err(error) => return Err(refusal::of(pid, &error.into())),
    };
    let bytes = copy.bytes();
    if (bytes == 0 || stopped.threads.is_empty()) && Proc::of(pid).stat().is_none_or(|stat| stat.is_zombie()) {
        return Err(CaptureError::Exited { pid });
    }
    let mut diagnostics = stopped.diagnostics;
    if copy.vanished() {
        let message = format!("{}: what was read by then is here, the rest is lost", CaptureError::Exited { pid });
        diagnostics.push(Diagnostic::new(Severity::LOSS, "process-exited", message));
    }
    let memory = copy.into_copied();
    let with_files = WithFiles { memory: &memory, maps: &look.maps, loaded: &look.loaded };
    let interrupted = interrupted::diagnostics(&stopped.threads, &with_files);
    Ok(Taken {
        threads: stopped.threads,
        memory,
        captured_at: stopped.captured_at,
        blocking: Blocking::STOPPED,
        stopped: Some(stopped.stopped),
        unsettled: stopped.unsettled,
        bytes,
        verdicts: None,
        interrupted,
        diagnostics,
    })
}

/// Reads the target while it runs: because that was asked for, or because another process traces it, so that it can neither
/// be stopped nor asked for registers.
fn take_running(pid: u32, look: &Look, options: &Options, tracer: Option<u32>) -> Result<Taken, CaptureError> {
    let Unstopped { threads, memory, bytes, captured_at, verdicts, diagnostics: said, part_stop } =
        unstopped::read(look, options);
    if bytes == 0 && Proc::of(pid).stat().is_none_or(|stat| stat.is_zombie()) {
        return Err(CaptureError::Exited { pid });
    }
    let mut diagnostics: Vec<Diagnostic> = tracer.map(|tracer| already_traced(pid, tracer)).into_iter().collect();
    diagnostics.extend(said);
    let stopped = part_stop.as_ref().map(|stop| stop.stopped);
    let in_stop = part_stop.as_ref().map(|stop| stop.bytes);
    diagnostics.extend(part_stop.into_iter().flat_map(|stop| stop.diagnostics));
    Ok(Taken {
        threads,
        memory,
        captured_at,
        blocking: if stopped.is_some() { Blocking::PARTLY_STOPPED } else { Blocking::NOT_STOPPED },
        stopped,
        unsettled: false,
        bytes: in_stop.unwrap_or(bytes),
        verdicts: Some(verdicts),
        interrupted: Vec::new(),
        diagnostics,
    })
}

/// What to say of pages that did not come.
fn pages_out_of_reach(pages: &[Range]) -> Option<Diagnostic> {
    let first = pages.first()?;
    let message = format!(
        "memory at {} that was wanted is not in memory and did not come within a second: a userfaultfd, FUSE or a network \
         file system has to bring it; what lies there is missing",
        first.start
    );
    Some(Diagnostic::new(Severity::LOSS, "memory-out-of-reach", message))
}

fn already_traced(pid: u32, tracer: u32) -> Diagnostic {
    // The kernel names the tracing thread.
    let tracer = Proc::of(tracer).status().map_or(tracer, |status| status.tgid);
    let name = Proc::of(tracer).name().unwrap_or_default();
    let message = format!(
        "process {pid} is traced by process {tracer} ({}), and the kernel allows one tracer only: it was read without a \
         stop, so that native frames are there of threads only that slept; end that tracer (a debugger, strace) first",
        String::from_utf8_lossy(&name)
    );
    Diagnostic::new(Severity::LOSS, "already-traced", message)
}

/// What threads wait for. What one that ran waited for at the look says nothing of the moment at which it was read.
fn waits(look: &Look, captured_at: SystemTime, verdicts: Option<&Verdicts>) -> Waits {
    let mut waits = look.waits.payload(&look.proc, captured_at);
    let ran = |tid| {
        let verdict = verdicts.and_then(|verdicts| verdicts.of_thread(tid));
        verdict.is_some_and(|verdict| verdict.reading == ThreadReading::RAN)
    };
    waits.threads.retain(|wait| !ran(wait.tid));
    waits
}

/// Threads that were born while the others were stopped have not been described yet.
fn name_newcomers(look: &Look, threads: &mut [Thread]) {
    let Ok(tasks) = Tasks::of(&look.proc, &look.status.namespace_pids) else { return };
    for thread in threads.iter_mut().filter(|thread| thread.state.is_none()) {
        let Tid(tid) = thread.tid;
        if let Some(described) = tasks.thread(tid) {
            thread.name = described.name;
            thread.namespace_tid = described.namespace_tid;
            thread.state = described.state;
        }
    }
}

/// The memory of this very process.
#[cfg(test)]
pub(crate) fn own_memory() -> memory::LiveMemory {
    let this = Proc::of(std::process::id());
    let maps = maps::parse(&this.read("maps").unwrap_or_default());
    memory::LiveMemory::of(nix::unistd::getpid(), &this, &Arc::new(maps), &pyst_elf::Reach::default())
}
