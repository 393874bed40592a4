//! Python frames equal the target's own account of them: function, qualified name, file, line, columns and order; live,
//! from gdb's cores and from the kernel's, on each interpreter.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Frame, Interpreter, Report, Scenario, Target, Thread, gcore, grab, has_program, interpreters, kernel_core,
    kernel_cores_are_files, report_of,
};

#[test]
fn one_thread() {
    check("one thread", "five_frames.py");
}

#[test]
fn eight_threads() {
    check("eight threads", "eight_threads.py");
}

#[test]
fn fifty_threads() {
    check("fifty threads", "fifty_threads.py");
}

#[test]
fn recursion() {
    check("recursion", "recursion.py");
}

#[test]
fn sorted_calls_its_key_function() {
    check("sorted(key=)", "sorted_key.py");
}

#[test]
fn reduce_calls_its_function() {
    check("functools.reduce", "reduce.py");
}

#[test]
fn a_ctypes_callback_three_levels_deep() {
    check("ctypes callback", "ctypes_callback.py");
}

#[test]
fn generators_that_run() {
    check_since((3, 3), "generators", "generators.py");
}

#[test]
fn generators_of_every_version() {
    check("plain generators", "plain_generators.py");
}

#[test]
fn frames_that_are_traced() {
    check("sys.settrace()", "traced.py");
}

#[test]
fn throw_through_two_awaits() {
    check_since((3, 5), "coro.throw()", THROWN_THROUGH);
}

/// Before 3.11 the frames of coroutines that an exception is thrown through run in no evaluation loop, and are in no native
/// frame.
const THROWN_THROUGH: &str = "coroutine_throw.py";

#[test]
fn an_asyncio_task_being_cancelled() {
    check_since((3, 7), "asyncio cancellation", "asyncio_cancel.py");
}

#[test]
fn long_qualified_names() {
    check("closures", "closures.py");
}

#[test]
fn names_that_are_not_ascii() {
    check_as((3, 0), "non-ASCII names", "names.py", "関数_🦀.py");
}

#[test]
fn names_that_are_bytes() {
    let is_one = |one: &Interpreter| one.version < (3, 0);
    check_on(is_one, "names of bytes", "bytes_names.py", "bytes_names.py");
}

fn check(scenario: &'static str, script: &str) {
    check_as((2, 7), scenario, script, script);
}

/// For a script whose syntax came with the version `since`.
fn check_since(since: (u32, u32), scenario: &'static str, script: &str) {
    check_as(since, scenario, script, script);
}

fn check_as(since: (u32, u32), scenario: &'static str, script: &str, name: &str) {
    check_on(|one| one.version >= since, scenario, script, name);
}

fn check_on(is_one: impl Fn(&Interpreter) -> bool, scenario: &'static str, script: &str, name: &str) {
    let scenario = Scenario::new(scenario);
    for interpreter in interpreters().iter().filter(|one| is_one(one)) {
        let mut target = None;
        let mut seen = None;
        scenario.on(&interpreter.name, || {
            let target = target.insert(Target::start_as(interpreter, script, name, &[])?);
            let report = seen.insert(live(interpreter, target)?);
            let build = &report.json["python"];
            ensure!(build["debug"] == interpreter.debug, "debug: {}", build["debug"]);
            ensure!(build["free_threaded"] == interpreter.free_threaded, "free_threaded: {}", build["free_threaded"]);
            Ok(())
        });
        let (Some(mut target), Some(seen)) = (target, seen) else { continue };
        let circumstance = format!("{}, gcore", interpreter.name);
        if has_program("gcore") {
            scenario.on(&circumstance, || from_gcore(interpreter, &target, &seen));
        } else {
            scenario.skip(&circumstance, "gdb is not installed");
        }
        let circumstance = format!("{}, kernel core", interpreter.name);
        match kernel_cores_are_files() {
            Ok(()) => scenario.on(&circumstance, || from_kernel_core(interpreter, &mut target, &seen)),
            Err(reason) => scenario.skip(&circumstance, &reason),
        }
    }
    scenario.finish();
}

