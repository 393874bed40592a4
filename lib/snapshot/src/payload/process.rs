//! `process`: who the target is, and for a core file how it ended.

use super::first_version;
use crate::address::{Address, Tid};
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Process = ProcessV1;
/// The newest version of a signal.
pub type Signal = SignalV1;

/// The `process` payload, version 1. Numbers a core file or `/proc` does not give are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessV1 {
    /// Its id on the host that captured; in a core file, as the note gives it.
    pub pid: u32,
    /// Its ids in nested pid namespaces, outermost first, the host's own left out (`NSpid`).
    pub namespace_pids: Vec<u32>,
    /// The parent's pid.
    pub ppid: Option<u32>,
    /// The process group.
    pub pgrp: Option<u32>,
    /// The session.
    pub sid: Option<u32>,
    /// The real user id.
    pub uid: Option<u32>,
    /// The real group id.
    pub gid: Option<u32>,
    /// The state letter (`pr_sname`, or `/proc/PID/stat`).
    pub state: Option<u8>,
    /// `pr_zomb` of a core file; for a living process, whether its leader has exited.
    pub zombie: Option<bool>,
    /// The nice value.
    pub nice: Option<i32>,
    /// `comm` or `pr_fname`: at most 15 bytes.
    pub name: Bytes,
    /// The path of the executable: `/proc/PID/exe`, or the one that was found for a core file.
    pub exe: Option<Bytes>,
    /// How `exe` was found for a core file, in words that end "Using executable found …"; empty for a living process.
    pub exe_found: String,
    /// The arguments, one by one, from `/proc/PID/cmdline`. For a core file the one string `pr_psargs`.
    pub cmdline: Vec<Bytes>,
    /// The working directory.
    pub cwd: Option<Bytes>,
    /// When it started: nanoseconds since 1970-01-01 UTC, to a clock tick.
    pub started_at_ns: Option<i64>,
    /// What ended the process of a core file; absent when the core was taken on demand, or the process lives.
    pub signal: Option<SignalV1>,
}

/// The signal that ended a process, from `NT_SIGINFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalV1 {
    /// `si_signo`.
    pub number: i32,
    /// `si_code`.
    pub code: i32,
    /// The thread that took it.
    pub tid: Tid,
    /// `si_pid`, when another process (or this one) sent it.
    pub sender_pid: Option<u32>,
    /// `si_uid` of the sender.
    pub sender_uid: Option<u32>,
    /// `si_addr` of a fault (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP).
    pub fault_address: Option<Address>,
}

first_version!(ProcessV1, PROCESS);
