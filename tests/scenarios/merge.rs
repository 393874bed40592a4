//! Merged stacks have each run of Python frames between the right native frames, also with a stripped interpreter.
//!
//! gdb tells which native frames there are. Where it has symbols, it also tells which of them run Python; a stripped build is
//! held against the same build with symbols.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    GdbFrame, Interpreter, Report, Scenario, Target, Thread, has_program, interpreters, native_stacks, report_of,
    representatives,
};
use serde_json::Value;

/// A Python function, native functions one of which it must have called, and the Python function that these called.
type Between = (&'static str, &'static [&'static str], &'static str);

const TARGETS: [(&str, &[Between]); 8] = [
    ("five_frames.py", &[]),
    ("eight_threads.py", &[]),
    ("recursion.py", &[]),
    ("sorted_key.py", &[("order", &["list_sort_impl", "list_sort", "builtin_sorted"], "key")]),
    (
        "reduce.py",
        &[
            ("begin", &["functools_reduce"], "outer_step"),
            ("outer_step", &["map_next"], "fold"),
            ("fold", &["functools_reduce"], "inner_step"),
        ],
    ),
    ("ctypes_callback.py", &[("enter", &["ffi_call", "ffi_call_int"], "level"), ("enter", &["closure_fcn"], "level")]),
    ("plain_generators.py", &[("driven_from_c", &["builtin_sum", "gen_iternext"], "<genexpr>")]),
    ("coroutine_throw.py", &[("middle", &["_gen_throw", "gen_throw", "coro_throw"], "inner")]),
];

#[test]
fn python_runs_lie_between_the_native_frames_that_gdb_finds() {
    let scenario = Scenario::new("merge");
    if !has_program("gdb") {
        scenario.skip("all", "gdb is not installed");
        return;
    }
    // Before 3.11 the interpreter keeps nothing of its frames on the C stack: each version is merged in a way of its own.
    let old = interpreters().iter().filter(|one| one.version < (3, 11) && one.root.is_none() && !one.is_variant());
    for interpreter in representatives().iter().chain(old) {
        for (script, between) in TARGETS {
            if interpreter.version < (3, 0) && script == "coroutine_throw.py" {
                continue;
            }
            scenario.on(&format!("{}, {script}", interpreter.name), || check(interpreter, script, between));
        }
    }
    scenario.finish();
}

#[test]
fn a_stripped_interpreter_merges_as_its_twin_with_symbols() {
    let scenario = Scenario::new("merge, stripped twin");
    let stripped = || interpreters().iter().filter(|one| one.name.ends_with(" stripped"));
    if stripped().next().is_none() {
        scenario.skip("all", "no interpreter of pyenv, or no strip");
    }
    for interpreter in stripped() {
        let twin = interpreters().iter().find(|one| interpreter.name == format!("{} stripped", one.name));
        for (script, _) in TARGETS {
            if interpreter.version < (3, 0) && script == "coroutine_throw.py" {
                continue;
            }
            scenario.on(&format!("{}, {script}", interpreter.name), || {
                let [one, other] = [interpreter, twin.context("its twin is not tested")?].map(|which| -> Result<_> {
                    let target = Target::start(which, script, &[])?;
                    Ok(shapes(&target, &report_of([target.pid().to_string()])?))
                });
                let (one, other) = (one?, other?);
                ensure!(one == other, "stripped: {one:?}\nwith symbols: {other:?}");
                Ok(())
            });
        }
    }
    scenario.finish();
}

fn check(interpreter: &Interpreter, script: &str, between: &[Between]) -> Result<()> {
    let target = Target::start(interpreter, script, &[])?;
    let report = report_of([target.pid().to_string()])?;
    let oracle = native_stacks(interpreter, target.pid())?;
    for expected in &target.account().threads {
        let thread = report.thread(expected.tid)?;
        let gdb = oracle.get(&expected.tid).context("gdb does not know the thread")?;
        check_thread(&thread, gdb).with_context(|| format!("thread {}", expected.tid))?;
        ensure!(thread.json["stack_end"] == "complete", "the stack ends with {}", thread.json["stack_end"]);
    }
    if !interpreter.stripped {
        let main = report.thread(target.pid())?;
        for one in between {
            check_between(&main, *one)?;
        }
    }
    Ok(())
}

fn check_thread(thread: &Thread<'_>, gdb: &[GdbFrame]) -> Result<()> {
    let pcs: Vec<String> = thread.native_frames().iter().map(|frame| text(&frame["address"])).collect();
    let expected: Vec<String> = gdb.iter().map(|frame| format!("{:#x}", frame.pc)).collect();
    ensure!(pcs == expected, "native frames {pcs:?}, gdb has {expected:?}: {gdb:?}");
    // gdb knows the evaluation loops by name, if it has symbols: then a run follows each of them, and nothing else.
    let knows_loops = gdb.iter().any(|frame| is_loop(frame.name.as_deref()));
    let mut native = gdb.iter();
    let mut last_was_loop = false;
    for frame in thread.frames() {
        if frame["kind"] == "native" && frame["inlined"] == true {
            continue;
        }
        let entry = frame["kind"] == "python" && frame["entry"] == true;
        if knows_loops {
            ensure!(entry == last_was_loop, "an evaluation loop and the first frame of a run do not meet at {frame}");
        }
        last_was_loop = false;
        if frame["kind"] == "native" {
            last_was_loop = is_loop(native.next().and_then(|frame| frame.name.as_deref()));
        } else {
            let placed_by = text(&frame["placed_by"]);
            ensure!(placed_by == "shim-frame" || placed_by == "c-frame", "placed by {placed_by}: {frame}");
        }
    }
    Ok(())
}

fn is_loop(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("_PyEval_EvalFrameDefault"))
}

fn check_between(thread: &Thread<'_>, (caller, natives, callee): Between) -> Result<()> {
    let frames = thread.frames();
    let names: Vec<(bool, String)> =
        frames.iter().map(|frame| (frame["kind"] == "python", text(&frame["function"]))).collect();
    let mut seen = 0;
    for (start, _) in names.iter().enumerate().filter(|(_, (python, name))| *python && name == caller) {
        let rest = &names[start + 1..];
        let called = rest.iter().take_while(|(python, _)| !python).collect::<Vec<_>>();
        let Some((_, next)) = rest.get(called.len()) else { continue };
        if next == callee {
            // gcc adds suffixes to the symbols of parts and copies: `_gen_throw.isra.0`.
            let base = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
            ensure!(
                called.iter().any(|(_, name)| natives.contains(&base(name).as_str())),
                "between {caller} and {callee} there is none of {natives:?}: {called:?}"
            );
            seen += 1;
        }
    }
    ensure!(seen > 0, "{caller} does not call {callee} in {names:?}");
    Ok(())
}

/// What two builds of the same source must have in common: the kinds of frames in their order, and the Python functions.
fn shapes(target: &Target, report: &Report) -> Vec<Vec<String>> {
    let of_thread = |tid: u32| {
        let frames = report.thread(tid).map(|thread| thread.frames()).unwrap_or_default();
        let shape =
            |frame: &Value| if frame["kind"] == "python" { text(&frame["qualname"]) } else { "(native)".to_owned() };
        frames.iter().filter(|frame| frame["inlined"] != true).map(shape).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = target.account().threads.iter().map(|thread| of_thread(thread.tid)).collect();
    all.sort();
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
