//! The matrix: Python frames equal the target's own account of them (function, qualified name, file, line, columns, interpreter and
//! order, `sys._current_frames()` and faulthandler alike), live and from cores, on each interpreter there is. The README's table
//! is made of what this notes.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Interpreter, Report, Scenario, Target, expected, gcore_and_whether_whole, grab, has_program, interpreters,
    kernel_core, kernel_cores_are_files, missing, report_of,
};
use std::ffi::OsStr;
use std::path::Path;

/// A scenario of the matrix: a program of `tests/targets`, and what is special about it.
struct Case {
    name: &'static str,
    script: &'static str,
    run_as: &'static str,
    arguments: &'static [&'static str],
    /// For which versions there is such a thing.
    versions: std::ops::Range<(u32, u32)>,
    /// Whether threads wait for a GIL, which a free-threaded interpreter has not.
    needs_gil: bool,
    /// Whether faulthandler knows all frames: those of one interpreter.
    one_interpreter: bool,
    /// Whether the native stack is small enough to be seen whole.
    whole: bool,
    /// Whether there are frames of coroutines that an exception is thrown through: they run in no evaluation loop, and are in no native
    /// frame.
    thrown_through: bool,
    /// Whether it also runs where it is costly, or seldom differs: from gdb's cores where the kernel writes some, and on interpreters
    /// that differ in their symbols alone.
    is_basic: bool,
}

const ALWAYS: std::ops::Range<(u32, u32)> = (2, 7)..(9, 0);

fn case(name: &'static str, script: &'static str) -> Case {
    let (run_as, arguments, versions) = (script, &[][..], ALWAYS);
    Case {
        name,
        script,
        run_as,
        arguments,
        versions,
        needs_gil: false,
        one_interpreter: true,
        whole: true,
        thrown_through: false,
        is_basic: false,
    }
}

fn with(name: &'static str, script: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { arguments, ..case(name, script) }
}

fn since(versions: (u32, u32), case: Case) -> Case {
    Case { versions: versions..(9, 0), ..case }
}

fn basic(case: Case) -> Case {
    Case { is_basic: true, ..case }
}

fn thrown_through(name: &'static str, script: &'static str) -> Case {
    Case { thrown_through: true, ..case(name, script) }
}

fn sub_interpreters(name: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { one_interpreter: false, ..since((3, 8), with(name, "interpreters.py", arguments)) }
}

macro_rules! matrix {
    ($($test:ident: $case:expr;)*) => {
        /// The names of all of them.
        fn names() -> Vec<&'static str> {
            vec![$($case.name),*]
        }

        $(#[test]
        fn $test() {
            check(&$case);
        })*
    };
}

matrix! {
    one_thread: basic(case("matrix: one thread", "five_frames.py"));
    eight_threads: basic(case("matrix: eight threads", "eight_threads.py"));
    fifty_threads: case("matrix: fifty threads", "fifty_threads.py");
    recursion_1_000_deep: with("matrix: recursion 1,000", "recursion.py", &["1000"]);
    recursion_100_000_deep: Case { whole: false, ..with("matrix: recursion 100,000", "recursion.py", &["100000"]) };
    sorted_calls_its_key_function: basic(case("matrix: sorted(key=)", "sorted_key.py"));
    reduce_calls_its_function: case("matrix: functools.reduce", "reduce.py");
    a_ctypes_callback_three_levels_deep: basic(case("matrix: ctypes callback", "ctypes_callback.py"));
    generators_that_run: case("matrix: generators", "plain_generators.py");
    generators_that_delegate: since((3, 6), case("matrix: yield from", "generators.py"));
    throw_through_two_awaits: since((3, 6), thrown_through("matrix: coro.throw()", "coroutine_throw.py"));
    async_generators: since((3, 6), case("matrix: async generators", "async_generators.py"));
    an_asyncio_task_being_cancelled: since((3, 6), thrown_through("matrix: asyncio cancellation", "asyncio_cancel.py"));
    comprehensions: case("matrix: comprehensions", "comprehensions.py");
    closures: case("matrix: closures", "closures.py");
    decorators: case("matrix: decorators", "decorators.py");
    code_that_was_executed: case("matrix: exec'd code", "executed.py");
    modules_that_are_being_imported: case("matrix: zipimport, frozen", "imported.py");
    names_that_are_not_ascii: Case { run_as: "関数_🦀.py", ..since((3, 6), case("matrix: non-ASCII names", "names.py")) };
    names_that_are_bytes: Case { versions: (2, 7)..(3, 0), ..case("matrix: names of bytes", "bytes_names.py") };
    names_with_lone_surrogates: since((3, 6), case("matrix: surrogates", "surrogates.py"));
    names_of_thousands_of_characters: case("matrix: long names", "long_names.py");
    interpreters_nested_on_a_thread: basic(sub_interpreters("matrix: sub-interpreters, nested", &["nested"]));
    interpreters_on_other_threads_than_their_makers: sub_interpreters("matrix: sub-interpreters, threads", &["threads"]);
    several_interpreters_on_a_thread: sub_interpreters("matrix: sub-interpreters, several", &["several"]);
    an_interpreter_with_a_thread_of_its_own: sub_interpreters("matrix: sub-interpreters, inner thread", &["inner-thread"]);
    interpreters_that_are_idle: sub_interpreters("matrix: sub-interpreters, idle", &["idle"]);
    interpreters_with_a_gil_each: since((3, 12), sub_interpreters("matrix: sub-interpreters, own GIL", &["threads", "isolated"]));
    frames_that_are_traced: case("matrix: settrace", "traced.py");
    frames_that_are_profiled: case("matrix: setprofile", "tracing.py");
    threads_before_their_first_frame: Case { needs_gil: true, ..case("matrix: thread starting", "thread_starts.py") };
    a_thread_at_its_end: case("matrix: thread ending", "thread_ends.py");
    an_atexit_handler: with("matrix: atexit handler", "finalizing.py", &["atexit"]);
}

