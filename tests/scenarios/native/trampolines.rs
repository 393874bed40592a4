//! `python -X perf` calls each Python function through code of its own in anonymous memory, and tells `perf` of it in a file. Stacks go
//! through that code, and each piece lies where the function that it was made for is called.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Scenario, Target, gcore, has_program, report_of, representatives};
use std::path::PathBuf;

/// The file of `perf`, which nobody else removes.
struct PerfMap(PathBuf);

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn stacks_go_through_the_trampolines_of_python_functions() {
    let scenario = Scenario::new("trampolines of -X perf");
    let with_trampolines = || representatives().iter().filter(|one| one.version >= (3, 12));
    if with_trampolines().next().is_none() {
        return scenario.skip("all", "no interpreter of 3.12 or later");
    }
    for interpreter in with_trampolines() {
        scenario.on(&interpreter.name, || check(interpreter));
    }
    scenario.finish();
}

fn check(interpreter: &Interpreter) -> Result<()> {
    let target = Target::start(interpreter, "trampolines.py", &[])?;
    let root = interpreter.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let map = PerfMap(root.join(format!("tmp/perf-{}.map", target.pid())));
    let told = std::fs::read_to_string(&map.0).with_context(|| format!("no {}", map.0.display()))?;
    check_stack(&target, &told, &target.pid().to_string()).context("living")?;
    if has_program("gcore") && interpreter.root.is_none() {
        let core = gcore(&target)?;
        check_stack(&target, &told, core.to_str().context("path")?).context("gcore")?;
    }
    Ok(())
}

fn check_stack(target: &Target, told: &str, subject: &str) -> Result<()> {
    let report = report_of([subject])?;
    report.agrees_with(target.account())?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let thread = report.thread(target.pid())?;
    ensure!(thread.json["stack_end"] == "complete", "the stack ends with {}", thread.json["stack_end"]);
    let python: Vec<String> = target.account().threads[0].frames.iter().map(|frame| frame.function.clone()).collect();
    // What runs the file was called before there were trampolines.
    let expected: Vec<&str> = python.iter().map(String::as_str).filter(|name| *name != "<module>").collect();
    ensure!(expected == ["outer", "key", "innermost"], "the target is in {expected:?}");
    let frames = thread.native_frames();
    let generated = frames.iter().filter(|frame| frame["module"].is_null());
    let found: Vec<&str> = generated
        .map(|frame| {
            let address = frame["address"].as_str().unwrap_or_default();
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap_or_default();
            made_for(told, address).unwrap_or("nothing that perf was told of")
        })
        .collect();
    ensure!(found == expected, "trampolines of {found:?}, instead of {expected:?}");
    // Each right outside of its function.
    let frames = thread.frames();
    let kinds: Vec<(bool, &str)> = frames
        .iter()
        .filter(|frame| frame["kind"] == "python" || frame["module"].is_null())
        .map(|frame| (frame["kind"] == "python", frame["function"].as_str().unwrap_or_default()))
        .collect();
    let order = [(true, "<module>"), (false, ""), (true, "outer"), (false, ""), (true, "key"), (false, "")];
    ensure!(kinds.starts_with(&order), "they come as {kinds:?}");
    Ok(())
}

/// The function that the code at `address` was made for: `START SIZE py::NAME:FILE`.
fn made_for(told: &str, address: u64) -> Option<&str> {
    told.lines().find_map(|line| {
        let (start, rest) = line.split_once(' ')?;
        let (size, name) = rest.split_once(' ')?;
        let start = u64::from_str_radix(start.trim_start_matches("0x"), 16).ok()?;
        let size = u64::from_str_radix(size.trim_start_matches("0x"), 16).ok()?;
        (start..start + size).contains(&address).then(|| name.strip_prefix("py::")?.split(':').next())?
    })
}
