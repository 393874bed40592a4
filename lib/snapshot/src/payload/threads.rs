//! `threads`: the threads of the process, as the kernel sees them.

use super::first_version;
use crate::address::{Address, Range, Tid};
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Threads = ThreadsV1;
/// The newest version of one thread.
pub type Thread = ThreadV1;
/// The newest version of a thread's registers.
pub type Registers = RegistersV1;
/// The newest version of one register.
pub type Register = RegisterV1;
/// The newest version of a thread's stack.
pub type Stack = StackV1;

/// The `threads` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadsV1 {
    /// By ascending tid.
    pub threads: Vec<ThreadV1>,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadV1 {
    /// Its id on the host that captured.
    pub tid: Tid,
    /// Its id in its own, innermost pid namespace (`NSpid`), where known.
    pub namespace_tid: Option<u32>,
    /// `/proc/T/comm`; a core file has none.
    pub name: Option<Bytes>,
    /// The state letter of `/proc/T/stat` before the stop: `S`, `R`, `D`, …
    pub state: Option<u8>,
    /// Whether this thread took the signal that ended the process.
    pub crashed: bool,
    /// Its registers; absent when they could not be had (a diagnostic says why) or were not asked for.
    pub registers: Option<RegistersV1>,
    /// The part of its stack that was available to the walk; absent as the registers are.
    pub stack: Option<StackV1>,
}

/// The registers of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistersV1 {
    /// By ascending DWARF register number of the architecture's psABI; on x86_64 7 is rsp and 16 is rip.
    pub values: Vec<RegisterV1>,
    /// fs_base, TPIDR_EL0.
    pub thread_pointer: Option<Address>,
    /// The number of the system call the thread is in (orig_rax); absent outside of one.
    pub system_call: Option<u64>,
}

/// One register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterV1 {
    /// Its DWARF number.
    pub number: u16,
    /// What it holds.
    pub value: u64,
}

/// A thread's stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackV1 {
    /// The mapping that sp lies in.
    pub mapping: Range,
    /// What was read of it; `memory` holds at least what lies below the highest CFA of it.
    pub read: Range,
    /// Whether `read` ends at a stated cap and not at the end of the mapping.
    pub truncated: bool,
}

impl RegistersV1 {
    /// The value of the register with this DWARF number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<u64> {
        self.values.iter().find(|register| register.number == number).map(|register| register.value)
    }
}

first_version!(ThreadsV1, THREADS);
