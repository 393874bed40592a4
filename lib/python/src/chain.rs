//! A chain of frames as it is put together, why it may end early, and whether it can be what it seems.

use crate::code::CodeError;
use pyst_memory::ReadError;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{AnchorKind, FrameChainEnd, PythonFrame, PythonRun};
use std::collections::HashSet;

/// The frames of a thread.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Innermost first.
    pub(crate) frames: Vec<PythonFrame>,
    /// How they fall into runs.
    pub(crate) runs: Vec<PythonRun>,
    /// Why the chain ends.
    pub(crate) end: FrameChainEnd,
    /// What went wrong, in words.
    pub(crate) problem: Option<String>,
    /// The innermost loop's frames were none: how many it seemed to have, and what was wrong with them.
    pub(crate) left_out: Option<(usize, Option<String>)>,
    /// The innermost loop had frames, and nothing leads to them.
    pub(crate) lost_innermost: bool,
    /// Whether the innermost frame was just being made: its link to the next may not have been written yet.
    pub(crate) being_made: bool,
    /// How many of the frames are in a run.
    assigned: usize,
    /// Whether it led to the frame that the second loop is in.
    pub(crate) met_outer: bool,
    /// Whether no loop has to be outside.
    of_root: bool,
}

/// Why a chain ends before its outermost frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("what the frame at {frame} should run is none: {error}")]
    Code { frame: Address, error: CodeError },
    #[error("there is no frame at {0}")]
    NoFrame(Address),
    #[error("the frame at {0} comes twice")]
    Loop(Address),
    #[error("it has more than {0} frames")]
    TooMany(usize),
    #[error("it was just entering a Python function, and nothing leads to its frames at that moment")]
    Entering,
    #[error("the frame at {0} was just being entered or left, and did not lead to its caller at that moment")]
    Cut(Address),
    #[error(
        "an exception was thrown through the generator or coroutine at {0}, and Python 3.9 does not say what called it \
         until that has been dealt with"
    )]
    Unlinked(Address),
}

/// A native evaluation loop.
pub(crate) struct Loop {
    /// Its `_PyCFrame`; none for the root, which stands for no loop.
    pub(crate) anchor: Option<Address>,
    /// The innermost frame it runs; null for the root.
    pub(crate) innermost: Address,
}

impl Chain {
    /// An empty chain of the innermost loop, or of none.
    pub(crate) fn new(of_root: bool) -> Chain {
        Chain { of_root, ..Chain::default() }
    }

    /// Whether the chain can't be that of a loop inside `outer`: it would lead to the frame that `outer` is in. A loop
    /// that is just being entered does not know its frame or even `outer` yet, and has what was on the stack before.
    pub(crate) fn contradicts(&self, result: &Result<(), ChainError>, outer: Option<&Loop>) -> bool {
        if self.of_root {
            return false;
        }
        let Some(outer) = outer else { return true };
        let leads_there = self.met_outer || (result.is_ok() && outer.innermost.is_null());
        let lost_on_the_way = match result {
            Err(ChainError::Read(_) | ChainError::Code { error: CodeError::Read(_), .. }) => !self.frames.is_empty(),
            Err(ChainError::TooMany(_)) => true,
            _ => false,
        };
        !leads_there && !lost_on_the_way
    }

    /// How many frames are in no run yet.
    pub(crate) fn unassigned(&self) -> usize {
        self.frames.len().saturating_sub(self.assigned)
    }

    pub(crate) fn close_run(&mut self, anchor: Option<Address>, anchor_kind: AnchorKind) {
        let frames = u32::try_from(self.unassigned()).unwrap_or(u32::MAX);
        self.runs.push(PythonRun { frames, anchor, anchor_kind });
        self.assigned = self.frames.len();
    }

    /// Cuts the chain before the first frame that came twice.
    pub(crate) fn forget_repetition(&mut self) {
        let mut seen = HashSet::new();
        let unique = self.frames.iter().take_while(|frame| seen.insert(frame.address)).count();
        self.frames.truncate(unique);
        let mut assigned: usize = 0;
        let whole = self.runs.iter().take_while(|run| {
            let end = assigned.saturating_add(run.frames as usize);
            let whole = end <= unique;
            assigned = if whole { end } else { assigned };
            whole
        });
        let whole = whole.count();
        self.runs.truncate(whole);
        self.assigned = assigned;
    }
}

/// Finds that a chain goes in circles, in constant memory: a later node is compared with one that is left behind ever
/// more rarely (Brent's algorithm).
#[derive(Default)]
pub(crate) struct Cycles {
    left_behind: Address,
    steps: usize,
    next: usize,
}

impl Cycles {
    /// Whether the chain is known to go in circles now that it is at `address`; a null address ends chains.
    pub(crate) fn found_at(&mut self, address: Address) -> bool {
        if self.steps > 0 && address == self.left_behind {
            return true;
        }
        if self.steps >= self.next {
            self.left_behind = address;
            self.next = (self.steps + 1) * 2;
        }
        self.steps += 1;
        false
    }
}
