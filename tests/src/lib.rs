//! The harness of the scenarios in `tests/scenarios`: real interpreters, target programs, cores, the tools, and the oracles.
//!
//! What must hold here:
//!
//! - No oracle is pyst's own code: a target's account of itself (`sys._current_frames()`), faulthandler, gdb.
//! - What the machine lacks (an interpreter, gdb, root) is skipped, with a printed reason; nothing fails for it.
//! - Every child is killed and reaped, also when a test panics; every file lies outside of the source tree.
#![deny(missing_docs)]
// Test code: a panic is how it reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod children;
mod core_notes;
mod cores;
mod framehop;
mod gdb;
mod interpreters;
mod outcome;
mod program;
mod report;
mod target;
mod tools;

pub use children::{Child, Output, run, run_with_input, wait_until};
pub use core_notes::{completed_core, note_of_files, note_of_signatures};
pub use cores::{gcore, gcore_and_whether_whole, kernel_core, kernel_cores_are_files};
pub use framehop::framehop_stack;
pub use gdb::{
    GdbCall, GdbFrame, native_stacks, native_stacks_of_core, native_stacks_of_core_with, native_stacks_of_process,
};
pub use interpreters::{Interpreter, cache, expected, interpreters, missing, representatives};
pub use outcome::Scenario;
pub use program::{Program, build};
pub use report::{Frame, Report, Thread};
pub use target::{Account, AccountThread, Dump, Target};
pub use tools::{Pipeline, Tool, analyse, copy_program, grab, report_of, tool, write_program};

use std::path::PathBuf;

/// Whether this runs as root, which some scenarios need.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a program is on the PATH.
#[must_use]
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// The folder of the target programs.
#[must_use]
pub fn targets_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("targets")
}

/// The folder of the golden snapshots.
#[must_use]
pub fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The folder of the scripts that tests run.
#[must_use]
pub fn tools_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools")
}
