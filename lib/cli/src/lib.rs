//! The manners of a tool in a pipe, the same for all four: where input comes from and output goes, who prints a
//! diagnostic, and which exit status follows. What must hold:
//!
//! - A failing tool still writes a well-formed stream with its diagnostics, so that the last tool of the pipeline can say
//!   **once** what went wrong; see [`speaks_here`].
//! - Binary never goes to a terminal unasked. A file named by `-o` appears whole or not at all, readable by its owner only.
//! - Nothing but a line of progress is ever rewritten or erased, and only on a terminal; see [`Progress`].
//! - A closed pipe ends a tool quietly.
#![deny(missing_docs)]

mod exit;
mod input;
mod interrupt;
mod main_loop;
mod memory;
mod new_file;
mod output;
mod passage;
mod progress;
mod search;
mod snapshots;
mod speech;
mod stage;
mod standard;
mod task;
mod usage;

pub use exit::{Exit, Outcome};
pub use input::{Input, InputError};
pub use interrupt::Interrupt;
pub use main_loop::run_main;
pub use output::{Output, OutputArgs, OutputError, SnapshotOutputArgs, is_broken_pipe};
pub use progress::Progress;
pub use search::SearchArgs;
pub use snapshots::snapshots;
pub use speech::{diagnostics_of, process_of_several, say, speaks_here};
pub use stage::{StageInput, run_stage};
pub use task::{Adding, Begins, Task};
pub use usage::UsageError;

/// What every tool's `--version` prints after its name: its version, and those of what it reads and writes.
#[macro_export]
macro_rules! long_version {
    () => {
        concat!(env!("CARGO_PKG_VERSION"), "\nsnapshot format 1, report schema 1")
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_line_names_the_snapshot_format() {
        let format = format!("snapshot format {}", pyst_snapshot::FORMAT_VERSION);
        assert!(long_version!().contains(&format));
    }
}
