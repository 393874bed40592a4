//! Thread states one by one: for a process that runs on while it is read, of which each thread is read apart from the
//! others, and again, to know whether what was read of it belongs together.
//!
//! What must hold: the memory that a thread itself changes when it calls or returns (its state, its frames, what links
//! them) is read through another [`Memory`] than what threads have in common (code, names, types), so that a recorder under
//! the first knows what to compare.

use crate::chain::{Chain, Cycles};
use crate::frames::Frames;
use crate::layout::{self, Field, Layout};
use crate::walk::{INTERPRETERS, STATES, read_state, runtime_head};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{FoundRuntime, FrameChainEnd, PythonCode, PythonState};
use pyst_snapshot::{Address, Ident, Range};
use std::collections::BTreeSet;

/// The thread states of a runtime.
#[derive(Debug)]
pub struct States {
    layout: Layout,
    runtime: Address,
}

/// One thread state by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alone {
    /// The state, without what others know of it: its thread, the GIL, its name, its exception.
    pub state: PythonState,
    /// The code objects that its frames name by index.
    pub codes: Vec<PythonCode>,
    /// Whether its frames hold together: it was not just entering or leaving a function.
    pub settled: bool,
}

impl States {
    /// Those of a runtime that was found; `None` where this version does not know its layout.
    #[must_use]
    pub fn of(found: &FoundRuntime, memory: &dyn Memory) -> Option<States> {
        Some(States { layout: layout::of_runtime(found, memory)?, runtime: found.address })
    }

    /// Where they are, in the interpreters' order. What cannot be read ends the list.
    #[must_use]
    pub fn addresses(&self, memory: &dyn Memory) -> Vec<Address> {
        let mut found = Vec::new();
        for interpreter in self.interpreters(memory) {
            self.list(word(self.layout.offsets.interpreter_threads_head, interpreter, memory), memory, &mut found);
        }
        found
    }

    /// Where it is written down that they are these: what leads from one to the next, and all of those that are not `known`.
    #[must_use]
    pub fn list_of(&self, states: &[Address], known: &BTreeSet<Address>, memory: &dyn Memory) -> Vec<Range> {
        let head = |interpreter| Range::sized(self.layout.offsets.interpreter_threads_head.of(interpreter)?, 8);
        let mut ranges: Vec<Range> = self.interpreters(memory).into_iter().filter_map(head).collect();
        let mut bytes = Vec::new();
        ranges.extend(states.iter().filter_map(|state| match known.contains(state) {
            true => self.links(*state),
            false => {
                read_state(&self.layout, *state, memory, &mut bytes).ok()?;
                Range::sized(*state, u64::try_from(bytes.len()).ok()?)
            }
        }));
        ranges
    }

    fn interpreters(&self, memory: &dyn Memory) -> Vec<Address> {
        let offsets = &self.layout.offsets;
        let mut found = Vec::new();
        let Ok(head) = runtime_head(&self.layout, self.runtime, memory) else { return found };
        let mut cycles = Cycles::default();
        let mut interpreter = offsets.runtime_interpreters_head.address(&head).unwrap_or_default();
        while found.len() < INTERPRETERS && !interpreter.is_null() && !cycles.found_at(interpreter) {
            found.push(interpreter);
            interpreter = word(offsets.interpreter_next, interpreter, memory);
        }
        found
    }

    /// Adds the states of one interpreter.
    fn list(&self, first: Address, memory: &dyn Memory, found: &mut Vec<Address>) {
        let mut cycles = Cycles::default();
        let mut state = first;
        while !state.is_null() && found.len() < STATES && !cycles.found_at(state) {
            found.push(state);
            state = word(self.layout.offsets.thread_next, state, memory);
        }
    }

    /// Where the state at `address` names its neighbours in the list: not the thread that runs it, but others write there.
    #[must_use]
    pub fn links(&self, address: Address) -> Option<Range> {
        // `prev` comes before it, where there is one.
        let next = self.layout.offsets.thread_next.of(address)?;
        let start = Address(next.0.saturating_sub(8)).max(address);
        Some(Range { start, end: next.checked_add(8)? })
    }

    /// The state at `address`, with its frames; `None` where it cannot be read. What the thread itself changes is read from
    /// `own`, and what it has in common with others from `shared`.
    #[must_use]
    pub fn alone(&self, address: Address, own: &dyn Memory, shared: &dyn Memory) -> Option<Alone> {
        let mut bytes = Vec::new();
        read_state(&self.layout, address, own, &mut bytes).ok()?;
        let offsets = &self.layout.offsets;
        let mut frames = Frames::apart(&self.layout, own, shared);
        let Chain { frames: found, runs, end, left_out, being_made, .. } = frames.walk(address, &bytes);
        let broken = matches!(end, FrameChainEnd::INVALID | FrameChainEnd::UNREADABLE | FrameChainEnd::LOOP);
        Some(Alone {
            settled: !being_made && left_out.is_none() && !broken && frames.codes.lost.is_empty(),
            codes: std::mem::take(&mut frames.codes.found),
            state: PythonState {
                address,
                ident: Ident(offsets.thread_ident.u64(&bytes).unwrap_or_default()),
                native_thread_id: offsets.thread_native_id.u64(&bytes).filter(|id| *id != 0),
                frames: found,
                runs,
                end,
                ..PythonState::default()
            },
        })
    }
}

fn word(field: Field, base: Address, memory: &dyn Memory) -> Address {
    field.of(base).and_then(|place| memory.read_address(place).ok()).unwrap_or_default()
}
