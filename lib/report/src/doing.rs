//! What threads do with the GIL, and which of them collects garbage: what the interpreter's structures say, and where they
//! do not, the interpreter's own functions on the native stacks.

use crate::frames::Names;
use crate::internal::Doing;
use crate::threads::Problem;
use pyst_snapshot::payload::{GilState, PackedStack, Python, PythonState};
use std::collections::{BTreeMap, BTreeSet};

/// By the address of a state, which no two have in common.
#[derive(Debug, Default)]
pub(crate) struct Doings {
    gil: BTreeMap<u64, GilState>,
    collectors: BTreeSet<u64>,
    /// The interpreters whose collecting thread is known.
    settled: BTreeSet<u32>,
}

impl Doings {
    /// Adds what the native stack of a thread says of its states, innermost first.
    pub(crate) fn add(&mut self, native: Option<&PackedStack>, states: &[&PythonState], names: &Names) {
        let frames = native.map_or(&[][..], |stack| &stack.frames);
        let doing: Vec<Doing> = frames.iter().flat_map(|frame| names.doing(frame)).collect();
        let Some(innermost) = states.first() else { return };
        let takes_lock = |frame| names.doing(frame).any(|doing| doing == Doing::TakingLock);
        let mut neighbours = frames.iter().zip(frames.iter().skip(1));
        let loop_takes_lock = neighbours.any(|(inner, outer)| takes_lock(inner) && names.is_loop(outer));
        let gil = match () {
            () if loop_takes_lock || doing.contains(&Doing::TakingGil) => Some(GilState::WAITING),
            () if doing.contains(&Doing::DroppingGil) => Some(GilState::DROPPING),
            () => None,
        };
        self.gil.extend(gil.map(|gil| (innermost.address.0, gil)));
        for state in states {
            let by_function = state.gc_collecting.is_none() && doing.contains(&Doing::Collecting);
            if by_function || state.gc_collecting == Some(true) {
                self.collectors.insert(state.address.0);
                self.settled.insert(state.interpreter);
            }
        }
    }

    /// What a state does with the GIL.
    pub(crate) fn gil(&self, state: &PythonState) -> Option<GilState> {
        match state.gil {
            Some(GilState::NONE) | None => self.gil.get(&state.address.0).copied().or(state.gil),
            known => known,
        }
    }

    /// Whether it collects garbage. `collecting` tells whether its interpreter does.
    pub(crate) fn collects(&self, state: &PythonState, collecting: Option<bool>) -> Option<bool> {
        match (state.gc_collecting, collecting) {
            (Some(collects), _) => Some(collects),
            (None, Some(true)) if self.collectors.contains(&state.address.0) => Some(true),
            (None, Some(true)) => self.settled.contains(&state.interpreter).then_some(false),
            (None, _) => None,
        }
    }

    /// A diagnostic for each interpreter in which one of several threads collects garbage, and nothing tells which.
    pub(crate) fn collectors_unknown(&self, python: &Python) -> Vec<Problem> {
        let unknown = python.states.iter().filter(|state| state.gc_collecting.is_none());
        let unknown: BTreeSet<u32> = unknown.map(|state| state.interpreter).collect();
        let collecting = (0..).zip(&python.interpreters).filter(|(_, i)| i.gc_collecting == Some(true));
        let open = collecting.filter(|(index, _)| unknown.contains(index) && !self.settled.contains(index));
        open.map(|(_, interpreter)| {
            let message = format!(
                "garbage is being collected in interpreter {}; which of its threads does that is not known, for the \
                 interpreter's own native functions have no names here",
                interpreter.id
            );
            (None, "gc-thread-unknown", message)
        })
        .collect()
    }
}