#[test]
fn interpreters_that_this_machine_lacks_are_named() {
    let scenario = Scenario::new("matrix: lacking");
    for (name, reason) in missing() {
        scenario.skip(&name, reason);
    }
    scenario.finish();
}

/// The README's table is printed by a run; this much of it can be checked without one.
#[test]
fn the_readme_has_a_row_for_each_interpreter_and_names_each_scenario() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, table) = readme.split_once("<!-- matrix: tests/run --table -->").unwrap();
    let (table, _) = table.split_once("<!-- end of matrix -->").unwrap();
    for (start, end) in expected() {
        let is_row = |line: &&str| {
            let name = line.trim_start().split("  ").next().unwrap_or_default();
            // One that the machine lacked has no patch version.
            let rest = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(end));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && !rest.contains(' '))
        };
        assert!(table.lines().filter(is_row).count() == 1, "{start}{end} has not one row");
    }
    for name in names() {
        assert!(table.contains(name.trim_start_matches("matrix: ")), "{name} is not in the table's legend");
    }
}

fn check(case: &Case) {
    let scenario = Scenario::new(case.name);
    for interpreter in interpreters() {
        if !case.versions.contains(&interpreter.version) {
            scenario.has_none(&interpreter.name, "not in this version");
        } else if case.needs_gil && interpreter.free_threaded {
            scenario.has_none(&interpreter.name, "no thread waits for a GIL");
        } else if case.is_basic || !interpreter.name.ends_with(" stripped") {
            check_on(&scenario, case, interpreter);
        }
    }
    scenario.finish();
}

fn check_on(scenario: &Scenario, case: &Case, interpreter: &Interpreter) {
    let mut target = None;
    let mut seen = None;
    scenario.on(&format!("{}, live", interpreter.name), || {
        let target = target.insert(Target::start_as(interpreter, case.script, case.run_as, case.arguments)?);
        seen = Some(live(case, interpreter, target)?);
        Ok(())
    });
    let (Some(mut target), Some(seen)) = (target, seen) else { return };
    let kernel = kernel_cores_are_files();
    let circumstance = format!("{}, gcore", interpreter.name);
    if !has_program("gcore") {
        scenario.skip(&circumstance, "gdb is not installed");
    } else if case.is_basic || kernel.is_err() {
        match gcore_and_whether_whole(&target) {
            Ok((_, false)) => scenario.has_none(&circumstance, "gdb could not read all of its stacks"),
            core => {
                scenario.on(&circumstance, || from_gcore(case, interpreter, &core?.0, &target, &seen));
            }
        }
    }
    let circumstance = format!("{}, kernel core", interpreter.name);
    match kernel {
        Ok(()) => scenario.on(&circumstance, || from_kernel_core(case, interpreter, &mut target, &seen)),
        Err(reason) => scenario.skip(&circumstance, &reason),
    }
}

