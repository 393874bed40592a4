//! Arguments and locals: values made by chance are shown as `repr()` in the target itself spells them, or in the short form that the
//! manual page states; live and from cores, on each interpreter there is.

use crate::random::seed;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, gcore_and_whether_whole, grab, has_program, interpreters,
    kernel_core, kernel_cores_are_files,
};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;

/// How many programs each interpreter runs.
const PROGRAMS: u64 = 3;

#[test]
fn values_made_by_chance_are_what_the_target_says_they_are() {
    let scenario = Scenario::new("values");
    let mut compared = 0;
    for interpreter in interpreters().iter().filter(|one| !one.name.ends_with(" stripped")) {
        for program in 0..PROGRAMS {
            let seed = seed().wrapping_mul(1009).wrapping_add(program);
            let circumstance = format!("{}, values.py {seed}", interpreter.name);
            scenario.on(&circumstance, || {
                compared += check(interpreter, seed, program == 0)?;
                Ok(())
            });
        }
    }
    scenario.figure("all", &format!("{compared} values compared"));
    scenario.finish();
}

fn check(interpreter: &Interpreter, seed: u64, cores: bool) -> Result<usize> {
    let mut target = Target::start(interpreter, "values.py", &[&seed.to_string()])?;
    let expected: Vec<Value> = serde_json::from_slice(&fs::read(target.folder().join("values.json"))?)?;
    let mut compared = same(&report(&[target.pid().to_string().into()])?, &expected).context("live")?;
    if cores && has_program("gcore") {
        let (core, whole) = gcore_and_whether_whole(&target)?;
        if whole {
            compared += same(&report(&[core.into_os_string()])?, &expected).context("gcore")?;
        }
    }
    if cores && kernel_cores_are_files().is_ok() {
        let mut arguments = vec![kernel_core(&mut target, Signal::SIGABRT)?.into_os_string()];
        arguments.extend(interpreter.root.is_some().then(|| interpreter.host_exe().into_os_string()));
        compared += same(&report(&arguments)?, &expected).context("kernel core")?;
    }
    Ok(compared)
}

fn report(target: &[OsString]) -> Result<Report> {
    let arguments = ["--locals", "--python-only"].map(OsString::from);
    let snapshot = grab(arguments.iter().chain(target))?.stdout;
    let outputs = Pipeline::from_snapshot_only(&["--format", "json"]).run(&snapshot)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

/// Compares the variables of the function `holder`, in order.
fn same(report: &Report, expected: &[Value]) -> Result<usize> {
    let frames = report.threads().into_iter().flat_map(|thread| thread.frames());
    let holder = frames.into_iter().find(|frame| frame["function"] == "holder").context("no frame of `holder`")?;
    let list = |name: &str| holder[name].as_array().cloned().with_context(|| format!("no {name}"));
    let found: Vec<Value> = list("arguments")?.into_iter().chain(list("locals")?).collect();
    for (want, have) in expected.iter().zip(&found) {
        let differs = ["name", "kind", "type", "repr"].iter().any(|field| want[field] != have[field]);
        ensure!(!differs && have["truncated"] == false, "wanted {want}\n     has {have}");
    }
    ensure!(found.len() == expected.len(), "{} variables instead of {}", found.len(), expected.len());
    let codes = report.codes();
    ensure!(codes.iter().all(|code| !code.starts_with("locals")), "diagnostics: {codes:?}");
    Ok(found.len())
}
