//! What is looked at: Python programs that wait, each in a process of its own with the probe in it.

use super::interpreters::Interpreter;
use super::probe::{Stops, parse};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A kind of process to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// Whether it needs numpy.
    pub(crate) numpy: bool,
    /// How many threads it has; each is in `sleeper`, with a local variable `label`.
    pub(crate) threads: usize,
    /// How many frames of `deep` it has.
    pub(crate) deep: usize,
    text: String,
}

/// What all of them begin with. `sleeper` is the innermost frame of every thread.
const PRELUDE: &str = "
import ctypes, sys, threading, time
sys.setrecursionlimit(1 << 30)
threading.stack_size(512 << 10)
if ctypes.CDLL(sys.argv[1]).start(int(sys.argv[2])):
    sys.exit('the probe needs a processor for itself and SCHED_FIFO, which root may use')
started = threading.Semaphore(0)
def sleeper(job, retries=3):
    label = 'job-%d' % job
    state = {'phase': 'wait', 'left': [1, 2.5, None]}
    started.release()
    if job == 0:
        print('ready', flush=True)
    time.sleep(1000000)
";

const FIVE_FRAMES: &str = "
def first(number):
    items = [number, 'one']
    second(number + 1, *items)
def second(number, *rest):
    third(number + 1, key='value')
def third(number, **named):
    sleeper(0)
first(1)
";

const THREADS: &str = "
for job in range(1, SIZE):
    threading.Thread(target=sleeper, args=(job,), daemon=True).start()
for job in range(1, SIZE):
    started.acquire()
sleeper(0)
";

const DEEP: &str = "
def deep(left, text='text'):
    pair = [left, text]
    if left == 0:
        sleeper(0)
    return deep(left - 1, text) + 1
deep(SIZE - 3)
";

/// Half of the heap is one array, half a million small objects.
const LARGE: &str = "
import numpy
def work(array, objects):
    total = array[:1000].sum()
    sleeper(0)
work(numpy.ones(1 << 27), [bytearray(1000) for _ in range(1 << 20)])
";

/// Those that the tools are measured on.
pub(crate) fn programs() -> Vec<Program> {
    let large = Program { numpy: true, ..one_thread("numpy, 2 GiB heap", LARGE) };
    vec![one_thread("1 thread, 5 frames", FIVE_FRAMES), threads(50), deep(900), large, threads(500)]
}

fn one_thread(name: &str, text: &str) -> Program {
    Program { name: name.to_owned(), numpy: false, threads: 1, deep: 0, text: format!("{PRELUDE}{text}") }
}

/// Threads that sleep.
pub(crate) fn threads(size: usize) -> Program {
    let text = THREADS.replace("SIZE", &size.to_string());
    Program { threads: size, ..one_thread(&format!("{size} threads"), &text) }
}

/// A thread that is deep in calls.
pub(crate) fn deep(size: usize) -> Program {
    let text = DEEP.replace("SIZE", &size.to_string());
    Program { deep: size - 2, ..one_thread(&format!("{size} frames deep"), &text) }
}

/// A running program; it is ended when this goes out of scope.
pub(crate) struct Target {
    child: Child,
    /// Its end would end the target: so that none is left when this process is killed.
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Target {
    /// Starts a program whose probe has a processor for itself.
    pub(crate) fn start(
        interpreter: &Interpreter,
        program: &Program,
        probe: &Path,
        processor: usize,
        scratch: &Path,
    ) -> Result<Target> {
        let file = scratch.join("target.py");
        fs::write(&file, &program.text)?;
        let mut command = Command::new(&interpreter.exe);
        command.envs(interpreter.env.iter().map(|(name, value)| (name, value)));
        command.arg(&file).arg(probe).arg(processor.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (commands, answers) = pipes.context("the target has no pipes")?;
        let mut target = Target { child, commands, answers: BufReader::new(answers) };
        ensure!(target.answer()? == "ready", "{} did not run {}", interpreter.exe.display(), program.name);
        Ok(target)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Does something, and says when it was stopped meanwhile.
    pub(crate) fn watch<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(T, Stops)> {
        self.commands.write_all(b"w")?;
        ensure!(self.answer()? == "watching", "the probe does not answer");
        let done = work();
        self.commands.write_all(b"s")?;
        let answer = self.answer()?;
        let stops = parse(&answer).with_context(|| format!("the probe said: {answer}"))?;
        Ok((done?, stops))
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the target has ended: {}", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    /// Whether it was left stopped. If so, it goes on.
    pub(crate) fn was_left_stopped(&self) -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        let is_stopped = state == Some("T");
        if is_stopped {
            let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT)?;
        }
        Ok(is_stopped)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
