//! C code that calls back into Python in every way that could be thought of, each inside of the one before: callbacks of foreign
//! functions, slots, generators, destructors, collections, signals, imports, tracing. In an order by chance, on three threads.

use super::cores;
use super::oracle::check_threads;
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
    // Exceptions are thrown through generators: 3.9 loses what called these.
    let arguments: &[&str] = if interpreter.version == (3, 9) { &[seed, "no-throwing"] } else { &[seed] };
    let mut target = Target::start(interpreter, "reentry.py", arguments)?;
    let report = report_of([target.pid().to_string()])?;
    report.agrees_with(target.account())?;
    let oracle = native_stacks(interpreter, target.pid())?;
    let unplaced = check_threads(interpreter, &target, &report, &oracle, false)?;
    // Two generators on each thread, which are thrown through: from 3.10 on they are in the chain, but run in no loop.
    let (expected, codes): (_, &[&str]) =
        if interpreter.version < (3, 10) { (0, &[]) } else { (6, &["run-unplaced"; 3]) };
    ensure!(unplaced == expected, "{unplaced} frames have no place");
    let mut found = report.codes();
    // Garbage is being collected. Without symbols it may not be known by which thread: not what is looked at here.
    found.retain(|code| code != "gc-thread-unknown");
    ensure!(found == codes, "diagnostics: {}", report.json["diagnostics"]);
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}
