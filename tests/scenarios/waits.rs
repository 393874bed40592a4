//! What threads wait for in the kernel: the system call, its files, how long; against what the program that sleeps there knows,
//! and what `/proc` says of it.

use anyhow::{Context, Result, bail, ensure};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, analyse, gcore, grab, has_program, interpreters, report_of,
    representatives, wait_until,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What the program knows of its threads, by their names.
struct Facts(BTreeMap<String, Value>);

impl Facts {
    fn of(target: &Target) -> Result<Facts> {
        let text = fs::read(target.folder().join("waits.json"))?;
        Ok(Facts(serde_json::from_slice(&text).context("waits.json")?))
    }

    /// Each thread that sleeps in a call of its own: name, tid, what is known.
    fn threads<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = (&'a str, u32, &'a Value)> {
        let named = target.account().threads.iter();
        named.filter_map(|thread| Some((thread.name.as_str(), thread.tid, self.0.get(&thread.name)?)))
    }
}

/// `/proc/T/syscall` of a thread that sleeps: number and arguments.
fn in_proc(target: &Target, tid: u32) -> Result<(u64, Vec<Value>)> {
    let text = fs::read_to_string(format!("/proc/{}/task/{tid}/syscall", target.pid()))?;
    let mut words = text.split_whitespace();
    let number =
        words.next().unwrap_or_default().parse().with_context(|| format!("{tid} sleeps in no call: {text}"))?;
    Ok((number, words.take(6).map(|word| json!(word)).collect()))
}

/// What of a look is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// A living process, the first time.
    First,
    /// One that was stopped before.
    Again,
    /// One that another tracer holds, so that it cannot be stopped.
    Traced,
    /// Its core, which has neither files nor clocks.
    Core,
}

fn check(target: &Target, report: &Report, look: Look) -> Result<()> {
    let facts = Facts::of(target)?;
    let mut compared = 0;
    for (name, tid, known) in facts.threads(target) {
        let thread = report.thread(tid)?.json;
        let call = &thread["syscall"];
        check_call(target, call, known, look).with_context(|| format!("{name}: {call}"))?;
        if look == Look::Core {
            ensure!(thread["wchan"].is_null(), "{name}: {}", thread["wchan"]);
        }
        compared += 1;
    }
    ensure!(compared == facts.0.len(), "{compared} of {} threads", facts.0.len());
    let main = report.thread(target.pid())?.json;
    ensure!(!main["syscall"].is_null(), "the main thread sleeps, too");
    Ok(())
}

fn check_call(target: &Target, call: &Value, known: &Value, look: Look) -> Result<()> {
    if look == Look::Core && call["name"] == "restart_syscall" {
        // It was stopped before the core was taken, and nothing in a core tells which call goes on.
        return Ok(());
    }
    let calls = known["calls"].as_array().context("calls")?;
    ensure!(calls.contains(&call["name"]), "expected one of {calls:?}");
    if look == Look::First {
        ensure!(call["restarted"] == false, "restarted");
    }
    check_files(target, call, known, look)?;
    check_timeout(&call["timeout"], &known["timeout"], look)?;
    let text = call["text"].as_str().unwrap_or_default();
    let pid = known.get("pid").map(|pid| format!("wait4(pid {pid})"));
    ensure!(pid.is_none_or(|expected| text == expected), "the child");
    // Without registers nobody knows which thread a thread pointer is of.
    if known["joins"] == "pause" && look != Look::Traced {
        let joined = u32::try_from(call["joins_tid"].as_u64().context("joins no thread")?)?;
        ensure!(in_proc(target, joined)?.0 == 34, "{joined} is not in pause");
        ensure!(text == format!("futex(the end of thread {joined}; no timeout)"), "the text");
    }
    Ok(())
}

fn check_files(target: &Target, call: &Value, known: &Value, look: Look) -> Result<()> {
    let files = call["files"].as_array().context("files")?;
    let expected = known["files"].as_array().context("files")?;
    let more = known["more"] == true;
    ensure!(call["more_files"] == more && files.len() == expected.len().min(64), "{} files", files.len());
    let mut seen = BTreeSet::new();
    for file in files {
        // The order is that of poll's array: before 3.6, that of the hash of a dict.
        let fd = &file["fd"];
        let expected = expected.iter().find(|one| one["fd"] == *fd).with_context(|| format!("waits for {fd}"))?;
        ensure!(seen.insert(fd.as_i64()), "{fd} comes twice");
        if look == Look::Core {
            ensure!(file["path"].is_null() && file["socket"].is_null(), "from where: {file}");
            continue;
        }
        let path = file["path"].as_str().context("no path")?;
        let link = fs::read_link(format!("/proc/{}/fd/{fd}", target.pid()))?;
        ensure!(link.to_str() == Some(path), "{path} is not {}", link.display());
        // In another root, the paths that the program sees start there.
        ensure!(path.ends_with(expected["path"].as_str().context("path")?), "{path} is not {}", expected["path"]);
        ensure!(file["watches"] == *expected.get("watches").unwrap_or(&Value::Null), "watches {}", file["watches"]);
        if let Some(socket) = expected.get("socket") {
            ensure!(file["socket"] == *socket, "{} is not {socket}", file["socket"]);
        }
    }
    Ok(())
}

