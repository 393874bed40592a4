//! Arguments and locals: values made by chance are shown as `repr()` in the target itself spells them, or in the short form that the
//! manual page states; live and from cores, on each interpreter there is.

use crate::merge::with_package;
use crate::random::{Random, seed};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_capture::{Options, Target as CaptureTarget, capture};
use pyst_memory::Image;
use pyst_snapshot::payload::{Memory, Runtime, ValueAbsence, Variable};
use pyst_snapshot::{Address, StreamReader};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, gcore_and_whether_whole, grab, has_program, interpreters,
    kernel_core, kernel_cores_are_files, representatives,
};
use serde_json::Value;
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

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

fn holder(report: &Report) -> Result<Value> {
    let mut frames = report.threads().into_iter().flat_map(|thread| thread.frames());
    frames.find(|frame| frame["function"] == "holder").context("no frame of `holder`")
}

/// Compares the variables of the function `holder`, in order.
fn same(report: &Report, expected: &[Value]) -> Result<usize> {
    let holder = holder(report)?;
    let list = |name: &str| holder[name].as_array().cloned().with_context(|| format!("no {name}"));
    let found: Vec<Value> = list("arguments")?.into_iter().chain(list("locals")?).collect();
    for (want, have) in expected.iter().zip(&found) {
        let differs = ["name", "kind", "type", "repr", "truncated"].iter().any(|field| want[field] != have[field]);
        ensure!(!differs, "wanted {want}\n     has {have}");
    }
    ensure!(found.len() == expected.len(), "{} variables instead of {}", found.len(), expected.len());
    let codes = report.codes();
    ensure!(codes.iter().all(|code| !code.starts_with("locals")), "diagnostics: {codes:?}");
    Ok(found.len())
}

#[test]
fn arrays_and_scalars_of_numpy_are_shown_by_their_elements() {
    with_packages(
        "values of numpy",
        "numpy",
        "numpy_values.py",
        &["pyenv 3.8.", "pyenv 3.11.", "pyenv 3.12.", "debian 3.11."],
    );
}

#[test]
fn tables_of_pandas_are_shown_by_their_shape() {
    with_packages("values of pandas", "pandas", "pandas_values.py", &["pyenv 3.12."]);
}

fn with_packages(name: &'static str, package: &str, script: &str, only: &[&str]) {
    let scenario = Scenario::new(name);
    let is_one = |one: &&Interpreter| only.iter().any(|few| one.name.starts_with(few)) && !one.is_variant();
    for interpreter in interpreters().iter().filter(is_one) {
        match with_package(interpreter, package) {
            Ok(with_package) => scenario.on(&interpreter.name, || told(&with_package, script)),
            Err(error) => scenario.skip(&interpreter.name, &format!("{package} could not be installed: {error:#}")),
        }
    }
    scenario.finish();
}

/// Compares the locals of the function `holder` with what the target has written down.
fn told(interpreter: &Interpreter, script: &str) -> Result<()> {
    let target = Target::start(interpreter, script, &[])?;
    let expected: Value = serde_json::from_slice(&fs::read(target.folder().join("values.json"))?)?;
    let report = report(&[target.pid().to_string().into()])?;
    let found = holder(&report)?["locals"].as_array().cloned().context("no locals")?;
    let expected = expected.as_object().context("no values")?;
    for (name, repr) in expected {
        let local = found.iter().find(|local| local["name"] == **name).with_context(|| format!("no {name}"))?;
        ensure!(local["repr"] == *repr, "{name}: wanted {repr}, has {}", local["repr"]);
    }
    Ok(())
}

/// How many times the memory of one snapshot is damaged.
const DAMAGES: usize = 150;

#[test]
fn damaged_memory_costs_values_and_neither_time_nor_the_tool() {
    let scenario = Scenario::new("values in damaged memory");
    let seed = seed();
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || damage(interpreter, seed).with_context(|| format!("PYST_TEST_SEED={seed}")));
    }
    scenario.finish();
}

fn damage(interpreter: &Interpreter, seed: u64) -> Result<()> {
    /// Walking over sound memory takes milliseconds.
    const LONGEST: Duration = Duration::from_secs(20);
    let target = Target::start(interpreter, "values.py", &[&seed.to_string()])?;
    let snapshot = grab([&target.pid().to_string(), "--locals", "--python-only"])?.stdout;
    let snapshot = StreamReader::new(snapshot.as_slice()).next().context("no snapshot")??;
    let found = snapshot.get::<Runtime>()?.and_then(|runtime| runtime.found).context("no runtime")?;
    let (python, _) = pyst_python::walk_snapshot(&snapshot);
    let python = python.context("no frames")?;
    let sections = snapshot.all::<Memory>().collect::<Result<Vec<_>, _>>()?;
    let sound: Vec<(Address, Vec<u8>)> = sections.into_iter().flat_map(|memory| memory.read).collect();
    let mut random = Random(seed);
    for _ in 0..DAMAGES {
        let mut memory = sound.clone();
        for _ in 0..=random.below(40) {
            let place = random.below(memory.len());
            let bytes = &mut memory[place].1;
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = 0xff,
                2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                // A word from elsewhere: mostly a pointer to something else than it was.
                _ => {
                    let from = &sound[random.below(sound.len())].1;
                    let (from, at) = (random.below(from.len()) & !7, at & !7);
                    let word: Vec<u8> = sound[place].1.iter().copied().skip(from).take(8).collect();
                    bytes[at..].iter_mut().zip(word).for_each(|(to, from)| *to = from);
                }
            }
        }
        let mut image = Image::new();
        image.extend(memory.into_iter().map(|(start, bytes)| (start, Cow::Owned(bytes))));
        let started = Instant::now();
        let (variables, _) = pyst_python::variables(&found, &python, &image, 4 << 20);
        let took = started.elapsed();
        ensure!(took < LONGEST, "it took {took:?}");
        let all = variables.frames.iter().flat_map(|frame| &frame.variables);
        let longest = all.filter_map(|variable| variable.repr.as_ref()).map(String::len).max().unwrap_or(0);
        ensure!(longest < 8000, "a value of {longest} bytes");
    }
    Ok(())
}

