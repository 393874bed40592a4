//! An extension module in C++: its functions lie between the Python functions that call them and that they call, with their
//! names demangled, overloads told apart by their parameters, and lines and inlined functions where there is debug information.

use super::cores;
use super::oracle::{Between, check_between, check_threads, text};
use anyhow::{Context, Result, ensure};
use pyst_tests::{
    GdbFrame, Interpreter, Report, Scenario, Target, build, has_program, interpreters, native_stacks, report_of, run,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What lies between the Python functions.
const CALLS: [Between; 4] = [
    ("begin", &["outer::inner::call(_object*, int)"], "from_int"),
    ("from_int", &["outer::inner::call(_object*, double)"], "from_double"),
    ("from_double", &["outer::Caller::operator()(char const*) const"], "from_method"),
    ("from_method", &["long outer::sleep_long<long>(long)"], ""),
];

#[test]
fn an_extension_in_cpp() {
    let scenario = Scenario::new("merge: C++ extension");
    if !["gdb", "g++", "readelf"].iter().all(|one| has_program(one)) {
        scenario.skip("all", "gdb, g++ or binutils is not installed");
        return;
    }
    for interpreter in interpreters().iter().filter(|one| !one.jit) {
        match include_folder(interpreter) {
            Ok(Some(include)) => {
                for option in ["-g", "-g0"] {
                    scenario.on(&format!("{}, {option}", interpreter.name), || check(interpreter, &include, option));
                }
            }
            Ok(None) => scenario.skip(&interpreter.name, "its headers are not installed"),
            Err(error) => scenario.on(&interpreter.name, || Err(error)),
        }
    }
    scenario.finish();
}

/// Where its headers are, if they are: the folder may be there for a single one.
fn include_folder(interpreter: &Interpreter) -> Result<Option<PathBuf>> {
    let program = "import sysconfig; print(sysconfig.get_paths()['include'])";
    let folder = run(interpreter.command().args(["-s", "-c", program]))?.expect_status(0)?.text();
    let folder = interpreter.outside(Path::new(folder.trim()));
    Ok(folder.join("Python.h").exists().then_some(folder))
}

fn check(interpreter: &Interpreter, include: &Path, option: &str) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pyst-extension-").tempdir_in(interpreter.temporary())?;
    let include = format!("-I{}", include.display());
    let options = [option, "-O1", "-std=c++14", "-shared", "-fPIC", "-Wno-register", &include];
    let built = build("g++", "extension.cpp", &options, folder.path())?;
    std::fs::rename(&built, built.with_extension("so"))?;
    let mut with_path = interpreter.clone();
    with_path.env.push(("PYTHONPATH".to_owned(), interpreter.inside(folder.path()).into()));

    let mut target = Target::start(&with_path, "extension_calls.py", &[])?;
    let report = report_of([target.pid().to_string()])?;
    report.agrees_with(target.account())?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let oracle = native_stacks(interpreter, target.pid())?;
    ensure!(check_threads(interpreter, &target, &report, &oracle, false)? == 0, "frames have no place");
    // The extension has symbols, whether the interpreter has some or not.
    let named = Interpreter { stripped: false, ..interpreter.clone() };
    for between in CALLS {
        check_between(&named, &report, &oracle, between)?;
    }
    if option == "-g" {
        check_between(&named, &report, &oracle, ("from_method", &["outer::pause_for(long)"], ""))?;
    }
    same_lines(
        &report,
        oracle.get(&target.pid()).context("gdb does not know the thread")?,
        target.pid(),
        option == "-g",
    )?;
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}

/// The extension's frames have the files and lines that gdb has, those inlined too.
fn same_lines(report: &Report, gdb: &[GdbFrame], tid: u32, has_lines: bool) -> Result<()> {
    let is_ours = |frame: &&Value| text(&frame["module"]).ends_with("/extension.so");
    let frames = report.thread(tid)?.frames();
    let place = |file: Option<&str>, line: Option<u64>| (file.map(ToOwned::to_owned), line);
    let have: Vec<_> =
        frames.iter().filter(is_ours).map(|frame| place(frame["file"].as_str(), frame["line"].as_u64())).collect();
    let theirs = gdb.iter().filter(|frame| frame.module.as_ref().is_some_and(|path| path.ends_with("/extension.so")));
    let calls = theirs.flat_map(|frame| frame.calls.iter().rev());
    let want: Vec<_> = calls.map(|call| place(call.file.as_deref(), call.line.map(u64::from))).collect();
    ensure!(have == want, "{have:?}, gdb has {want:?}");
    ensure!(have.iter().all(|(_, line)| line.is_some() == has_lines) && have.len() >= 8, "frames: {have:?}");
    Ok(())
}
