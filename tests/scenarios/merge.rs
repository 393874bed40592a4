//! Merged stacks have each run of Python frames between the native frames that called it and that it called, on every
//! interpreter there is.
//!
//! gdb tells which native frames there are, which of them are evaluation loops, and from 3.11 on which functions each of these
//! runs: [`oracle`]. Which Python frames there are, and in what order, is the target's own account. A core of the same target must
//! then have the very same merged stacks: [`cores`].

mod cores;
mod extension;
mod jit;
mod numpy;
mod options;
mod oracle;
mod reentry;
mod trampoline;

pub(crate) use numpy::with_package;

use anyhow::{Context, Result, ensure};
use oracle::{Between, check_between, check_threads};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, grab, has_program, interpreters, native_stacks, report_of,
    representatives,
};

/// A program of `tests/targets`, and what lies between its Python functions.
struct Case {
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    since: (u32, u32),
    /// Whether exceptions are thrown through frames, which no evaluation loop runs then.
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
    let mut target = Target::start(interpreter, case.script, case.arguments)?;
    // 3.9 does not say what a coroutine was called by that an exception is thrown through: a loss, and the target knows no more.
    let is_lossy = case.thrown_through && interpreter.version == (3, 9);
    let report = if is_lossy { lossy_report(&target)? } else { report_of([target.pid().to_string()])? };
    report.agrees_with(target.account())?;
    let oracle = native_stacks(interpreter, target.pid())?;
    let unplaced = check_threads(interpreter, &target, &report, &oracle, is_lossy)?;
    // Up to 3.8 the coroutines thrown through are not among the thread's frames; from 3.10 on they are, but no loop runs them; 3.9
    // has the innermost of them.
    let (expected, codes): (_, &[&str]) = match interpreter.version {
        (3, 9) if is_lossy => (1, &["python-frames-lost", "run-unplaced"]),
        (3, 10..) if case.thrown_through => (2, &["run-unplaced"]),
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
    between.into_iter().try_for_each(|one| check_between(interpreter, &report, &oracle, *one))?;
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}

fn lossy_report(target: &Target) -> Result<Report> {
    let snapshot = grab([target.pid().to_string()])?.snapshot()?;
    let outputs = Pipeline::with_local_files(&["--format", "json", "--all-threads"]).run(&snapshot)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}
