//! The walk: runtime, interpreters, thread states, and through `frames` what each runs.

mod keep;
mod look;

use look::phase_of;
pub(crate) use look::{active_threads, look, read_state, runtime_head};

use crate::chain::{Chain, Cycles};
use crate::doubts::doubts;
use crate::frames::{Ahead, Frames};
use crate::layout::{self, Field, Layout, Runs};
use crate::locks::{Locks, OwnWord, Runtime};
use crate::naming::{self, Names, Naming};
use crate::threads::{Claim, Runner, ThreadIndex};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::payload::{
    ActiveThreads, Diagnostic, FoundRuntime, FrameChainEnd, InterpreterV1, Python, PythonState, Severity, Thread,
};
use pyst_snapshot::{Address, Ident};
use std::collections::HashMap;

/// How many interpreters a runtime may have.
pub(crate) const INTERPRETERS: usize = 4096;

/// How many thread states the interpreters may have in all.
pub(crate) const STATES: usize = 131_072;

/// How many thread states are read before their frames are.
const STATES_AT_ONCE: usize = 256;

/// The code of the one diagnostic of a walk that could not even start.
pub(crate) const VERSION_UNKNOWN: &str = "python-version-unknown";

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Interpreters, thread states, frames.
    pub python: Python,
    /// What could not be had.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether a thread was at one of the instructions that enter or leave a function, at which its frames do not hold
    /// together. A moment later they do.
    pub unsettled: bool,
}

/// Walks the runtime: all interpreters, their thread states, and the frames of each.
///
/// `threads` tells which thread runs a state; without it the walk is the same, only no state has a `tid`. The result is a
/// function of the arguments alone. A defect costs the item that has it, and a diagnostic says so.
#[must_use]
pub fn walk(runtime: &FoundRuntime, threads: &[Thread], memory: &dyn Memory) -> Walked {
    walk_only(runtime, None, threads, memory)
}

/// The same, of no other thread states than those at these addresses, if any are given.
#[must_use]
pub fn walk_only(runtime: &FoundRuntime, only: Option<&[Address]>, threads: &[Thread], memory: &dyn Memory) -> Walked {
    let Some(layout) = layout::of_runtime(runtime, memory) else {
        let message = format!(
            "Python {}{} is not known to this version of pyst, which knows {}: use a newer one.",
            runtime.version(),
            if runtime.free_threaded { " (free-threaded)" } else { "" },
            layout::known_versions(),
        );
        let diagnostic = Diagnostic::new(Severity::LOSS, VERSION_UNKNOWN, message);
        return Walked { diagnostics: vec![diagnostic], ..Walked::default() };
    };
    let mut walked = walk_by(&layout, runtime.into(), (&runtime.active_threads, only), threads, memory);
    walked.diagnostics.extend(doubts(runtime, &layout, &walked.python, threads));
    walked
}

/// Walks a runtime by a layout.
pub(crate) fn walk_by(
    layout: &Layout,
    runtime: Runtime,
    (active_threads, only): (&[ActiveThreads], Option<&[Address]>),
    threads: &[Thread],
    memory: &dyn Memory,
) -> Walked {
    let mut walk = Walk {
        layout,
        memory,
        threads: ThreadIndex::new(threads),
        frames: Frames::new(layout, memory),
        ahead: Ahead::new(layout, memory),
        locks: Vec::new(),
        active_threads,
        only,
        names: Vec::new(),
        population: HashMap::new(),
        states: Vec::new(),
        walked: Walked::default(),
        lost: 0,
    };
    walk.runtime(runtime);
    walk.finish()
}

/// A thread state that was walked.
struct State {
    address: Address,
    /// Its place among the interpreters.
    interpreter: u32,
    ident: Ident,
    native_thread_id: Option<u64>,
    /// Whether it runs code of the just-in-time compiler.
    compiled: bool,
    word: OwnWord,
    chain: Chain,
}

