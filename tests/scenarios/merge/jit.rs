//! Python calls from code that a JIT compiled. 3.15 keeps frame pointers in it, and tells gdb of it. In 3.14 nothing says how to
//! unwind it: gdb makes frames up, so that the account alone tells what the outer frames are.

use super::oracle::{check_between, check_threads, text};
use super::{cores, lossy_report};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Scenario, Target, has_program, interpreters, native_stacks, report_of};
use serde_json::Value;

const SCRIPT: &str = "hot_loop.py";

#[test]
fn python_that_is_called_by_compiled_code() {
    let scenario = Scenario::new("merge: hot loop");
    if !has_program("gdb") || !has_program("readelf") {
        scenario.skip("all", "gdb or binutils is not installed");
        return;
    }
    let with_jit = || interpreters().iter().filter(|one| one.jit);
    if with_jit().next().is_none() {
        scenario.skip("all", "no interpreter has a JIT");
    }
    for interpreter in with_jit() {
        scenario.on(&interpreter.name, || match interpreter.version {
            (3, 14) => check_cut_off(interpreter),
            _ => check_whole(interpreter),
        });
    }
    scenario.finish();
}

/// gdb follows the compiled code, and so does pyst; it lies between the Python functions.
fn check_whole(interpreter: &Interpreter) -> Result<()> {
    let mut target = Target::start(interpreter, SCRIPT, &[])?;
    let report = report_of([target.pid().to_string()])?;
    report.agrees_with(target.account())?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let oracle = native_stacks(interpreter, target.pid())?;
    ensure!(check_threads(interpreter, &target, &report, &oracle, false)? == 0, "frames have no place");
    // The name is gdb's, for what Python tells it of.
    let named = Interpreter { stripped: false, ..interpreter.clone() };
    check_between(&named, &report, &oracle, ("outer", &["py::jit:executor"], "key"))?;
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}

/// The native stack ends at the compiled code, and says so. The run inside of it has its place; the one that called it is shown
/// as all there is outside, and said to have none.
fn check_cut_off(interpreter: &Interpreter) -> Result<()> {
    let mut target = Target::start(interpreter, SCRIPT, &[])?;
    let report = lossy_report(&target)?;
    report.agrees_with(target.account())?;
    let thread = report.thread(target.pid())?;
    let frames = thread.frames();
    let placed: Vec<(String, String)> = frames
        .iter()
        .filter(|frame| frame["kind"] == "python")
        .map(|frame| (text(&frame["function"]), text(&frame["placed_by"])))
        .collect();
    let want = [
        ("<module>", "unplaced"),
        ("outer", "unplaced"),
        ("key", "shim-frame"),
        ("inner", "shim-frame"),
        ("sleep", "shim-frame"),
    ];
    ensure!(placed.iter().map(|(name, by)| (name.as_str(), by.as_str())).eq(want), "Python frames {placed:?}");
    ensure!(frames[..2].iter().all(|frame| frame["kind"] == "python"), "not outermost: {frames:?}");
    ensure!(thread.json["stack_end"] == "no-module", "the stack ends with {}", thread.json["stack_end"]);
    ensure!(report.codes().contains(&"run-unplaced".to_owned()), "nothing says so: {:?}", report.codes());

    // As far as pyst goes, gdb has the same frames; the outermost is the compiled code.
    let pcs: Vec<String> = thread.native_frames().iter().rev().map(|frame| text(&frame["address"])).collect();
    let mut oracle = native_stacks(interpreter, target.pid())?;
    let gdb = oracle.remove(&target.pid()).context("gdb does not know the thread")?;
    let expected: Vec<String> = gdb.iter().rev().take(pcs.len()).map(|frame| format!("{:#x}", frame.pc)).collect();
    ensure!(pcs == expected, "native frames {pcs:?}, gdb has {expected:?}");
    ensure!(thread.native_frames()[0]["module"] == Value::Null, "the outermost frame is in a module");
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}