#[test]
fn what_of_a_value_is_not_in_the_snapshot_is_counted() {
    let scenario = Scenario::new("values of which a part was not read");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || left_out(interpreter));
    }
    scenario.finish();
}

fn left_out(interpreter: &Interpreter) -> Result<()> {
    let target = Target::start(interpreter, "values.py", &["1"])?;
    let snapshot = grab([&target.pid().to_string(), "--locals", "--python-only"])?.stdout;
    let snapshot = StreamReader::new(snapshot.as_slice()).next().context("no snapshot")??;
    let found = snapshot.get::<Runtime>()?.and_then(|runtime| runtime.found).context("no runtime")?;
    let python = pyst_python::walk_snapshot(&snapshot).0.context("no frames")?;
    let sections = snapshot.all::<Memory>().collect::<Result<Vec<_>, _>>()?;
    let all: Vec<(Address, Vec<u8>)> = sections.into_iter().flat_map(|memory| memory.read).collect();
    let mut partly = 0;
    for left_out in (0..all.len()).step_by(all.len().div_ceil(DAMAGES)) {
        let mut image = Image::new();
        let rest = all.iter().enumerate().filter(|(index, _)| *index != left_out);
        image.extend(rest.map(|(_, (start, bytes))| (*start, Cow::Borrowed(bytes.as_slice()))));
        let (variables, said) = pyst_python::variables(&found, &python, &image, 4 << 20);
        let variables: Vec<&Variable> = variables.frames.iter().flat_map(|frame| &frame.variables).collect();
        let unread = variables.iter().filter(|one| one.absence == Some(ValueAbsence::NOT_RECORDED)).count();
        let shown = |one: &&&Variable| one.repr.as_ref().is_some_and(|text| text.contains("<not read at 0x"));
        let partly_unread = variables.iter().filter(shown).count();
        for (code, count) in [("locals-changed", unread), ("locals-partly-changed", partly_unread)] {
            let message = said.iter().find(|one| one.code == code).map(|one| one.message.as_str());
            let is_said = message.is_some_and(|message| message.contains(&format!("alues of {count} arguments")));
            ensure!(is_said == (count > 0) && message.is_some() == is_said, "{code}: {count}, and said: {message:?}");
        }
        partly += partly_unread;
    }
    ensure!(partly > 0, "nothing is a part of a value");
    Ok(())
}

/// How often a thread that never rests is stopped.
const STOPS: usize = 30;

#[test]
fn values_of_a_thread_that_never_rests_are_of_one_moment() {
    let scenario = Scenario::new("values of a busy thread");
    for interpreter in interpreters().iter().filter(|one| !one.name.ends_with(" stripped")) {
        let mut tally = (0, 0);
        scenario.on(&interpreter.name, || busy(interpreter, &mut tally));
        scenario.figure(&interpreter.name, &format!("{} of {} values at hand", tally.0, tally.1));
    }
    scenario.finish();
}

/// The variables of a process's innermost frame.
fn variables_of(pid: u32) -> Result<Vec<Variable>> {
    let options = Options {
        locals: Some(4 << 20),
        python_only: true,
        source: false,
        stop_limit: Duration::from_secs(10),
        ..Options::default()
    };
    let snapshot = capture(CaptureTarget::Live(pid), &options)?.snapshot()?;
    let (python, said) = pyst_python::walk_snapshot(&snapshot);
    let python = python.with_context(|| format!("{said:?}"))?;
    let (variables, _) = pyst_python::variables_of_snapshot(&snapshot, &python).context("no variables")?;
    let innermost = variables.frames.into_iter().find(|frame| (frame.state, frame.frame) == (0, 0));
    Ok(innermost.map(|frame| frame.variables).unwrap_or_default())
}

fn busy(interpreter: &Interpreter, tally: &mut (usize, usize)) -> Result<()> {
    let target = Target::start_awake(interpreter, "busy_values.py", &[])?;
    for _ in 0..STOPS {
        let variables = variables_of(target.pid())?;
        let value = |name: &str| {
            let named = variables.iter().find(|variable| variable.name.escaped() == name)?;
            named.repr.clone()
        };
        // Each is made of the one before, so that what is here tells what the others are.
        let number = value("number").and_then(|number| number.parse::<u64>().ok());
        tally.1 += 3;
        tally.0 += usize::from(number.is_some());
        let whole = |text: &&String| !text.contains("<not read at") && !text.contains("<not readable");
        if let Some(pair) = value("pair").as_ref().filter(whole) {
            tally.0 += 1;
            let first: u64 = pair[1..].split(',').next().context("no pair")?.parse()?;
            let expected = format!("({first}, -{first}, '{first}')");
            ensure!(*pair == expected, "{pair}");
            ensure!(number.is_none_or(|number| number == first || number == first + 1), "{number:?} with {pair}");
            if let Some(table) = value("table").as_ref().filter(whole) {
                tally.0 += 1;
                let of = |n: u64| format!("{{'n': {n}, 'pair': ({n}, -{n}, '{n}')}}");
                let other = |n: u64| format!("{{'pair': ({n}, -{n}, '{n}'), 'n': {n}}}");
                let is = |n| *table == of(n) || *table == other(n);
                ensure!(is(first) || is(first - 1), "{table} with {pair}");
            }
        }
    }
    Ok(())
}
