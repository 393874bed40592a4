//! What a runtime leads to, for candidates that nothing but their pointers speaks for: code objects with names, and
//! threads of the process.

use crate::layout::Layout;
use crate::locks::Runtime;
use crate::object;
use crate::walk;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::FrameChainEnd;

/// How far into an object its type is named, at most.
const OBJECT_HEADER: u64 = 48;

/// What a walk from a candidate met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// Frames whose code object has its names.
    pub(super) frames: usize,
    /// Interpreters.
    pub(super) interpreters: usize,
    /// Thread states whose ident is a thread's.
    pub(super) threads: usize,
    /// Chains that end where they should not, code objects without names, and objects that are no code.
    pub(super) defects: usize,
}

impl Depth {
    /// Walks from the runtime at `runtime`.
    pub(super) fn of(layout: &Layout, runtime: Address, memory: &dyn Memory) -> Depth {
        let walked = walk::walk_by(layout, Runtime { address: runtime, current_state: None }, (&[], None), &[], memory);
        let is_whole = |end| matches!(end, FrameChainEnd::COMPLETE | FrameChainEnd::FRAME_LIMIT);
        let states = &walked.python.states;
        let cut = states.iter().filter(|state| !is_whole(state.end)).count();
        let is_code = |address: Address| {
            let header = memory.read_bytes(address, OBJECT_HEADER, OBJECT_HEADER).unwrap_or_default();
            object::may_be(&layout.offsets, &header, "code", memory)
        };
        let other_types = walked.python.codes.iter().filter(|code| !is_code(code.address)).count();
        let nameless = walked.diagnostics.iter().filter(|diagnostic| diagnostic.code == "python-code-lost").count();
        Depth {
            frames: states.iter().map(|state| state.frames.len()).sum(),
            interpreters: walked.python.interpreters.len(),
            threads: states.iter().filter(|state| is_thread_pointer(Address(state.ident.0), memory)).count(),
            defects: cut.saturating_add(nameless).saturating_add(other_types),
        }
    }

    /// Whether this is Python beyond doubt. One of several threads may be caught where its frames do not hold together.
    /// Where no thread has a frame, there is nothing to tell by, and something else must have told the version.
    pub(super) fn convinces(self, is_version_known: bool) -> bool {
        let sound =
            if self.frames == 0 { is_version_known && self.defects == 0 } else { self.defects <= self.frames / 4 };
        self.threads > 0 && sound
    }

    /// Of two that convince the better one.
    pub(super) fn rank(self) -> impl Ord {
        (std::cmp::Reverse(self.defects), self.interpreters, self.threads, self.frames)
    }
}

/// `pthread_self()` is where a thread's own block is, which starts with its own address: on x86-64 in glibc and musl.
pub(super) fn is_thread_pointer(address: Address, memory: &dyn Memory) -> bool {
    !address.is_null() && memory.read_address(address) == Ok(address)
}
