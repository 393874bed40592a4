//! Stopping threads and letting them go: what a tracer does.

use super::LIVE_ARCH;
use crate::registers::layout;
use crate::sys::{self, Report};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;
use pyst_snapshot::Tid;
use pyst_snapshot::payload::{Registers, Thread};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often threads are asked whether they have stopped when nothing says so.
const REPORT_INTERVAL: Duration = Duration::from_millis(1);

/// How often a thread is asked at once before waiting for word of it. Most stop within microseconds, and a processor that
/// fell idle meanwhile takes tens of them to come back; giving way in between lets the thread have this one.
const EAGER_POLLS: usize = 100;

/// The most threads that are traced.
const MAX_THREADS: usize = 65_536;

/// Threads that may be born while the others are being stopped, for which room is made before.
const NEWBORN: usize = 64;

/// The threads in the tracer's hands.
pub(super) struct Tracer {
    task_directory: File,
    threads: Vec<Traced>,
    /// For reading the directory, and the ids known so far: made before the stop.
    buffer: Vec<u8>,
    known: Vec<u32>,
}

/// One thread in the tracer's hands.
pub(super) struct Traced {
    tid: Pid,
    pub(super) thread: Thread,
    pub(super) state: State,
    /// Room for its registers, made before the stop.
    room: Registers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Seized,
    Interrupted,
    /// With the signal to hand on, or 0.
    Stopped(i32),
    Late,
    Gone,
}

impl Traced {
    /// The thread's id.
    pub(super) fn tid(&self) -> Tid {
        Tid(self.tid.as_raw().cast_unsigned())
    }
}

impl Tracer {
    /// Becomes the tracer of these threads, which run on. A thread that has exited meanwhile is left out.
    pub(super) fn of(task_directory: File, threads: Vec<Thread>) -> Result<Tracer, Errno> {
        let mut tracer = Tracer {
            task_directory,
            buffer: vec![0; 32 << 10],
            known: Vec::with_capacity(threads.len() + NEWBORN),
            threads: Vec::with_capacity(threads.len() + NEWBORN),
        };
        for thread in threads {
            tracer.seize(thread)?;
        }
        Ok(tracer)
    }

    /// The threads, in the order in which they were seized.
    pub(super) fn threads(&self) -> &[Traced] {
        &self.threads
    }

    fn seize(&mut self, thread: Thread) -> Result<(), Errno> {
        let tid = Pid::from_raw(thread.tid.0.cast_signed());
        let state = match ptrace::seize(tid, ptrace::Options::empty()) {
            Ok(()) => State::Seized,
            Err(Errno::ESRCH) => return Ok(()),
            // A leader that has exited before its other threads can no more be seized.
            Err(Errno::EPERM) if matches!(thread.state, Some(b'Z' | b'X')) => State::Gone,
            Err(Errno::EPERM) if !self.threads.is_empty() => State::Gone,
            Err(error) => return Err(error),
        };
        let mut room = Registers::default();
        room.values.reserve_exact(layout(LIVE_ARCH).words);
        self.threads.push(Traced { tid, thread, state, room });
        Ok(())
    }

    /// Stops all threads, and if they are `wanted` those too that are born while the others are being stopped.
    pub(super) fn stop_all(&mut self, deadline: Instant, wanted: bool) {
        loop {
            for thread in self.threads.iter_mut().filter(|thread| thread.state == State::Seized) {
                thread.state = match ptrace::interrupt(thread.tid) {
                    Ok(()) => State::Interrupted,
                    Err(_) => State::Gone,
                };
            }
            for thread in self.threads.iter_mut().filter(|thread| thread.state == State::Interrupted) {
                thread.state = wait(thread.tid, deadline);
            }
            if !wanted {
                return;
            }
            let so_far = self.threads.len();
            let listed = self.seize_newborn();
            if self.threads.len() == so_far || listed.is_err() || Instant::now() >= deadline {
                return;
            }
        }
    }

    fn seize_newborn(&mut self) -> Result<(), Errno> {
        let Tracer { task_directory, threads, buffer, known } = self;
        known.clear();
        known.extend(threads.iter().map(|thread| thread.thread.tid.0));
        known.sort_unstable();
        let mut born = Vec::new();
        let listed = sys::numeric_entries(task_directory.as_fd(), buffer, |tid| {
            if known.binary_search(&tid).is_err() && known.len() + born.len() < MAX_THREADS {
                born.push(tid);
            }
        });
        for tid in born {
            let _ = self.seize(Thread { tid: Tid(tid), ..Thread::default() });
        }
        listed
    }

    /// Reads the registers of those that have stopped.
    pub(super) fn read_registers(&mut self) {
        for thread in self.threads.iter_mut().filter(|thread| matches!(thread.state, State::Stopped(_))) {
            // A shorter set is a 32-bit thread's, whose words mean something else.
            match sys::general_registers(thread.tid) {
                Ok((words, length)) if length == layout(LIVE_ARCH).words * 8 => {
                    let mut registers = std::mem::take(&mut thread.room);
                    layout(LIVE_ARCH).fill(&mut registers, &words);
                    thread.thread.registers = Some(registers);
                }
                Ok(_) => {}
                Err(_) => thread.state = State::Gone,
            }
        }
    }

    /// The threads that are there, by ascending tid.
    pub(super) fn take_threads(&mut self) -> Vec<Thread> {
        let is_there = |traced: &&mut Traced| traced.state != State::Gone || traced.thread.state == Some(b'Z');
        // What is left behind tells what to say of those that did not stop.
        let take = |traced: &mut Traced| {
            let (tid, state) = (traced.thread.tid, traced.thread.state);
            std::mem::replace(&mut traced.thread, Thread { tid, state, ..Thread::default() })
        };
        let mut threads: Vec<Thread> = self.threads.iter_mut().filter(is_there).map(take).collect();
        if !threads.is_sorted_by_key(|thread| thread.tid) {
            threads.sort_unstable_by_key(|thread| thread.tid);
        }
        threads
    }

    /// Lets every thread go. Those that never stopped cannot be told to; the end of this thread frees them.
    pub(super) fn let_go(&self) {
        for thread in &self.threads {
            match thread.state {
                State::Stopped(signal) => {
                    let _ = sys::detach(thread.tid, signal);
                }
                State::Seized | State::Interrupted | State::Late => {
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
