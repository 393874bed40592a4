//! Merged stacks have each run of Python frames between the native frames that called it and that it called, on every
//! interpreter there is.
//!
//! gdb tells which native frames there are, and which of them are evaluation loops: those have names also where there is no
//! `.symtab`, for Python exports them; and of a stripped copy gdb is given the original's symbols. Where a build is split into hot
//! and cold parts and has no symbols, gdb has no name for the part of the loop that calls: there it is what runs follow, and a
//! run must follow wherever the same code is. Which Python frames there are, and in what order, is the target's own account.

mod extension;
mod jit;
mod numpy;

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    GdbFrame, Interpreter, Pipeline, Report, Scenario, Target, Thread, grab, has_program, interpreters, native_stacks,
    report_of, representatives,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A Python function, native functions one of which it must have called, and the Python function that these called. No name
/// stands for the thread's start and for its end.
type Between = (&'static str, &'static [&'static str], &'static str);

/// A program of `tests/targets`, and what lies between its Python functions.
struct Case {
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    since: (u32, u32),
    /// Whether exceptions are thrown through frames, which then have no evaluation loop before 3.11.
    thrown_through: bool,
    between: &'static [Between],
}

const fn case(name: &'static str, script: &'static str, between: &'static [Between]) -> Case {
    Case { name, script, arguments: &[], since: (2, 7), thrown_through: false, between }
}

#[test]
fn c_code_that_calls_back_three_levels_deep() {
    const REDUCE: &[&str] = &["functools_reduce", "_functools_reduce"];
    on_all(&case(
        "merge: functools.reduce",
        "reduce.py",
        &[
            ("begin", REDUCE, "outer_step"),
            ("outer_step", &["map_next", "builtin_map"], "fold"),
            ("fold", REDUCE, "inner_step"),
            ("inner_step", &["time_sleep"], ""),
        ],
    ));
}

#[test]
fn foreign_code_that_calls_back_three_levels_deep() {
    on_all(&case(
        "merge: ctypes callback",
        "ctypes_callback.py",
        &[
            ("enter", &["ffi_call", "ffi_call_int", "_ctypes_callproc"], "level"),
            ("enter", &["closure_fcn"], "level"),
            ("enter", &["time_sleep"], ""),
        ],
    ));
}

#[test]
fn exceptions_thrown_into_coroutines() {
    on_all(&Case {
        since: (3, 6),
        thrown_through: true,
        ..case("merge: coro.throw()", "coroutine_throw.py", &[("clean_up", &["time_sleep"], "")])
    });
}

#[test]
fn threads_in_the_c_library() {
    on_all(&case(
        "merge: threads in libc",
        "eight_threads.py",
        &[
            ("by_pipe", &["_Py_read", "posix_read", "os_read"], ""),
            ("by_sleep", &["time_sleep"], ""),
            ("", &["thread_run", "t_bootstrap"], "_bootstrap"),
        ],
    ));
}

#[test]
fn a_thread_made_by_c_code_that_calls_into_python() {
    on_all(&case(
        "merge: native thread",
        "foreign_callback.py",
        &[
            ("", &["closure_fcn"], "start"),
            ("start", &["list_sort_impl", "list_sort", "builtin_sorted", "listsort"], "called"),
        ],
    ));
}

#[test]
fn a_thread_that_python_never_saw() {
    on_all(&case("merge: thread without Python", "foreign_thread.py", &[]));
}

#[test]
fn interpreters_nested_on_a_thread() {
    const RUN: &[&str] = &["interp_run_string", "_interpreters_run_string", "_run_script"];
    on_all(&Case {
        arguments: &["nested"],
        since: (3, 8),
        ..case("merge: sub-interpreters", "interpreters.py", &[("nested", RUN, "<module>"), ("call", RUN, "<module>")])
    });
}

/// What differs little between versions.
#[test]
fn plain_calls_sorting_and_generators() {
    let cases = [
        case("merge: one thread", "five_frames.py", &[]),
        case("merge: recursion", "recursion.py", &[]),
        case(
            "merge: sorted(key=)",
            "sorted_key.py",
            &[("order", &["list_sort_impl", "list_sort", "builtin_sorted"], "key")],
        ),
        case(
            "merge: generators",
            "plain_generators.py",
            &[("driven_from_c", &["builtin_sum", "gen_iternext"], "<genexpr>")],
        ),
    ];
    let old = interpreters().iter().filter(|one| one.name.starts_with("pyenv 3.8.") && !one.is_variant());
    let few: Vec<_> = representatives().iter().chain(old).collect();
    for case in cases {
        on(&few, &case);
    }
}

fn on_all(case: &Case) {
    on(&interpreters().iter().collect::<Vec<_>>(), case);
}

fn on(interpreters: &[&Interpreter], case: &Case) {
    let scenario = Scenario::new(case.name);
    if !has_program("gdb") || !has_program("readelf") {
        scenario.skip("all", "gdb or binutils is not installed");
        return;
    }
    for interpreter in interpreters {
        if interpreter.version < case.since {
            scenario.has_none(&interpreter.name, "not in this version");
        } else {
            scenario.on(&interpreter.name, || check(interpreter, case));
        }
    }
    scenario.finish();
}

fn check(interpreter: &Interpreter, case: &Case) -> Result<()> {
    let target = Target::start(interpreter, case.script, case.arguments)?;
    // 3.9 does not say what a coroutine was called by that an exception is thrown through: a loss, and the target knows no more.
    let is_lossy = case.thrown_through && interpreter.version == (3, 9);
    let report = if is_lossy { lossy_report(&target)? } else { report_of([target.pid().to_string()])? };
    report.agrees_with(target.account())?;
    let oracle = native_stacks(interpreter, target.pid())?;
    let unplaced = check_threads(interpreter, &target, &report, &oracle, is_lossy)?;
    // Up to 3.8 the coroutines thrown through are not among the thread's frames; 3.10 has them there, but no loop for them, and
    // 3.9 the innermost of them.
    let (expected, codes): (_, &[&str]) = match interpreter.version {
        (3, 9) if is_lossy => (1, &["python-frames-lost", "run-unplaced"]),
        (3, 10) if case.thrown_through => (2, &["run-unplaced"]),
        _ => (0, &[]),
    };
    ensure!(unplaced == expected, "{unplaced} frames have no place");
    ensure!(report.codes() == codes, "diagnostics: {}", report.json["diagnostics"]);
    if case.thrown_through && !is_lossy {
        let thrower = if interpreter.version < (3, 9) { "cancel" } else { "middle" };
        check_between(interpreter, &report, &oracle, (thrower, &["_gen_throw", "gen_throw", "coro_throw"], "inner"))?;
    }
    // In 2.7 the name is a mangled one.
    let between = case.between.iter().filter(|one| interpreter.version >= (3, 0) || one.2 != "_bootstrap");
    between.into_iter().try_for_each(|one| check_between(interpreter, &report, &oracle, *one))
}

fn lossy_report(target: &Target) -> Result<Report> {
    let snapshot = grab([target.pid().to_string()])?.snapshot()?;
    let outputs = Pipeline::with_local_files(&["--format", "json", "--all-threads"]).run(&snapshot)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

/// Holds all threads against gdb; how many Python frames have no place.
fn check_threads(
    interpreter: &Interpreter,
    target: &Target,
    report: &Report,
    oracle: &BTreeMap<u32, Vec<GdbFrame>>,
    is_lossy: bool,
) -> Result<usize> {
    let known: Vec<u32> = report.threads().iter().filter_map(Thread::tid).collect();
    ensure!(known == oracle.keys().copied().collect::<Vec<_>>(), "threads {known:?}, gdb has {:?}", oracle.keys());
    let mut unplaced = 0;
    for (tid, gdb) in oracle {
        let thread = report.thread(*tid)?;
        let runs_python = target.account().threads.iter().any(|thread| thread.tid == *tid);
        unplaced +=
            check_thread(interpreter, &thread, gdb, runs_python, is_lossy).with_context(|| format!("thread {tid}"))?;
        ensure!(thread.json["stack_end"] == "complete", "the stack ends with {}", thread.json["stack_end"]);
    }
    Ok(unplaced)
}

fn check_thread(
    interpreter: &Interpreter,
    thread: &Thread<'_>,
    gdb: &[GdbFrame],
    runs_python: bool,
    is_lossy: bool,
) -> Result<usize> {
    let pcs: Vec<String> = thread.native_frames().iter().map(|frame| text(&frame["address"])).collect();
    let expected: Vec<String> = gdb.iter().map(|frame| format!("{:#x}", frame.pc)).collect();
    ensure!(pcs == expected, "native frames {pcs:?}, gdb has {expected:?}: {gdb:?}");
    let nameless = if has_symbols(interpreter) { BTreeSet::new() } else { before_runs(thread) };
    let is_loop = |frame: &GdbFrame| match &frame.name {
        Some(name) => is_loop(interpreter, name),
        None => nameless.contains(&format!("{:#x}", frame.pc)),
    };
    ensure!(gdb.iter().any(is_loop) == runs_python, "gdb finds evaluation loops, or not: {gdb:?}");
    // A run follows each loop, and nothing else.
    let mut native = gdb.iter();
    let (mut last_was_loop, mut unplaced) = (false, 0);
    for frame in thread.frames() {
        if frame["kind"] == "native" && frame["inlined"] == true {
            continue;
        }
        let placed_by = text(&frame["placed_by"]);
        if placed_by == "unplaced" {
            unplaced += 1;
            continue;
        }
        let entry = frame["kind"] == "python" && frame["entry"] == true;
        // Loops whose frames are lost have none.
        ensure!(
            entry == last_was_loop || is_lossy && !entry,
            "an evaluation loop and the first frame of a run do not meet at {frame}"
        );
        last_was_loop = false;
        if frame["kind"] == "native" {
            last_was_loop = native.next().is_some_and(is_loop);
        } else {
            let ways: &[&str] = match interpreter.version {
                (3, 12..) => &["shim-frame"],
                (3, 11) => &["c-frame"],
                _ => &["register", "order"],
            };
            ensure!(ways.contains(&placed_by.as_str()), "placed by {placed_by}: {frame}");
        }
    }
    Ok(unplaced)
}

/// The native frames that a run follows, by their pcs.
fn before_runs(thread: &Thread<'_>) -> BTreeSet<String> {
    let frames = thread.frames();
    let before = frames.windows(2).filter(|pair| pair[0]["kind"] == "native" && pair[1]["kind"] == "python");
    before.map(|pair| text(&pair[0]["address"])).collect()
}

/// Whether gdb knows all functions of the interpreter by name.
fn has_symbols(interpreter: &Interpreter) -> bool {
    !interpreter.stripped || interpreter.name.ends_with(" stripped")
}

fn is_loop(interpreter: &Interpreter, name: &str) -> bool {
    let name = name.split('.').next().unwrap_or_default();
    name == if interpreter.version < (3, 0) { "PyEval_EvalFrameEx" } else { "_PyEval_EvalFrameDefault" }
}

/// Looks for native functions between Python functions, by pyst's names for them and gdb's. Where neither has symbols, some
/// native frame must be there.
fn check_between(
    interpreter: &Interpreter,
    report: &Report,
    oracle: &BTreeMap<u32, Vec<GdbFrame>>,
    (caller, natives, callee): Between,
) -> Result<()> {
    let has_names = has_symbols(interpreter);
    let mut seen = 0;
    for thread in report.threads() {
        let gdb = thread.tid().and_then(|tid| oracle.get(&tid)).context("gdb does not know the thread")?;
        let frames = names(&thread, gdb);
        for (start, _) in frames.iter().enumerate().filter(|(_, frame)| frame.is(caller)) {
            let rest = &frames[start + 1..];
            let called: Vec<_> = rest.iter().take_while(|frame| !frame.is_python).collect();
            if !rest.get(called.len()).is_some_and(|next| next.is(callee)) {
                continue;
            }
            // gcc adds suffixes to the symbols of parts and copies: `_gen_throw.isra.0`.
            let base = |name: &String| natives.contains(&name.split('.').next().unwrap_or_default());
            let is_there = called.iter().any(|frame| !has_names || frame.names.iter().any(base));
            ensure!(is_there, "between {caller} and {callee} there is none of {natives:?}: {called:?}");
            seen += 1;
        }
    }
    ensure!(seen > 0, "{caller} does not call {callee}");
    Ok(())
}

#[derive(Debug)]
struct Named {
    is_python: bool,
    names: Vec<String>,
}

impl Named {
    fn is(&self, function: &str) -> bool {
        self.is_python && self.names.iter().any(|name| name == function)
    }
}

/// A thread's frames, each with all names it has, between a nameless Python function and another.
fn names(thread: &Thread<'_>, gdb: &[GdbFrame]) -> Vec<Named> {
    let nameless = || Named { is_python: true, names: vec![String::new()] };
    let mut all = vec![nameless()];
    let mut gdb = gdb.iter();
    for frame in thread.frames() {
        let is_python = frame["kind"] == "python";
        let mut names = vec![text(&frame["function"])];
        if !is_python && frame["inlined"] != true {
            let frame = gdb.next();
            names.extend(frame.into_iter().flat_map(|frame| &frame.calls).filter_map(|call| call.name.clone()));
        }
        all.push(Named { is_python, names });
    }
    all.push(nameless());
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
