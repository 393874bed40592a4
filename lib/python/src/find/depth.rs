//! What a runtime leads to, for candidates that nothing but their pointers speaks for: code objects with names, and
//! threads of the process.

use crate::layout::Layout;
use crate::walk;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::FrameChainEnd;

/// What a walk from a candidate met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// Frames whose code object has its names.
    pub(super) frames: usize,
    /// Interpreters.
    pub(super) interpreters: usize,
    /// Thread states whose ident is a thread's.
    pub(super) threads: usize,
    /// Chains that end where they should not, and code objects without names.
    pub(super) defects: usize,
}

impl Depth {
    /// Walks from the runtime at `runtime`.
    pub(super) fn of(layout: &Layout, runtime: Address, memory: &dyn Memory) -> Depth {
        let walked = walk::walk_by(layout, runtime, &[], memory);
        let is_whole = |end| matches!(end, FrameChainEnd::COMPLETE | FrameChainEnd::FRAME_LIMIT);
        let states = &walked.python.states;
        let cut = states.iter().filter(|state| !is_whole(state.end)).count();
        let nameless = walked.diagnostics.iter().filter(|diagnostic| diagnostic.code == "python-code-lost").count();
        Depth {
            frames: states.iter().map(|state| state.frames.len()).sum(),
            interpreters: walked.python.interpreters.len(),
            threads: states.iter().filter(|state| is_thread_pointer(Address(state.ident.0), memory)).count(),
            defects: cut.saturating_add(nameless),
        }
    }

    /// Whether this is Python beyond doubt. A thread that runs may be caught where its frames do not hold together. What
    /// is said of the version of a candidate speaks for it too; without, there must be frames to tell by.
    pub(super) fn convinces(self, is_version_known: bool) -> bool {
        let sound = self.defects <= self.frames / 4;
        self.threads > 0 && (if is_version_known { self.frames == 0 || sound } else { self.frames > 0 && sound })
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
