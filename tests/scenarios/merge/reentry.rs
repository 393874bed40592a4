//! C code that calls back into Python in every way that could be thought of, each inside of the one before: callbacks of foreign
//! functions, slots, generators, destructors, collections, signals, imports, tracing. In an order by chance, on three threads.

use super::oracle::check_threads;
use super::{cores, lossy_report};
use crate::random::seed;
use anyhow::{Result, ensure};
use pyst_tests::{Interpreter, Scenario, Target, has_program, interpreters, native_stacks, report_of};

#[test]
fn every_way_back_into_python() {
    let scenario = Scenario::new("merge: every way back");
    if !has_program("gdb") || !has_program("readelf") {
        scenario.skip("all", "gdb or binutils is not installed");
        return;
    }
    let seed = (seed() % 1_000_000).to_string();
    for interpreter in interpreters() {
        scenario.on(&interpreter.name, || check(interpreter, &seed));
    }
    scenario.finish();
}

fn check(interpreter: &Interpreter, seed: &str) -> Result<()> {
    // The compiled code of 3.14 ends the native stack; what comes of that is another scenario's.
    if interpreter.jit && interpreter.version == (3, 14) {
        return Ok(());
    }
    // Exceptions are thrown through generators: 3.9 loses what called these, and 3.10 has no loop for them.
    let arguments: &[&str] = if matches!(interpreter.version, (3, 9 | 10)) { &[seed, "no-throwing"] } else { &[seed] };
    let mut target = Target::start(interpreter, "reentry.py", arguments)?;
    let report = if interpreter.jit { lossy_report(&target)? } else { report_of([target.pid().to_string()])? };
    report.agrees_with(target.account())?;
    let oracle = native_stacks(interpreter, target.pid())?;
    let unplaced = check_threads(interpreter, &target, &report, &oracle, false)?;
    ensure!(unplaced == 0, "{unplaced} frames have no place");
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}
