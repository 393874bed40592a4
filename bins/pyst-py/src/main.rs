//! `pyst-py`: see the library part of this crate.

use clap::Parser;
use pyst_py::{Args, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    pyst_cli::run_main("pyst-py", || run(&Args::parse()))
}
