//! Names of functions.

use super::cases::{CASE, Case};
use super::check;
use super::stacks::{folder, lacks};
use anyhow::Context;
use pyst_tests::{Program, Scenario, build, run};
use std::process::Command;

#[test]
fn a_stripped_program_is_named_by_its_packed_symbols() {
    let scenario = Scenario::new(".gnu_debugdata");
    if lacks(&scenario, &["gcc", "objcopy", "xz"]) {
        return;
    }
    scenario.on("plain.c", || {
        let folder = folder()?;
        let program = build("gcc", "plain.c", &["-O2"], folder.path())?;
        let commands: [&[&str]; 3] = [
            &[
                "objcopy",
                "-S",
                "--keep-symbol=main",
                "--keep-symbol=middle",
                "--keep-symbol=innermost",
                "plain",
                "mini",
            ],
            &["xz", "mini"],
            &["objcopy", "-S", "--add-section", ".gnu_debugdata=mini.xz", "plain"],
        ];
        for command in commands {
            run(Command::new(command[0]).args(&command[1..]).current_dir(folder.path()))?.expect_status(0)?;
        }
        let program = Program::start(&mut Command::new(program), folder)?.context("it ended")?;
        // `outer` is exported by nobody, and not among what was kept.
        check(&program, &Case { functions: &["main", "middle", "innermost"], ..CASE }).map(drop)
    });
    scenario.finish();
}