struct Walk<'a> {
    layout: &'a Layout,
    memory: &'a dyn Memory,
    threads: ThreadIndex<'a>,
    frames: Frames<'a>,
    ahead: Ahead<'a>,
    /// Of each interpreter.
    locks: Vec<Locks>,
    /// Where interpreters keep their threads.
    active_threads: &'a [ActiveThreads],
    /// The states that are looked at; all of them if none are named.
    only: Option<&'a [Address]>,
    /// What each interpreter says of its threads.
    names: Vec<Names>,
    /// How many states each interpreter has.
    population: HashMap<u32, usize>,
    states: Vec<State>,
    walked: Walked,
    /// Defects that no diagnostic of their own tells of any more.
    lost: usize,
}

impl Walk<'_> {
    fn runtime(&mut self, runtime: Runtime) {
        let address = runtime.address;
        let head = match runtime_head(self.layout, address, self.memory) {
            Ok(head) => head,
            Err(error) => {
                let message = format!("The Python runtime at {address} is lost: {error}.");
                return self.say(Diagnostic::new(Severity::LOSS, "python-runtime-lost", message));
            }
        };
        self.walked.python.phase = phase_of(self.layout, &head);
        let gil = self.layout.offsets.runtime_gil.of(address);
        self.keep(gil, self.layout.offsets.gil_size.get().unwrap_or(0));
        self.interpreters(runtime, &head);
        if self.layout.offsets.interpreter_id.get().is_none() {
            // Python does not number them. The main one, the oldest, comes last.
            for (id, interpreter) in (0..).zip(self.walked.python.interpreters.iter_mut().rev()) {
                interpreter.id = id;
            }
        }
        let states = std::mem::take(&mut self.states);
        self.walked.python.states.reserve_exact(states.len());
        self.name(&states);
        for state in &states {
            let count = self.population.entry(state.interpreter).or_default();
            *count = count.saturating_add(1);
        }
        let runners = self.runners(&states);
        for (state, runner) in states.into_iter().zip(runners) {
            self.add(state, runner);
        }
    }

    /// Asks the interpreters for the names of the threads of these states.
    fn name(&mut self, states: &[State]) {
        for (index, interpreter) in (0..).zip(&self.walked.python.interpreters) {
            let address = interpreter.address;
            let names = self.active_threads.iter().find(|active| active.interpreter == address).map(|active| {
                let idents = states.iter().filter(|state| state.interpreter == index).map(|state| state.ident);
                naming::names(self.layout, address, active.dict, idents.collect(), self.memory)
            });
            self.names.push(names.unwrap_or_default());
        }
    }

    /// Which threads run these states.
    fn runners(&self, states: &[State]) -> Vec<Runner> {
        let is_main = |index: u32| {
            let interpreter = usize::try_from(index).ok().and_then(|index| self.walked.python.interpreters.get(index));
            interpreter.is_some_and(|interpreter| interpreter.id == 0)
        };
        if matches!(self.layout.semantics.runs, Runs::FrameObjects { .. }) {
            let claims = states.iter().map(|state| Claim {
                ident: state.ident,
                of_main: is_main(state.interpreter),
                frames: &state.chain.frames,
            });
            return self.threads.by_evidence(&claims.collect::<Vec<_>>(), self.memory);
        }
        let find = |state: &State| self.threads.find(state.ident, state.native_thread_id, &state.chain.runs);
        states.iter().map(|state| find(state).map_or(Runner::None, Runner::Thread)).collect()
    }

    fn interpreters(&mut self, runtime: Runtime, head: &[u8]) {
        let mut cycles = Cycles::default();
        let mut next = self.layout.offsets.runtime_interpreters_head.address(head).unwrap_or_default();
        while !next.is_null() {
            if self.walked.python.interpreters.len() >= INTERPRETERS || cycles.found_at(next) {
                let message = format!("The list of Python interpreters does not end; it is cut at {next}.");
                return self.say(Diagnostic::new(Severity::LOSS, "python-interpreters-lost", message));
            }
            next = match self.interpreter(runtime, next) {
                Ok(next) => next,
                Err(error) => {
                    let message = format!("The Python interpreter at {next} and those after it are lost: {error}.");
                    return self.say(Diagnostic::new(Severity::LOSS, "python-interpreters-lost", message));
                }
            };
        }
    }

    /// Adds an interpreter with its thread states; the next one's address.
    fn interpreter(&mut self, runtime: Runtime, address: Address) -> Result<Address, ReadError> {
        let offsets = &self.layout.offsets;
        let word = |field: Field| match field.of(address) {
            Some(place) => self.memory.read_u64(place),
            None => Ok(0),
        };
        self.keep_interpreter(address);
        let next = Address(word(offsets.interpreter_next)?);
        let id = word(offsets.interpreter_id)? as i64;
        let threads = Address(word(offsets.interpreter_threads_head)?);
        let index = u32::try_from(self.walked.python.interpreters.len()).unwrap_or(u32::MAX);
        let locks = Locks::read(self.layout, runtime, address, self.memory);
        let (gil_holder, gc_collecting, world_stopped) = (locks.holder(), locks.collecting, locks.world_stopped);
        let interpreter = InterpreterV1 { id, address, gil_holder, gc_collecting, world_stopped };
        self.walked.python.interpreters.push(interpreter);
        self.locks.push(locks);
        self.states(index, address, threads);
        Ok(next)
    }

    fn states(&mut self, interpreter: u32, address: Address, head: Address) {
        let mut cycles = Cycles::default();
        let mut next = head;
        while !next.is_null() {
            let mut met: Vec<(Address, Vec<u8>)> = Vec::new();
            let problem = loop {
                if next.is_null() || met.len() >= STATES_AT_ONCE {
                    break None;
                }
                if self.states.len() + met.len() >= STATES || cycles.found_at(next) {
                    break Some("the list does not end".to_owned());
                }
                match self.read_state_of(address, next) {
                    Ok(bytes) => {
                        let after = self.layout.offsets.thread_next.address(&bytes).unwrap_or_default();
                        met.push((std::mem::replace(&mut next, after), bytes));
                    }
                    Err(problem) => break Some(problem),
                }
            };
            met.retain(|(state, _)| self.only.is_none_or(|only| only.contains(state)));
            self.ahead.expect(met.iter().map(|(_, bytes)| bytes.as_slice()));
            for (state, bytes) in met {
                self.state(interpreter, state, &bytes);
            }
            if let Some(problem) = problem {
                let message = format!("The Python thread state at {next} and those after it are lost: {problem}.");
                return self.say(Diagnostic::new(Severity::LOSS, "python-states-lost", message));
            }
        }
    }

    /// The bytes of a thread state of the interpreter at `interpreter`.
    fn read_state_of(&self, interpreter: Address, state: Address) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        read_state(self.layout, state, self.memory, &mut bytes).map_err(|error| error.to_string())?;
        match self.layout.offsets.thread_interpreter.address(&bytes) {
            Some(its) if its == interpreter => Ok(bytes),
            _ => Err(format!("it does not belong to the interpreter at {interpreter}")),
        }
    }

    fn state(&mut self, interpreter: u32, address: Address, bytes: &[u8]) {
        let offsets = &self.layout.offsets;
        let ident = Ident(offsets.thread_ident.u64(bytes).unwrap_or_default());
        let native_thread_id = offsets.thread_native_id.u64(bytes).filter(|id| *id != 0);
        let chain = self.frames.walk(address, bytes);
        let compiled = offsets.thread_executor.address(bytes).is_some_and(|executor| !executor.is_null());
        let word = OwnWord::of_state(self.layout, bytes);
        self.states.push(State { address, interpreter, ident, native_thread_id, compiled, word, chain });
    }

    /// Adds a state to what was found, and says what could not be had of it.
    fn add(&mut self, state: State, runner: Runner) {
        let State { address, interpreter, ident, native_thread_id, compiled, word, chain } = state;
        let Chain { frames, runs, end, problem, left_out, lost_innermost, being_made, .. } = chain;
        let broken = matches!(end, FrameChainEnd::INVALID | FrameChainEnd::UNREADABLE | FrameChainEnd::LOOP);
        self.walked.unsettled |= being_made || left_out.is_some() || broken;
        let tid = match runner {
            Runner::Thread(tid) => Some(tid),
            Runner::None => None,
            Runner::Unknown(why) => {
                let message = format!(
                    "Which thread runs the Python thread state at {address} is not known, so its {} frames are shown \
                     apart from all threads: its ident {:#x} is that of the thread that made it, and {why}.",
                    frames.len(),
                    ident.0
                );
                self.say(Diagnostic::new(Severity::WARNING, "python-thread-unknown", message));
                None
            }
        };
        let on_thread = |diagnostic: Diagnostic| match tid {
            Some(tid) => diagnostic.on(tid),
            None => diagnostic,
        };
        if let Some((_, Some(problem))) = left_out.as_ref().filter(|_| lost_innermost) {
            let message = format!(
                "The Python frames of the innermost evaluation loop of the thread with ident {:#x} are missing: {problem}.",
                ident.0
            );
            self.say(on_thread(Diagnostic::new(Severity::LOSS, "python-frames-lost", message)));
        } else if let Some((count, problem)) = left_out {
            // Nothing is missing when it had none: Python would not show the frame either.
            let severity = if count == 0 { Severity::INFO } else { Severity::WARNING };
            let message = format!(
                "The thread with ident {:#x} was just entering or leaving a Python function, which is not shown{}.",
                ident.0,
                problem.map(|problem| format!(" ({problem})")).unwrap_or_default(),
            );
            self.say(on_thread(Diagnostic::new(severity, "python-function-entered", message)));
        }
        if let Some(problem) = problem {
            // A stated limit is no loss.
            let severity = if end == FrameChainEnd::FRAME_LIMIT { Severity::WARNING } else { Severity::LOSS };
            let message = format!(
                "The Python stack of the thread with ident {:#x} is cut after {} frames: {problem}.",
                ident.0,
                frames.len()
            );
            self.say(on_thread(Diagnostic::new(severity, "python-frames-lost", message)));
        }
        // Compiled code writes the instruction down only where something may ask for it; the functions are right always.
        if compiled && !frames.is_empty() {
            let message = format!(
                "The thread with ident {:#x} runs code of Python's just-in-time compiler: the line of its innermost Python \
                 frame may be one that the same function ran a moment before.",
                ident.0
            );
            self.say(on_thread(Diagnostic::new(Severity::INFO, "python-line-of-compiled-code", message)));
        }
        let index = usize::try_from(interpreter).unwrap_or(usize::MAX);
        let locks = self.locks.get(index);
        let thread = tid.and_then(|tid| self.threads.get(tid));
        let gil = locks.and_then(|locks| locks.gil_state(address, word, thread));
        let is_alone = self.population.get(&interpreter) == Some(&1);
        let addresses = frames.iter().map(|frame| frame.address);
        let gc_collecting = locks.and_then(|locks| locks.collects(addresses, is_alone));
        let attachment = word.attachment();
        let Naming { name, daemon } = self.names.get_mut(index).map(|names| names.take(ident)).unwrap_or_default();
        let state = PythonState {
            address,
            interpreter,
            ident,
            native_thread_id,
            tid,
            frames,
            runs,
            end,
            gil,
            gc_collecting,
            attachment,
            name,
            daemon,
            exception: None,
        };
        self.walked.python.states.push(state);
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        /// Nobody reads more, and a target may have a defect in each of its states.
        const DIAGNOSTICS: usize = 1000;
        if self.walked.diagnostics.len() < DIAGNOSTICS {
            self.walked.diagnostics.push(diagnostic);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn finish(mut self) -> Walked {
        let codes = std::mem::take(&mut self.frames.codes.found);
        let lost = std::mem::take(&mut self.frames.codes.lost);
        self.walked.python.codes = codes;
        for message in lost {
            self.say(Diagnostic::new(Severity::LOSS, "python-code-lost", message));
        }
        if self.lost > 0 {
            let message = format!("{} more Python items are lost.", self.lost);
            self.walked.diagnostics.push(Diagnostic::new(Severity::LOSS, "python-items-lost", message));
        }
        self.walked
    }
}

#[cfg(test)]
mod tests;
