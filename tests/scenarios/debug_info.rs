//! Lines and inlined functions of native frames are those that gdb finds, and a snapshot that took them along says the same
//! elsewhere.

use crate::empty_root::EmptyRoot;
use anyhow::{Context, Result, ensure};
use pyst_tests::{
    GdbCall, Interpreter, Pipeline, Scenario, Target, Thread, grab, has_program, native_stacks, report_of,
    representatives,
};

const TARGETS: [&str; 3] = ["five_frames.py", "eight_threads.py", "ctypes_callback.py"];

/// Those whose libpython has debug information.
fn with_debug_info() -> impl Iterator<Item = &'static Interpreter> {
    representatives().iter().filter(|one| one.name.starts_with("pyenv ") && !one.stripped)
}

#[test]
fn lines_and_inlined_functions_are_those_that_gdb_finds() {
    let scenario = Scenario::new("lines and inlined functions");
    if !has_program("gdb") {
        return scenario.skip("all", "gdb is not installed");
    }
    if with_debug_info().next().is_none() {
        return scenario.skip("all", "no interpreter of pyenv, and so none with debug information");
    }
    for interpreter in with_debug_info() {
        for script in TARGETS {
            scenario.on(&format!("{}, {script}", interpreter.name), || {
                let target = Target::start(interpreter, script, &[])?;
                let report = report_of([target.pid().to_string()])?;
                let oracle = native_stacks(interpreter, target.pid())?;
                let mut inlined = 0;
                for thread in &target.account().threads {
                    let gdb = oracle.get(&thread.tid).context("gdb does not know the thread")?;
                    // Outermost first, as the report has them.
                    let expected: Vec<&GdbCall> = gdb.iter().flat_map(|frame| frame.calls.iter().rev()).collect();
                    inlined += compare(&report.thread(thread.tid)?, &expected)?;
                }
                ensure!(inlined > 0, "no inlined function at all");
                Ok(())
            });
        }
    }
    scenario.finish();
}

/// How many inlined functions there are.
fn compare(thread: &Thread<'_>, expected: &[&GdbCall]) -> Result<usize> {
    let frames: Vec<_> = thread.frames().into_iter().filter(|frame| frame["kind"] == "native").collect();
    ensure!(
        frames.len() == expected.len(),
        "{} calls, gdb has {}: {frames:?}, {expected:?}",
        frames.len(),
        expected.len()
    );
    for (frame, expected) in frames.iter().zip(expected) {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let function = frame["function"].as_str().map(base);
        // A function of libc has many names: gdb tells the one it has inside (`__GI___libc_read`).
        let has_aliases =
            frame["inlined"] != true && frame["module"].as_str().is_some_and(|path| path.contains("/libc.so"));
        ensure!(has_aliases || function == expected.name.as_deref().map(base), "{frame}, gdb has {expected:?}");
        ensure!(frame["line"].as_u64() == expected.line.map(u64::from), "{frame}, gdb has {expected:?}");
        let file = frame["file"].as_str().map(name);
        ensure!(file == expected.file.as_deref().map(name), "{frame}, gdb has {expected:?}");
    }
    Ok(frames.iter().filter(|frame| frame["inlined"] == true).count())
}

/// Without what gcc appends to copies and parts.
fn base(function: &str) -> &str {
    function.split('.').next().unwrap_or_default()
}

#[test]
fn debug_information_that_was_taken_along_says_the_same_elsewhere() {
    let scenario = Scenario::new("debug information taken along");
    let root = match EmptyRoot::new() {
        Ok(root) => root,
        Err(reason) => return scenario.skip("all", &format!("{reason:#}")),
    };
    for interpreter in representatives() {
        for script in TARGETS {
            scenario.on(&format!("{}, {script}", interpreter.name), || {
                let target = Target::start(interpreter, script, &[])?;
                let snapshot = grab(["--debug-info", &target.pid().to_string()])?.snapshot()?;
                let plain = grab([target.pid().to_string()])?.snapshot()?;
                let has_lines = with_debug_info().any(|one| one.name == interpreter.name);
                for format in ["text", "json"] {
                    let options = &["--format", format, "--all-threads"][..];
                    let of = |snapshot: &[u8], pipeline: &Pipeline| -> Result<String> {
                        let outputs = pipeline.run(snapshot)?;
                        let last = outputs.last().context("no stage")?;
                        Ok(String::from_utf8_lossy(&last.stdout).into_owned())
                    };
                    let with_files = Pipeline::with_local_files(options);
                    let (here, there) = (of(&snapshot, &with_files)?, of(&snapshot, &root.pipeline(options))?);
                    let has_some =
                        if format == "text" { here.contains("(inlined)") } else { here.contains("main.c\"") };
                    ensure!(has_some || !has_lines, "nothing of it: {here}");
                    ensure!(!here.is_empty() && here == there, "here {here}\nthere {there}");
                    // But for how long a thread sleeps, the text has no times in it: so does a snapshot without, where the
                    // files are.
                    let timeless = |text: &str| {
                        text.lines()
                            .filter(|line| !line.starts_with("    (Kernel) "))
                            .fold(String::new(), |all, line| all + line + "\n")
                    };
                    let (without, there) = (timeless(&of(&plain, &with_files)?), timeless(&there));
                    ensure!(format != "text" || without == there, "without {without}\nthere {there}");
                }
                Ok(())
            });
        }
    }
    scenario.finish();
}
