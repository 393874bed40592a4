//! Python that calls through trampolines, small pieces of made code that stand for its functions in the profiles of `perf`
//! (`python -X perf`): without symbols or call-frame information, one around each evaluation loop. gdb makes frames up where it comes
//! to one. But each Python function of the target's account has a loop of its own then, which a trampoline called, and that again the
//! function that calls trampolines.

use super::cores;
use super::oracle::text;
use anyhow::{Result, ensure};
use pyst_tests::{Interpreter, Scenario, Target, interpreters, report_of};
use std::path::{Path, PathBuf};

#[test]
fn python_that_calls_through_trampolines() {
    let scenario = Scenario::new("merge: perf trampolines");
    for interpreter in interpreters() {
        if interpreter.version < (3, 12) {
            scenario.has_none(&interpreter.name, "not in this version");
        } else if !interpreter.jit {
            scenario.on(&interpreter.name, || check(interpreter));
        }
    }
    scenario.finish();
}

/// What Python tells perf of, which goes away with the target.
struct PerfMap(PathBuf);

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn check(interpreter: &Interpreter) -> Result<()> {
    let mut with_perf = interpreter.clone();
    with_perf.env.push(("PYTHONPERFSUPPORT".to_owned(), "1".into()));
    let mut target = Target::start(&with_perf, "reduce.py", &[])?;
    let map = PerfMap(interpreter.outside(Path::new(&format!("/tmp/perf-{}.map", target.pid()))));
    ensure!(map.0.exists(), "Python tells perf of nothing");
    let report = report_of([target.pid().to_string()])?;
    report.agrees_with(target.account())?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let thread = report.thread(target.pid())?;
    ensure!(thread.json["stack_end"] == "complete", "the stack ends with {}", thread.json["stack_end"]);
    let mut frames = thread.frames();
    frames.retain(|frame| frame["inlined"] != true);
    let mut runs = 0;
    for (index, frame) in frames.iter().enumerate().filter(|(_, frame)| frame["kind"] == "python") {
        let [caller, trampoline, evaluation] = frames.get(index.wrapping_sub(3)..index).unwrap_or_default() else {
            anyhow::bail!("nothing called {frame}");
        };
        ensure!(trampoline["kind"] == "native" && trampoline["module"].is_null(), "no trampoline: {trampoline}");
        let is = |frame: &serde_json::Value, name: &str| {
            interpreter.stripped || text(&frame["raw_symbol"]).starts_with(name)
        };
        ensure!(is(caller, "py_trampoline_evaluator"), "called by {caller}");
        ensure!(is(evaluation, "_PyEval_EvalFrameDefault"), "run by {evaluation}");
        ensure!(frame["entry"] == true && frame["placed_by"] == "shim-frame", "{frame}");
        runs += 1;
    }
    let trampolines = frames.iter().filter(|frame| frame["kind"] == "native" && frame["module"].is_null()).count();
    ensure!(runs == 5 && trampolines == runs, "{trampolines} trampolines, {runs} functions");
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}
