//! The exception that each thread is handling, and where it was raised, against what the thread itself says of it by
//! `sys.exc_info()`, `str()`, `repr()` and its traceback.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, analyse, gcore, grab, has_program, interpreters, report_of,
    representatives,
};
use serde_json::{Value, json};
use std::fs;

/// How many characters of a string a message has at least, if the exception says more.
const SHOWN: usize = 1000;

/// What the target's threads say, by their names.
fn told(target: &Target) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(target.folder().join("exceptions.json"))?)?)
}

/// Compares all threads; how many were handling an exception.
fn agrees(report: &Report, target: &Target) -> Result<usize> {
    let told = told(target)?;
    let mut compared = 0;
    for thread in &target.account().threads {
        let own = &told[&thread.name];
        let found = report.thread(thread.tid)?.json;
        let exception = &found["exception"];
        ensure!(
            *exception == found["python_states"][0]["exception"],
            "{}: {exception} is not the state's",
            thread.name
        );
        one_agrees(exception, own).with_context(|| format!("{}: {exception}, not {own}", thread.name))?;
        compared += usize::from(!own.is_null());
    }
    Ok(compared)
}

fn one_agrees(exception: &Value, own: &Value) -> Result<()> {
    if own.is_null() {
        ensure!(exception.is_null(), "there is none");
        return Ok(());
    }
    for name in ["type", "file", "line", "function"] {
        ensure!(exception[name] == own[name], "{name}");
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (message, repr) = (text(&exception["message"]), text(&exception["repr"]).context("no repr")?);
    let (own_message, own_repr) = (text(&own["message"]).context("no text")?, text(&own["repr"]).context("no repr")?);
    let truncated = exception["truncated"] == true;
    match message {
        None => ensure!(own["known"] == false, "the message"),
        Some(message) if truncated => {
            ensure!(message.chars().count() == SHOWN && own_message.starts_with(&message), "the start of the message");
        }
        Some(message) => ensure!(own["known"] == true && message == own_message, "the message"),
    }
    // A value of a class derived from `str` is shown with its class, and a long one by its start. 3.15 writes of an
    // ImportError what it is about, too.
    let is_short = repr.contains("__main__.Text(") || own_repr.chars().count() > 200;
    let is_start = own_repr.starts_with("ModuleNotFoundError(") && own_repr.starts_with(repr.trim_end_matches(')'));
    ensure!(is_short || is_start || repr == own_repr, "repr");
    Ok(())
}

fn enough(compared: usize) -> Result<()> {
    ensure!(compared > 40, "{compared} only");
    Ok(())
}

#[test]
fn each_thread_shows_the_exception_that_it_handles_and_where_it_was_raised() {
    let scenario = Scenario::new("exceptions");
    for interpreter in interpreters() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "exceptions.py", &[])?;
            let report = analyse(&grab(["--python-only", &target.pid().to_string()])?.snapshot()?)?;
            enough(agrees(&report, &target)?)?;
            ensure!(
                !report.codes().iter().any(|code| code.starts_with("exception-")),
                "{}",
                report.json["diagnostics"]
            );
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_core_shows_the_exceptions_too() {
    let scenario = Scenario::new("exceptions, cores");
    if !has_program("gcore") {
        scenario.skip("all", "gdb is not installed");
        return;
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "exceptions.py", &[])?;
            enough(agrees(&report_of([gcore(&target)?])?, &target)?)
        });
    }
    scenario.finish();
}

#[test]
fn the_text_says_it_in_one_line_after_the_innermost_frame() {
    let scenario = Scenario::new("exceptions, text");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || check_text(interpreter));
    }
    scenario.finish();
}

fn check_text(interpreter: &Interpreter) -> Result<()> {
    let target = Target::start(interpreter, "exceptions.py", &[])?;
    let snapshot = grab(["--python-only", &target.pid().to_string()])?.snapshot()?;
    let outputs = Pipeline::with_local_files(&[]).run(&snapshot)?;
    let text = String::from_utf8(outputs.last().context("no output")?.stdout.clone())?;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("    Handling ")).collect();
    let told = told(&target)?;
    let handling = told.as_object().context("no account")?.values().filter(|own| !own.is_null()).count();
    ensure!(lines.len() == handling, "{} lines for {handling} exceptions", lines.len());
    for (own, expected) in [
        ("plain", "ValueError: bad value"),
        ("no_argument", "ValueError"),
        ("a_key", "KeyError: 'spam'"),
        ("a_file", "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'"),
        ("controls", "ValueError: a\\nb\\x1b[31m\\x00"),
        ("speaks", "__main__.Speaks [Speaks('arguments', 1)]"),
    ] {
        let own = &told[own];
        let (file, line, function) = (own["file"].as_str(), &own["line"], own["function"].as_str());
        let (file, function) = (file.context("no file")?, function.context("no function")?);
        let expected = format!("    Handling {expected} (raised at File \"{file}\", line {line}, in {function})");
        ensure!(lines.contains(&expected.as_str()), "no {expected} among {lines:#?}");
    }
    ensure!(lines.iter().all(|line| line.chars().count() < 400), "{lines:#?}");
    ensure!(told["nothing"] == json!(null) && told["left"] == json!(null), "{told}");
    Ok(())
}
