//! numpy, installed from PyPI into the cache of the tests: Python calls numpy, which calls Python, three times over.

use super::cores;
use super::oracle::{check_between, check_threads};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Scenario, Target, cache, has_program, interpreters, native_stacks, report_of, run};
use std::path::PathBuf;

/// One of each way to place a run: by registers, by `_PyCFrame`, by shim frame; and a Python without symbols.
const INTERPRETERS: [&str; 4] = ["pyenv 3.8.", "pyenv 3.11.", "pyenv 3.12.", "debian 3.11."];

#[test]
fn numpy_that_calls_back() {
    let scenario = Scenario::new("merge: numpy");
    if !has_program("gdb") || !has_program("readelf") {
        scenario.skip("all", "gdb or binutils is not installed");
        return;
    }
    let is_one = |one: &&Interpreter| INTERPRETERS.iter().any(|few| one.name.starts_with(few)) && !one.is_variant();
    for interpreter in interpreters().iter().filter(is_one) {
        match with_package(interpreter, "numpy") {
            Ok(with_numpy) => scenario.on(&interpreter.name, || check(&with_numpy)),
            Err(error) => scenario.skip(&interpreter.name, &format!("numpy could not be installed: {error:#}")),
        }
    }
    scenario.finish();
}

fn check(interpreter: &Interpreter) -> Result<()> {
    let mut target = Target::start(interpreter, "numpy_calls.py", &[])?;
    let report = report_of([target.pid().to_string()])?;
    report.agrees_with(target.account())?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let oracle = native_stacks(interpreter, target.pid())?;
    ensure!(check_threads(interpreter, &target, &report, &oracle, false)? == 0, "frames have no place");
    // numpy's functions have names in its own `.symtab`, whatever Python has.
    let named = Interpreter { stripped: false, ..interpreter.clone() };
    let operation: &[&str] = &["PyUFunc_OO_O"];
    check_between(&named, &report, &oracle, ("add", operation, "__add__"))?;
    check_between(&named, &report, &oracle, ("add", &["ufunc_generic_fastcall"], "__add__"))?;
    check_between(&named, &report, &oracle, ("_vectorize_call", &["ufunc_generic_fastcall"], "add"))?;
    cores::have_the_same_stacks(interpreter, &mut target, &report)
}

/// The interpreter with a package of PyPI, and what that needs, on its path.
pub(crate) fn with_package(interpreter: &Interpreter, package: &str) -> Result<Interpreter> {
    let folder = installed(interpreter, package)?;
    let mut with_numpy = interpreter.clone();
    // Its linear algebra would start a thread for each processor.
    with_numpy.env.push(("OPENBLAS_NUM_THREADS".to_owned(), "1".into()));
    with_numpy.env.push(("PYTHONPATH".to_owned(), folder.into()));
    Ok(with_numpy)
}

fn installed(interpreter: &Interpreter, package: &str) -> Result<PathBuf> {
    let all = cache().join(package);
    let folder = all.join(interpreter.name.replace(' ', "-"));
    if folder.join(package).is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&all)?;
    let scratch = tempfile::tempdir_in(&all)?;
    let mut pip = interpreter.command();
    pip.args(["-s", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]);
    pip.args(["--only-binary=:all:", "--retries=1", "--timeout=20", "--target"]).arg(scratch.path()).arg(package);
    // Which package index, and through which proxy, is the machine's affair.
    let is_for_pip = |name: &str| name.starts_with("PIP_") || name.to_ascii_lowercase().ends_with("_proxy");
    pip.envs(std::env::vars().filter(|(name, _)| is_for_pip(name)));
    pip.envs(std::env::vars_os().filter(|(name, _)| name == "HOME" || name == "SSL_CERT_FILE"));
    let output = run(&mut pip)?;
    let complaint = output.stderr.lines().last().unwrap_or_default().to_owned();
    output.expect_status(0).with_context(|| complaint)?;
    let whole = scratch.keep();
    if let Err(error) = std::fs::rename(&whole, &folder) {
        // Another test run was faster.
        std::fs::remove_dir_all(&whole)?;
        ensure!(folder.join(package).is_dir(), "{}: {error}", folder.display());
    }
    Ok(folder)
}
