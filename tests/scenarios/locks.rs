//! Who has the GIL and who waits for it, and which thread collects garbage: what programs were brought to do on purpose.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Report, Scenario, Target, build, has_program, interpreters, report_of};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a thread that is about to sleep again is looked at again: who waits for the GIL wakes up every few milliseconds.
const LOOKS: u32 = 10;

/// How long between two looks.
const MOMENT: Duration = Duration::from_millis(200);

/// Looks until `is_as_made` holds; why not, the last time. What a look must never show is `wrong`.
fn look(
    target: &Target,
    wrong: impl Fn(&Report) -> Result<()>,
    is_as_made: impl Fn(&Report) -> Result<()>,
) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..LOOKS {
        let report = report_of([target.pid().to_string()])?;
        wrong(&report)?;
        last = is_as_made(&report);
        if last.is_ok() {
            return Ok(());
        }
        std::thread::sleep(MOMENT);
    }
    last
}

/// Whether what each thread does with the GIL can be known. Before 3.7 only who has it can.
fn has_known_gil(interpreter: &Interpreter) -> bool {
    interpreter.version >= (3, 7) && !interpreter.free_threaded
}

/// Each thread's tid and the name that the target gave it.
fn named(target: &Target) -> impl Iterator<Item = (u32, &str)> {
    target.account().threads.iter().map(|thread| (thread.tid, thread.name.as_str()))
}

/// Whether the threads with these names, up to their first blank, do what they say.
fn as_named(target: &Target, report: &Report, words: &[&str]) -> Result<()> {
    for (tid, name) in named(target) {
        let word = name.split(' ').next().unwrap_or_default();
        if words.contains(&word) {
            let thread = report.thread(tid)?;
            expect(name, &thread.json["name"], &json!(name))?;
            expect(name, &thread.json["gil"], &json!(word))?;
            expect(name, &thread.json["python_states"][0]["gil"], &json!(word))?;
        }
    }
    Ok(())
}

fn expect(what: &str, value: &Value, expected: &Value) -> Result<()> {
    ensure!(value == expected, "{what} is {value}, not {expected}");
    Ok(())
}

#[test]
fn a_thread_has_the_gil_waits_for_it_or_does_without() {
    let scenario = Scenario::new("the GIL");
    for interpreter in interpreters().iter().filter(|one| !one.free_threaded) {
        scenario.on(&interpreter.name, || {
            let known: &[&str] = match interpreter.version {
                (3, 7..) => &["holding", "waiting", "none"],
                // Whose variables of the GIL have no names there.
                (3, 6) if interpreter.stripped => &["holding"],
                _ => &["holding", "waiting"],
            };
            let target = Target::start_awake(interpreter, "gil.py", &[])?;
            let holder = named(&target).find(|(_, name)| *name == "holding").context("no holder")?.0;
            look(
                &target,
                |report| as_named(&target, report, known.get(2..).unwrap_or_default()),
                |report| {
                    as_named(&target, report, known)?;
                    expect("the holder", &report.json["python"]["interpreters"][0]["gil_holder_tid"], &json!(holder))
                },
            )
        });
    }
    scenario.finish();
}

#[test]
fn interpreters_share_a_gil_or_have_their_own() {
    let scenario = Scenario::new("GILs of interpreters");
    for interpreter in interpreters().iter().filter(|one| one.version >= (3, 8) && has_known_gil(one)) {
        scenario.on(&format!("{}, shared", interpreter.name), || check_shared(interpreter));
        if interpreter.version >= (3, 12) {
            scenario.on(&format!("{}, own", interpreter.name), || check_own(interpreter));
        }
    }
    scenario.finish();
}

fn check_shared(interpreter: &Interpreter) -> Result<()> {
    let target = Target::start_awake(interpreter, "gils.py", &[])?;
    let never_both = |report: &Report| {
        let holders = report.threads().iter().filter(|thread| thread.json["gil"] == "holding").count();
        ensure!(holders <= 1, "{holders} threads hold one GIL");
        Ok(())
    };
    look(&target, never_both, |report| {
        as_named(&target, report, &["holding", "waiting"])?;
        let holders: Vec<_> = interpreters_of(report).iter().map(|one| one["gil_holder_tid"].clone()).collect();
        ensure!(holders == [json!(target.pid()), json!(target.pid())], "{holders:?}");
        Ok(())
    })
}

