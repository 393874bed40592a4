//! `pyst-grab`: see the library part of this crate.

use clap::Parser;
use pyst_grab::{Args, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    pyst_cli::run_main("pyst-grab", || run(&Args::parse()))
}
