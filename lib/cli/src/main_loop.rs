//! What every `main` does around its tool's `run`.

use crate::exit::Exit;
use crate::input::InputError;
use crate::memory;
use crate::output::{OutputError, is_broken_pipe};
use crate::standard;
use crate::usage::UsageError;
use std::io::{Write, stderr};
use std::process::ExitCode;

/// Turns the result of a tool's `run` into an exit status, and prints the error that ended it, if any.
pub fn run_main(tool: &str, run: impl FnOnce() -> anyhow::Result<Exit>) -> ExitCode {
    memory::grow_by_large_steps();
    let result = run();
    // What is left is to give memory back. The next tool, which has all when standard output is closed, goes first: it may be
    // waiting for this processor.
    standard::close_output();
    std::thread::yield_now();
    match result {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Complete.into(),
        Err(error) => {
            let usage = error.is::<UsageError>()
                || matches!(error.downcast_ref(), Some(InputError::Terminal))
                || matches!(error.downcast_ref(), Some(OutputError::Terminal));
            let _ = writeln!(stderr(), "{tool}: {error:#}");
            if usage { Exit::Usage.into() } else { Exit::Failed.into() }
        }
    }
}
