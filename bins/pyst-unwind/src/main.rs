//! `pyst-unwind`: see the library part of this crate.

use clap::Parser;
use pyst_unwind::{Args, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    pyst_cli::run_main("pyst-unwind", || run(&Args::parse()))
}