fn check_own(interpreter: &Interpreter) -> Result<()> {
    let target = Target::start_awake(interpreter, "gils.py", &["isolated"])?;
    look(&target, |_| Ok(()), |report| both_hold(&target, report))
}

fn both_hold(target: &Target, report: &Report) -> Result<()> {
    as_named(target, report, &["holding"])?;
    let mut holders: Vec<_> = interpreters_of(report).iter().map(|one| one["gil_holder_tid"].as_u64()).collect();
    holders.sort_unstable();
    let mut tids: Vec<_> = named(target).map(|(tid, _)| Some(u64::from(tid))).collect();
    tids.sort_unstable();
    ensure!(holders == tids, "{holders:?} and not {tids:?}");
    Ok(())
}

fn interpreters_of(report: &Report) -> Vec<Value> {
    report.json["python"]["interpreters"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_thread_that_collects_garbage_and_no_other() {
    let scenario = Scenario::new("garbage collection");
    if !has_program("gcc") {
        scenario.skip("all", "gcc is not installed");
        return;
    }
    for interpreter in interpreters().iter().filter(|one| one.version >= (3, 7)) {
        for gil in ["holding", "none"] {
            if gil == "holding" && interpreter.free_threaded {
                continue;
            }
            scenario.on(&format!("{}, {gil}", interpreter.name), || check_garbage(interpreter, gil));
        }
    }
    scenario.finish();
}

fn check_garbage(interpreter: &Interpreter, gil: &str) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pyst-collect-").tempdir_in(interpreter.temporary())?;
    let built = build("gcc", "collect.c", &["-O1", "-shared", "-fPIC"], folder.path())?;
    let library = interpreter.inside(&built);
    let library = library.to_str().context("a path that is no text")?;
    let target = Target::start(interpreter, "garbage.py", &[gil, library])?;
    let report = report_of([target.pid().to_string()])?;
    expect("the interpreter", &report.json["python"]["interpreters"][0]["gc_collecting"], &json!(true))?;
    let mut known = 0;
    for (tid, name) in named(&target) {
        let thread = report.thread(tid)?;
        let collects = &thread.json["gc_collecting"];
        let expected = json!(name == "collects");
        if interpreter.stripped && interpreter.version < (3, 15) {
            // Without a symbol nothing tells which it is.
            ensure!(collects.is_null() || *collects == expected, "{name} is said to collect garbage: {collects}");
        } else {
            expect(name, collects, &expected)?;
            known += 1;
        }
        if name == "collects" && has_known_gil(interpreter) {
            expect("the GIL", &thread.json["gil"], &json!(gil))?;
        }
    }
    let is_said = report.codes().iter().any(|code| code == "gc-thread-unknown");
    ensure!(is_said == (known == 0), "{:?}", report.json["diagnostics"]);
    Ok(())
}

#[test]
fn without_a_gil_the_world_is_stopped_for_the_one_that_collects() {
    let scenario = Scenario::new("the world stands still");
    let mut free_threaded = interpreters().iter().filter(|one| one.free_threaded).peekable();
    if free_threaded.peek().is_none() {
        scenario.skip("all", "no Python without a GIL is here: tests/run --free-threaded builds one");
    }
    for interpreter in free_threaded {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "world.py", &[])?;
            look(
                &target,
                |_| Ok(()),
                |report| {
                    expect(
                        "the interpreter",
                        &report.json["python"]["interpreters"][0]["world_stopped"],
                        &json!(true),
                    )?;
                    for (tid, name) in named(&target) {
                        let thread = report.thread(tid)?;
                        let word = name.split(' ').next().unwrap_or_default();
                        expect(name, &thread.json["python_states"][0]["attachment"], &json!(word))?;
                        expect(name, &thread.json["gil"], &json!("none"))?;
                        expect(name, &thread.json["gc_collecting"], &json!(name == "attached"))?;
                    }
                    Ok(())
                },
            )
        });
    }
    scenario.finish();
}