fn live(interpreter: &Interpreter, target: &Target) -> Result<Report> {
    let report = report_of([target.pid().to_string()])?;
    let compared = report.agrees_with(target.account())?;
    ensure!(compared > 0, "the account is empty");
    target.wait_for_state('S')?;
    // Python 2 has none.
    if interpreter.version >= (3, 3) {
        report.agrees_with_faulthandler(&target.faulthandler()?).context("faulthandler")?;
    }
    ensure!(report.json["snapshot"]["source"] == "live");
    is_whole(interpreter, &report)?;
    Ok(report)
}

fn from_gcore(interpreter: &Interpreter, target: &Target, seen: &Report) -> Result<()> {
    let core = gcore(target)?;
    let report = report_of([&core])?;
    report.agrees_with(target.account())?;
    ensure!(report.json["process"]["signal"].is_null(), "taken on demand, yet: {}", report.json["process"]["signal"]);
    same_frames(interpreter, seen, &report)?;
    is_core(&report, target)
}

fn from_kernel_core(interpreter: &Interpreter, target: &mut Target, seen: &Report) -> Result<()> {
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
    let report = report_of(&arguments)?;
    report.agrees_with(target.account())?;
    same_frames(interpreter, seen, &report)?;
    is_core(&report, target)?;
    ensure!(report.json["process"]["signal"]["number"] == 6 || report.json["process"]["signal"] == "SIGABRT");
    is_whole(interpreter, &report)
}

/// The report of a snapshot whose native side may have lost something, since the target's files are not all at hand.
fn analyse_leniently(snapshot: &[u8]) -> Result<Report> {
    let pipeline = pyst_tests::Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]);
    let outputs = pipeline.run(snapshot)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

/// A core of a process that sleeps has the very frames, native ones too, that the living process had.
fn same_frames(interpreter: &Interpreter, live: &Report, core: &Report) -> Result<()> {
    for thread in live.threads() {
        let tid = thread.tid().context("no tid")?;
        let (live, core) = (comparable(interpreter, &thread), comparable(interpreter, &core.thread(tid)?));
        for (live, core) in live.iter().zip(&core) {
            ensure!(live == core, "thread {tid}: live {live:?}, core {core:?}");
        }
        ensure!(live.len() == core.len(), "thread {tid}: live {} frames, core {}", live.len(), core.len());
    }
    Ok(())
}

/// The frames without what a core cannot tell: when its process started, and so whether a source file is newer; and in which
/// root it ran, and so where the source is.
fn comparable(interpreter: &Interpreter, thread: &Thread<'_>) -> Vec<String> {
    let mut frames = thread.frames();
    for frame in frames.iter_mut().filter_map(|frame| frame.as_object_mut()) {
        frame.remove("source_newer");
        if interpreter.root.is_some() {
            frame.remove("source");
        }
    }
    frames.iter().map(ToString::to_string).collect()
}

fn is_core(report: &Report, target: &Target) -> Result<()> {
    ensure!(report.json["snapshot"]["source"] == "core");
    ensure!(report.json["process"]["pid"] == target.pid(), "pid {}", report.json["process"]["pid"]);
    Ok(())
}

/// Nothing was lost, and each Python frame has its place among the native ones.
fn is_whole(interpreter: &Interpreter, report: &Report) -> Result<()> {
    ensure!(report.json["snapshot"]["complete"] == true, "not complete: {}", report.json["diagnostics"]);
    let is_thrown_through = |frame: &Frame| frame.file.ends_with(THROWN_THROUGH);
    let frames = report.threads().iter().map(Thread::python_frames).collect::<Result<Vec<_>>>()?;
    let may_be_unplaced = interpreter.version < (3, 11) && frames.iter().flatten().any(is_thrown_through);
    let mut codes = report.codes();
    codes.retain(|code| !may_be_unplaced || code != "run-unplaced");
    ensure!(codes.is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    Ok(())
}
