//! `pyst-fmt`: see the library part of this crate.

use clap::Parser;
use pyst_fmt::{Args, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    pyst_cli::run_main("pyst-fmt", || run(&Args::parse()))
}