fn check_timeout(found: &Value, known: &Value, look: Look) -> Result<()> {
    if known["seconds"].is_null() {
        let kind = known.get("kind").unwrap_or(&Value::Null);
        ensure!(found.get("kind").unwrap_or(&Value::Null) == kind, "timeout {found}");
        return ensure_null(found.get("ns"));
    }
    if look == Look::Core && found.is_null() {
        return Ok(());
    }
    // What the kernel writes back when it is interrupted is not up to date then.
    let kinds = [&known["kind"], if look == Look::Traced { &json!("given") } else { &known["kind"] }];
    ensure!(kinds.contains(&&found["kind"]), "timeout {found}");
    let ns: u64 = found["ns"].as_str().context("ns")?.parse()?;
    let asked = known["seconds"].as_u64().context("seconds")? * 1_000_000_000;
    // A test takes no ten minutes.
    let least = if known["kind"] == "given" { asked } else { asked.saturating_sub(600_000_000_000) };
    ensure!((least..=asked).contains(&ns), "{ns} ns of {asked}");
    Ok(())
}

fn ensure_null(value: Option<&Value>) -> Result<()> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(other) => bail!("{other} where nothing is known"),
    }
}

/// The representatives, and the oldest.
fn chosen() -> impl Iterator<Item = &'static Interpreter> {
    let old = interpreters().iter().filter(|one| one.version < (3, 8) && !one.is_variant());
    let mut all: Vec<&Interpreter> = representatives().iter().chain(old).collect();
    all.sort_by_key(|one| &one.name);
    all.dedup_by_key(|one| &one.name);
    all.into_iter()
}

#[test]
fn a_system_call_its_files_and_its_timeout_are_what_the_program_knows() {
    let scenario = Scenario::new("waits");
    for interpreter in chosen() {
        let mut started = None;
        scenario.on(&interpreter.name, || {
            let target = started.insert(Target::start(interpreter, "waits.py", &[])?);
            // Before it is stopped for the first time: then some calls become `restart_syscall`.
            let mut expected = BTreeMap::new();
            for thread in &target.account().threads {
                let channel = fs::read_to_string(format!("/proc/{}/task/{}/wchan", target.pid(), thread.tid))?;
                expected.insert(thread.tid, (in_proc(target, thread.tid)?, channel));
            }
            let report = report_of([target.pid().to_string()])?;
            for (tid, ((number, arguments), channel)) in &expected {
                let thread = report.thread(*tid)?.json;
                ensure!(thread["syscall"]["number"] == *number, "{tid}: {} is not {number}", thread["syscall"]);
                ensure!(thread["syscall"]["arguments"] == json!(arguments), "{tid}: {}", thread["syscall"]);
                ensure!(*channel == "0" || thread["wchan"] == json!(channel), "{tid}: {}", thread["wchan"]);
            }
            check(target, &report, Look::First)?;
            let again = report_of([target.pid().to_string()])?;
            check(target, &again, Look::Again)
        });
        let Some(target) = started else { continue };
        scenario.on(&format!("{}, python only", interpreter.name), || {
            let report = analyse(&grab(["--python-only", &target.pid().to_string()])?.snapshot()?)?;
            check(&target, &report, Look::Again)
        });
        if has_program("strace") {
            scenario.on(&format!("{}, traced by another", interpreter.name), || {
                let strace = target.strace()?;
                wait_until("the target to sleep again", 20, || {
                    let threads = &target.account().threads;
                    threads.iter().all(|thread| in_proc(&target, thread.tid).is_ok()).then_some(())
                })?;
                let taken = grab([target.pid().to_string()])?.expect_status(3)?.stdout;
                let outputs = Pipeline::with_local_files(&["--format", "json", "--all-threads"]).run(&taken)?;
                let report = Report::parse(&outputs.last().context("no stage")?.stdout)?;
                drop(strace);
                check(&target, &report, Look::Traced)
            });
        }
        if has_program("gcore") {
            scenario.on(&format!("{}, gcore", interpreter.name), || {
                check(&target, &report_of([gcore(&target)?])?, Look::Core)
            });
        }
    }
    scenario.finish();
}
