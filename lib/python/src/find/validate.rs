//! Whether a runtime is at an address, by a layout: its pointers must lead back to where they started.

use crate::layout::Layout;
use crate::walk;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::RuntimePhase;

/// What a candidate looks like; the later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// No runtime of this layout.
    Invalid,
    /// There is no layout to tell by.
    Unknown,
    /// It has no interpreter: not started, or a copy of the library that nobody uses.
    Empty,
    /// It has interpreters, but what should be a thread state is none: a thread may have started or ended just then.
    Torn,
    /// It has interpreters, and no thread state.
    Idle,
    /// It has thread states.
    Runs,
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Verdict::Invalid => "which its memory does not look like",
            Verdict::Unknown => "of which no layout is known here",
            Verdict::Empty => "without an interpreter",
            Verdict::Torn => "with a thread state that does not hold together",
            Verdict::Idle => "without a thread state",
            Verdict::Runs => "with thread states",
        }
    }
}

/// How many interpreters are looked at.
const LOOKED_AT: usize = 64;

/// Judges the runtime at `runtime` by `layout`.
pub(crate) fn validate(layout: &Layout, runtime: Address, memory: &dyn Memory) -> Verdict {
    judge(layout, runtime, memory).unwrap_or(Verdict::Invalid)
}

fn judge(layout: &Layout, runtime: Address, memory: &dyn Memory) -> Option<Verdict> {
    let offsets = &layout.offsets;
    let look = walk::look(layout, runtime, memory).ok()?;
    if look.flags.iter().any(|flag| *flag > 1) {
        return None;
    }
    if look.first.is_null() || look.main.is_some_and(Address::is_null) {
        // While it starts there is none yet; later there always is.
        return (look.phase != RuntimePhase::RUNNING).then_some(Verdict::Empty);
    }
    let (mut runs, mut torn) = (false, false);
    let mut met_main = look.main.is_none();
    let mut interpreter = look.first;
    for _ in 0..LOOKED_AT {
        if interpreter.is_null() {
            break;
        }
        met_main |= Some(interpreter) == look.main;
        let thread = memory.read_address(offsets.interpreter_threads_head.of(interpreter)?).ok()?;
        if !thread.is_null() {
            let field = offsets.thread_interpreter.of(thread);
            let back = field.and_then(|field| memory.read_address(field).ok());
            *(if back == Some(interpreter) { &mut runs } else { &mut torn }) = true;
        }
        interpreter = memory.read_address(offsets.interpreter_next.of(interpreter)?).ok()?;
    }
    let verdict = match (torn, runs) {
        (true, _) => Verdict::Torn,
        (_, true) => Verdict::Runs,
        _ => Verdict::Idle,
    };
    (met_main || !interpreter.is_null()).then_some(verdict)
}
