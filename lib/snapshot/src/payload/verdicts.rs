//! `verdicts`: of a process that was not stopped, or not wholly, whether what was read of each thread belongs together.
//!
//! A thread that runs changes its frames while they are read, so that the memory may hold a stack that it never had. Each
//! was read again; where it was the same each time, its frames are verified.

use super::first_version;
use crate::address::{Address, Tid};
use crate::code::open_enum;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Verdicts = VerdictsV1;
/// The newest version of how a thread was read.
pub type ThreadVerdict = ThreadVerdictV1;
/// The newest version of the verdict on a thread state.
pub type StateVerdict = StateVerdictV1;

open_enum!(
    /// How a thread was read.
    ThreadReading {
        /// It slept from before the first byte of it was read until after the last; its registers in `threads` are those
        /// that the kernel tells of a sleeper: stack pointer, program counter, arguments of a system call.
        SLEPT = 1, "slept";
        /// It was stopped for it.
        STOPPED = 2, "stopped";
        /// It ran, or may have: there are no registers of it.
        RAN = 3, "ran";
    }
);

/// The `verdicts` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictsV1 {
    /// Whether interpreters said the same of their locks before and after all threads were read: who has the GIL, and whether
    /// garbage is being collected.
    pub locks_verified: bool,
    /// Of threads, by ascending tid.
    pub threads: Vec<ThreadVerdictV1>,
    /// Of thread states, in the interpreters' order.
    pub states: Vec<StateVerdictV1>,
}

/// How one thread was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadVerdictV1 {
    /// The thread.
    pub tid: Tid,
    /// How it was read.
    pub reading: ThreadReading,
    /// Whether what was read of it belongs together: the verdict on all its thread states.
    pub verified: bool,
    /// How often it was tried again before that.
    pub retries: u32,
}

/// Whether what was read of one thread state belongs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVerdictV1 {
    /// Where the `PyThreadState` is.
    pub address: Address,
    /// Whether its frames are those of one moment.
    pub verified: bool,
    /// How often it was tried again before that.
    pub retries: u32,
}

impl VerdictsV1 {
    /// The verdict on the thread state at `address`.
    #[must_use]
    pub fn of_state(&self, address: Address) -> Option<&StateVerdictV1> {
        self.states.iter().find(|verdict| verdict.address == address)
    }

    /// How a thread was read.
    #[must_use]
    pub fn of_thread(&self, tid: Tid) -> Option<&ThreadVerdictV1> {
        self.threads.iter().find(|verdict| verdict.tid == tid)
    }
}

first_version!(VerdictsV1, VERDICTS);
