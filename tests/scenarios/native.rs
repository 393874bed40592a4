//! Native stacks of small programs, one for each case that is hard to unwind: the frames are those that gdb finds, living and in
//! a core. Where gdb makes frames up, the program has written down where its functions return to.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    GdbFrame, Program, Report, Scenario, Thread, Tool, build, grab, has_program, kernel_cores_are_files,
    native_stacks_of_core, native_stacks_of_process, report_of, run, tool,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;
use tempfile::TempDir;

/// How to know the true stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Oracle {
    /// gdb's stack is right.
    Gdb,
    /// gdb guesses where there is no CFI. What the program wrote of itself is right.
    Program,
}
use Oracle::{Gdb, Program as Own};

/// A program and what must be seen of its main thread.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    source: &'static str,
    options: &'static [&'static str],
    arguments: &'static [&'static str],
    oracle: Oracle,
    /// Functions that must be there, outermost first, with others between.
    functions: &'static [&'static str],
    /// Why the stack ends.
    end: &'static str,
}

const CASE: Case =
    Case { name: "", source: "", options: &["-O2"], arguments: &[], oracle: Gdb, functions: &[], end: "complete" };
const WITHOUT_CFI: &[&str] = &["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions"];

const CASES: &[Case] = &[
    Case { name: "signal handler", source: "handler.c", functions: &["main", "interrupted", "on_signal"], ..CASE },
    Case {
        name: "handler on an alternate stack",
        source: "altstack.c",
        functions: &["main", "interrupted", "first", "second"],
        ..CASE
    },
    Case { name: "handler of a fault", source: "fault.c", functions: &["main", "outer", "fault", "on_fault"], ..CASE },
    Case {
        name: "fault in a handler",
        source: "nested_fault.c",
        functions: &["main", "interrupted", "on_signal", "on_fault"],
        ..CASE
    },
    Case { name: "realigned frames", source: "realigned.c", functions: &["main", "outer", "inner"], ..CASE },
    Case { name: "frames of variable size", source: "variable.c", functions: &["main", "outer", "inner"], ..CASE },
    Case {
        name: "calls that never return",
        source: "noreturn.c",
        functions: &["main", "outer", "middle", "last"],
        ..CASE
    },
    Case { name: "tail calls", source: "tail.c", functions: &["main", "last"], ..CASE },
    Case {
        name: "call through null",
        source: "wild_call.c",
        arguments: &["null"],
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "call to where nothing is mapped",
        source: "wild_call.c",
        arguments: &["unmapped"],
        oracle: Own,
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "call into data",
        source: "wild_call.c",
        arguments: &["data"],
        oracle: Own,
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "unoptimized",
        source: "plain.c",
        options: &["-O0"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: ".debug_frame only",
        source: "plain.c",
        options: &["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "compressed .debug_frame",
        source: "plain.c",
        options: &["-O2", "-g", "-gz", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "no CFI, frame pointer",
        source: "plain.c",
        options: &["-O2", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        oracle: Own,
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "no CFI, no frame pointer",
        source: "plain.c",
        options: WITHOUT_CFI,
        oracle: Own,
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "static",
        source: "plain.c",
        options: &["-O2", "-static"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case { name: "static and stripped", source: "plain.c", options: &["-O2", "-static", "-s"], ..CASE },
    Case { name: "stripped", source: "plain.c", options: &["-O2", "-s"], ..CASE },
    Case {
        name: "position-dependent",
        source: "plain.c",
        options: &["-O2", "-no-pie"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case { name: "deep recursion", source: "recursion.c", functions: &["main", "deeper", "deeper", "settle"], ..CASE },
    // glibc's __start_context has no CFI before its first instruction.
    Case {
        name: "stack of its own",
        source: "contexts.c",
        oracle: Own,
        functions: &["started"],
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "generated code with a frame pointer",
        source: "generated.c",
        arguments: &["frame"],
        oracle: Own,
        functions: &["main", "enter", "called"],
        ..CASE
    },
    Case {
        name: "generated code that returns",
        source: "generated.c",
        arguments: &["plain"],
        oracle: Own,
        functions: &["main", "enter", "called"],
        ..CASE
    },
    Case {
        name: "generated code that nobody can follow",
        source: "generated.c",
        arguments: &["neither"],
        oracle: Own,
        functions: &["called"],
        end: "no-module",
        ..CASE
    },
    Case {
        name: "exception caught",
        source: "exception.cpp",
        arguments: &["catch"],
        functions: &["main", "shapes::catches(int, bool)"],
        ..CASE
    },
    Case {
        name: "exception on its way",
        source: "exception.cpp",
        arguments: &["unwinding"],
        functions: &["main", "shapes::catches(int, bool)", "int shapes::passes<int>(int, bool)"],
        ..CASE
    },
    Case {
        name: "exception that nobody catches",
        source: "exception.cpp",
        arguments: &["terminate"],
        functions: &["main", "int shapes::passes<int>(int, bool)", "std::terminate()"],
        ..CASE
    },
    Case { name: "Rust panic", source: "panic.rs", options: &["-O"], functions: &["main", "panic::failing"], ..CASE },
];

impl Case {
    fn compiler(&self) -> &'static str {
        match self.source.rsplit('.').next() {
            Some("cpp") => "g++",
            Some("rs") => "rustc",
            _ => "gcc",
        }
    }

    fn start(&self) -> Result<Option<Program>> {
        let folder = folder()?;
        let program = build(self.compiler(), self.source, self.options, folder.path())?;
        Program::start(Command::new(program).args(self.arguments), folder)
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("pyst-native-").tempdir()?)
}

fn lacks(scenario: &Scenario, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has_program(program));
    if let Some(missing) = missing {
        scenario.skip("all", &format!("{missing} is not installed"));
    }
    missing.is_some()
}

#[test]
fn hard_cases_unwind_to_the_frames_that_are_there() {
    let scenario = Scenario::new("hard cases");
    if lacks(&scenario, &["gdb", "gcc", "g++"]) {
        return;
    }
    for case in CASES {
        if !has_program(case.compiler()) {
            scenario.skip(case.name, &format!("{} is not installed", case.compiler()));
            continue;
        }
        scenario.on(case.name, || {
            let program = case.start()?.context("it ended before it was ready")?;
            check(&program, case)
        });
    }
    scenario.finish();
}

/// Both the living process and a core of it.
fn check(program: &Program, case: &Case) -> Result<()> {
    let core = program.folder().join("gcore");
    let oracle = native_stacks_of_process(program.pid(), Some(&core))?;
    let live = report_of([program.pid().to_string()])?;
    check_report(&live, program, case, &oracle).context("living")?;
    check_report(&report_of([&core])?, program, case, &oracle).context("gcore")
}

fn check_report(report: &Report, program: &Program, case: &Case, oracle: &BTreeMap<u32, Vec<GdbFrame>>) -> Result<()> {
    let main = report.thread(program.pid())?;
    contains_functions(&main, case.functions)?;
    ensure!(main.json["stack_end"] == case.end, "the stack ends with {}: {:?}", main.json["stack_end"], shown(&main));
    match case.oracle {
        Gdb => {
            for (tid, frames) in oracle {
                same_frames(&report.thread(*tid)?, frames)?;
            }
        }
        Own => only_true_frames(&main, &program.return_addresses()?, case.end == "complete")?,
    }
    Ok(())
}

fn same_frames(thread: &Thread<'_>, gdb: &[GdbFrame]) -> Result<()> {
    let expected: Vec<u64> = gdb.iter().map(|frame| frame.pc).collect();
    ensure!(
        pcs(thread) == expected,
        "{:?}, gdb has {:?}",
        shown(thread),
        gdb.iter().map(|frame| (format!("{:#x}", frame.pc), &frame.name)).collect::<Vec<_>>()
    );
    Ok(())
}

/// The frames of functions that wrote of themselves are those that they wrote of: all of them, or the innermost ones.
pub(crate) fn only_true_frames(thread: &Thread<'_>, returns: &[u64], all: bool) -> Result<()> {
    let pcs = pcs(thread);
    let found: Vec<u64> = pcs.iter().copied().filter(|pc| returns.contains(pc)).collect();
    let is_right = if all { found == returns } else { returns.ends_with(&found) };
    ensure!(is_right, "{:?} do not have just {returns:x?}", shown(thread));
    Ok(())
}

pub(crate) fn contains_functions(thread: &Thread<'_>, functions: &[&str]) -> Result<()> {
    let frames = thread.frames();
    let mut names = frames.iter().filter_map(|frame| frame["function"].as_str());
    for function in functions {
        // gcc names copies and parts: `outer.constprop.0`, `f(int) [clone .cold]`.
        let is_it = |name: &str| {
            name == *function || name.strip_prefix(function).is_some_and(|rest| rest.starts_with(['.', ' ']))
        };
        ensure!(names.any(is_it), "{function} is missing: {:?}", shown(thread));
    }
    Ok(())
}

pub(crate) fn pcs(thread: &Thread<'_>) -> Vec<u64> {
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    thread.native_frames().iter().filter_map(|frame| address(frame["address"].as_str()?)).collect()
}

/// For messages; of a deep stack both ends.
pub(crate) fn shown(thread: &Thread<'_>) -> Vec<String> {
    let text =
        |frame: &serde_json::Value| format!("{} {} by {}", frame["address"], frame["function"], frame["found_by"]);
    let all: Vec<String> = thread.native_frames().iter().map(text).collect();
    if all.len() <= 60 { all } else { [&all[..30], &all[all.len() - 30..]].concat() }
}

#[test]
fn a_thread_can_stop_at_any_instruction_of_a_plt_the_vdso_and_a_function() {
    let scenario = Scenario::new("single steps");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    let options: &[&str] = &["-O2", "-fcf-protection=none", "-Wl,-z,lazy", "-Wl,-z,norelro"];
    let plt: &[&str] = &["0", "1", "2", "3", "4"];
    let vdso: &[&str] = &["0", "1", "2", "5", "10", "20"];
    let code: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "8", "10", "20", "76", "80", "82", "84", "86", "88", "90"];
    for (place, counts) in [("plt", plt), ("vdso", vdso), ("code", code)] {
        let mut reached = 0;
        for count in counts {
            scenario.on(&format!("{place} {count}"), || {
                let folder = folder()?;
                let program = build("gcc", "step.c", options, folder.path())?;
                // Past the last instruction it ends.
                let Some(program) = Program::start(Command::new(program).args([place, count]), folder)? else {
                    return Ok(());
                };
                reached += 1;
                let functions = if place == "code" { &["main", "stepped", "work"][..] } else { &["main", "stepped"] };
                check(&program, &Case { functions, ..CASE })
            });
        }
        scenario.on(place, || {
            ensure!(reached > 3, "only {reached} of its instructions were reached");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn the_loader_may_be_in_the_middle_of_binding_a_function() {
    let scenario = Scenario::new("lazy binding");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    scenario.on("resolver of an indirect function", || {
        let folder = folder()?;
        let library = build("gcc", "lazy_library.c", &["-O2", "-shared", "-fPIC", "-Wl,-z,lazy"], folder.path())?;
        let library = library.to_str().context("path")?;
        let program = build("gcc", "lazy.c", &["-O2", library, "-Wl,-z,lazy"], folder.path())?;
        let program = Program::start(Command::new(program).env("PYST_SETTLE", "1"), folder)?.context("it ended")?;
        check(&program, &Case { functions: &["main", "_dl_fixup", "settle"], ..CASE })
    });
    scenario.finish();
}

#[test]
fn a_parent_that_waits_for_its_vforked_child_is_let_be() {
    let scenario = Scenario::new("vfork");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("pyst-grab", || {
        let program = Case { source: "vfork.c", ..CASE }.start()?.context("it ended")?;
        // It cannot be stopped, by nobody.
        let pid = program.pid().to_string();
        let output = run(tool(Tool::Grab).args(["--stop-limit=100", &pid]))?.expect_status(3)?;
        let report = partial_report(&output.stdout)?;
        ensure!(report.codes().contains(&"thread-not-stopped".to_owned()), "{:?}", report.codes());
        ensure!(report.thread(program.pid())?.frames().is_empty(), "frames from nowhere");
        Ok(())
    });
    scenario.finish();
}

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
        check(&program, &Case { functions: &["main", "middle", "innermost"], ..CASE })
    });
    scenario.finish();
}

#[test]
fn a_library_that_was_loaded_late_has_frames() {
    let scenario = Scenario::new("dlopen");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    scenario.on("dlopen", || {
        let folder = folder()?;
        let library = build("gcc", "dlopen_library.c", &["-O2", "-shared", "-fPIC"], folder.path())?;
        let program = build("gcc", "dlopen.c", &["-O2"], folder.path())?;
        let program = Program::start(Command::new(program).arg(library), folder)?.context("it ended")?;
        check(&program, &Case { functions: &["main", "call_back", "settled"], ..CASE })
    });
    scenario.finish();
}

#[test]
fn a_process_that_is_no_python_gets_its_native_report() {
    let scenario = Scenario::new("no Python");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("pyst-grab", || {
        let case = Case { source: "plain.c", ..CASE };
        let program = case.start()?.context("it ended")?;
        let output = grab([program.pid().to_string()])?.expect_status(0)?;
        ensure!(output.stderr.is_empty(), "{}", output.stderr);
        contains_functions(
            &pyst_tests::analyse(&output.stdout)?.thread(program.pid())?,
            &["main", "outer", "innermost"],
        )
    });
    scenario.finish();
}

#[test]
fn cores_of_the_kernel_have_the_frames_of_the_crash() {
    let scenario = Scenario::new("hard cases, kernel core");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    if let Err(reason) = kernel_cores_are_files() {
        return scenario.skip("all", &reason);
    }
    let cases: [(&str, &[&str]); 4] = [
        ("crash.c", &["main", "on_signal", "outer", "fault"]),
        ("altstack.c", &["main", "interrupted", "first", "second"]),
        ("realigned.c", &["main", "outer", "inner"]),
        ("bad_threads.c", &["main", "settle"]),
    ];
    for (source, functions) in cases {
        scenario.on(source, || {
            let case = Case { source, functions, ..CASE };
            let mut program = case.start()?.context("it ended")?;
            let signal = if source == "crash.c" { Signal::SIGUSR2 } else { Signal::SIGABRT };
            let core = program.kernel_core(signal)?;
            let exe = program.folder().join(source.trim_end_matches(".c"));
            let oracle = native_stacks_of_core("gdb", &exe, &core)?;
            let report = if source == "bad_threads.c" { partial_report_of(&[&core])? } else { report_of([&core])? };
            let main = report.thread(program.pid())?;
            contains_functions(&main, functions)?;
            same_frames(&main, oracle.get(&program.pid()).context("gdb does not know the thread")?)
        });
    }
    scenario.finish();
}

/// The report of stages that may end with 3.
fn partial_report_of<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Report> {
    let snapshot = grab(arguments)?;
    ensure!(matches!(snapshot.status, Some(0 | 3)), "pyst-grab: {:?} {}", snapshot.status, snapshot.said()?);
    partial_report(&snapshot.stdout)
}

fn partial_report(snapshot: &[u8]) -> Result<Report> {
    let pipeline = pyst_tests::Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]);
    let outputs = pipeline.run(snapshot)?;
    Report::parse(&outputs.last().context("no stage")?.stdout)
}

#[test]
fn a_bad_thread_costs_the_others_nothing() {
    let scenario = Scenario::new("bad threads");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    scenario.on("living", || {
        let case = Case { source: "bad_threads.c", options: &["-O1", "-fno-omit-frame-pointer"], ..CASE };
        let program = case.start()?.context("it ended")?;
        let report = partial_report_of(&[program.pid().to_string()])?;
        let oracle = native_stacks_of_process(program.pid(), None)?;
        let named = |name: &str| {
            let of_name = |thread: &Thread<'_>| thread.json["os_name"] == name;
            report.threads().into_iter().find(of_name).with_context(|| format!("no thread {name}"))
        };
        for name in ["good-1", "good-2"] {
            let thread = named(name)?;
            contains_functions(&thread, &["good", "sleep_well"])?;
            ensure!(thread.json["stack_end"] == "complete", "{name} ends with {}", thread.json["stack_end"]);
            same_frames(&thread, &oracle[&thread.tid().context("tid")?])?;
        }
        same_frames(&report.thread(program.pid())?, &oracle[&program.pid()])?;
        contains_functions(&named("vdso")?, &["spin"])?;
        ensure!(named("vdso")?.json["stack_end"] == "complete", "vdso: {:?}", shown(&named("vdso")?));
        let bad: [(&str, &[&str], &[&str], usize); 5] = [
            ("garbage-sp", &["stack-did-not-grow", "unreadable"], &["garbage_sp"], 1),
            ("null-sp", &["unreadable", "not-recorded"], &["null_sp"], 1),
            ("unmapped-return", &["no-module"], &["unmapped_return", "sleep_well"], 3),
            ("odd-return", &["no-module", "no-cfi"], &["odd_return", "sleep_well"], 4),
            ("looping", &["loop", "stack-did-not-grow", "no-cfi"], &["loop_frames"], 8),
        ];
        for (name, ends, functions, most) in bad {
            let thread = named(name)?;
            contains_functions(&thread, functions)?;
            let end = thread.json["stack_end"].as_str().unwrap_or_default();
            ensure!(ends.contains(&end), "{name} ends with {end}: {:?}", shown(&thread));
            ensure!(pcs(&thread).len() <= most, "{name} has made-up frames: {:?}", shown(&thread));
        }
        Ok(())
    });
    scenario.finish();
}