fn live(case: &Case, interpreter: &Interpreter, target: &Target) -> Result<Report> {
    let report = report(case, interpreter, &[target.pid().to_string()])?;
    let compared = report.agrees_with(target.account())?;
    ensure!(compared > 0, "the account is empty");
    target.wait_for_state('S')?;
    // 2.7 has no faulthandler.
    if interpreter.version >= (3, 0) && case.one_interpreter {
        report.agrees_with_faulthandler(&target.faulthandler()?).context("faulthandler")?;
    }
    ensure!(report.json["snapshot"]["source"] == "live");
    let build = &report.json["python"];
    ensure!(build["debug"] == interpreter.debug, "debug: {}", build["debug"]);
    ensure!(build["free_threaded"] == interpreter.free_threaded, "free_threaded: {}", build["free_threaded"]);
    is_whole(case, interpreter, &report)?;
    Ok(report)
}

fn from_gcore(case: &Case, interpreter: &Interpreter, core: &Path, target: &Target, seen: &Report) -> Result<()> {
    let report = report(case, interpreter, &[core])?;
    report.agrees_with(target.account())?;
    ensure!(report.json["process"]["signal"].is_null(), "taken on demand, yet: {}", report.json["process"]["signal"]);
    if case.whole {
        report.has_frames_of(seen, interpreter)?;
    }
    is_core(&report, target)
}

fn from_kernel_core(case: &Case, interpreter: &Interpreter, target: &mut Target, seen: &Report) -> Result<()> {
    let core = kernel_core(target, Signal::SIGABRT)?;
    let mut arguments = vec![core.clone()];
    if interpreter.root.is_some() {
        // The kernel notes paths as the target sees them; from outside of its root, only the executable can be named.
        arguments.push(interpreter.host_exe());
        let snapshot = grab(&arguments)?;
        ensure!(matches!(snapshot.status, Some(0 | 3)), "exit status {:?}: {}", snapshot.status, snapshot.stderr);
        let report = analyse_leniently(&snapshot.stdout)?;
        report.agrees_with(target.account())?;
        return is_core(&report, target);
    }
    let report = report(case, interpreter, &arguments)?;
    report.agrees_with(target.account())?;
    if case.whole {
        report.has_frames_of(seen, interpreter)?;
    }
    is_core(&report, target)?;
    ensure!(report.json["process"]["signal"]["number"] == 6 || report.json["process"]["signal"] == "SIGABRT");
    is_whole(case, interpreter, &report)
}

/// 3.9 does not say what a coroutine was called by that an exception is thrown through. pyst calls that a loss; the target itself knows
/// no more.
fn loses_callers(case: &Case, interpreter: &Interpreter) -> bool {
    case.thrown_through && interpreter.version == (3, 9)
}

fn report<A: AsRef<OsStr>>(case: &Case, interpreter: &Interpreter, arguments: &[A]) -> Result<Report> {
    if loses_callers(case, interpreter) {
        return analyse_leniently(&grab(arguments)?.snapshot()?);
    }
    report_of(arguments)
}

/// The report of a snapshot whose native side may have lost something, since the target's files are not all at hand.
fn analyse_leniently(snapshot: &[u8]) -> Result<Report> {
    let pipeline = pyst_tests::Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]);
    let outputs = pipeline.run(snapshot)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

fn is_core(report: &Report, target: &Target) -> Result<()> {
    ensure!(report.json["snapshot"]["source"] == "core");
    ensure!(report.json["process"]["pid"] == target.pid(), "pid {}", report.json["process"]["pid"]);
    Ok(())
}

/// Nothing was lost, and each Python frame has its place among the native ones.
fn is_whole(case: &Case, interpreter: &Interpreter, report: &Report) -> Result<()> {
    if !case.whole {
        return Ok(());
    }
    let is_lossy = loses_callers(case, interpreter);
    let complete = &report.json["snapshot"]["complete"];
    ensure!(is_lossy || *complete == true, "not complete: {}", report.json["diagnostics"]);
    let mut codes = report.codes();
    if case.thrown_through {
        codes.retain(|code| code != "run-unplaced" && !(is_lossy && code == "python-frames-lost"));
    }
    ensure!(codes.is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    Ok(())
}
