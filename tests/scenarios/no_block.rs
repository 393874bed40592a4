//! `--no-block`: what is said to be verified of a process that is not stopped was there, and nothing is traced that need not be.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, Thread, Tool, analyse, grab, has_program, interpreters, report_of,
    representatives, run,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const JSON: [&str; 3] = ["--format", "json", "--all-threads"];

#[test]
fn sleepers_are_told_as_if_they_were_stopped() {
    let scenario = Scenario::new("no block: sleepers");
    for interpreter in interpreters() {
        for (script, arguments) in [("eight_threads.py", &[][..]), ("recursion.py", &["1000"]), ("sorted_key.py", &[])]
        {
            scenario.on(&format!("{} {script}", interpreter.name), || {
                let target = Target::start(interpreter, script, arguments)?;
                let pid = target.pid().to_string();
                let report = analyse(&grab(["--no-block", &pid])?.snapshot()?)?;
                report.agrees_with(target.account())?;
                ensure!(report.json["snapshot"]["blocking"] == "not-stopped", "{}", report.json["snapshot"]);
                let stopped = report_of([&pid])?;
                for thread in report.threads() {
                    let tid = thread.tid().context("a thread without a tid")?;
                    is_verified(&thread, "slept").with_context(|| format!("thread {tid}"))?;
                    same_frames(&thread, &stopped.thread(tid)?).with_context(|| format!("thread {tid}"))?;
                }
                Ok(())
            });
        }
    }
    scenario.finish();
}

fn is_verified(thread: &Thread<'_>, reading: &str) -> Result<()> {
    ensure!(thread.json["reading"] == reading, "read as {}", thread.json["reading"]);
    let states = thread.json["python_states"].as_array().cloned().unwrap_or_default();
    ensure!(states.iter().all(|state| state["verified"] == true), "not verified: {states:?}");
    Ok(())
}

/// The frames of a thread that was stopped, as far as the other's native stack goes.
fn same_frames(slept: &Thread<'_>, stopped: &Thread<'_>) -> Result<()> {
    let (slept_frames, stopped_frames) = (slept.frames(), stopped.frames());
    if slept.json["stack_end"] == stopped.json["stack_end"] {
        for (slept, stopped) in slept_frames.iter().zip(&stopped_frames) {
            ensure!(slept == stopped, "{slept} instead of {stopped}");
        }
        ensure!(slept_frames.len() == stopped_frames.len(), "{} frames", slept_frames.len());
        return Ok(());
    }
    // A register that only a stop tells; what was found until then is right.
    ensure!(slept.json["stack_end"] == "register-unknown", "ends with {}", slept.json["stack_end"]);
    let addresses = |thread: &Thread<'_>| {
        let frames = thread.native_frames();
        frames.iter().rev().map(|frame| frame["address"].clone()).collect::<Vec<Value>>()
    };
    let (slept, stopped) = (addresses(slept), addresses(stopped));
    ensure!(!slept.is_empty() && stopped.starts_with(&slept), "{slept:?} instead of {stopped:?}");
    Ok(())
}

#[test]
fn no_impossible_stack_is_verified() {
    let scenario = Scenario::new("no block: alternating chains");
    for interpreter in interpreters().iter().filter(|one| !one.stripped) {
        for arguments in [&["8"][..], &["3", "generators"]] {
            scenario.on(&format!("{} {}", interpreter.name, arguments.join(" ")), || {
                let target = Target::start_awake(interpreter, "chains.py", arguments)?;
                let (mut stacks, mut verified) = (0, 0);
                for _ in 0..15 {
                    let output = grab(["--no-block", "--python-only", &target.pid().to_string()])?;
                    let (status, report) = analysed(&output.stdout)?;
                    ensure!(output.status == status && matches!(status, Some(0 | 3)), "{:?} {status:?}", output.status);
                    let (all, sound) = count_possible(&report)?;
                    ensure!((status == Some(0)) == (all == sound), "{status:?}: {all} stacks, {sound} verified");
                    stacks += all;
                    verified += sound;
                }
                let threads: usize = arguments[0].parse()?;
                ensure!(stacks == 15 * threads, "{stacks} stacks of {threads} threads");
                ensure!(verified * 2 > stacks, "{verified} of {stacks} verified");
                scenario.figure(&interpreter.name, &format!("{verified} of {stacks} stacks verified"));
                Ok(())
            });
        }
    }
    scenario.finish();
}

/// The report of the stages on a snapshot, and the exit status of the last.
fn analysed(snapshot: &[u8]) -> Result<(Option<i32>, Report)> {
    let outputs = Pipeline::with_local_files(&JSON).run(snapshot)?;
    let last = outputs.last().context("no stage")?;
    Ok((last.status, Report::parse(&last.stdout)?))
}

/// How many busy threads there are, and how many of them are verified: none of these with a stack of both chains.
fn count_possible(report: &Report) -> Result<(usize, usize)> {
    let (mut all, mut verified) = (0, 0);
    for thread in report.threads() {
        let name = thread.json["name"].as_str().unwrap_or_default();
        if name != "busy" {
            continue;
        }
        all += 1;
        let sound = thread.json["python_states"][0]["verified"].as_bool().context("no verdict")?;
        let listed = report.json["diagnostics"].as_array().context("no diagnostics")?;
        let said = listed.iter().any(|one| one["code"] == "not-verified" && one["tid"] == thread.json["tid"]);
        ensure!(sound != said, "verified: {sound}, and said that it is not: {said}");
        if sound {
            verified += 1;
            is_possible(&thread)?;
        }
    }
    Ok((all, verified))
}

fn is_possible(thread: &Thread<'_>) -> Result<()> {
    let functions: Vec<String> = thread.python_frames()?.into_iter().map(|frame| frame.function).collect();
    let start = functions.iter().position(|function| function.starts_with("drive"));
    let own = &functions[start.with_context(|| format!("impossible: {functions:?}"))? + 1..];
    let is_chain = |letter: char| {
        let chain = (1..=8).map(|number| format!("{letter}{number}")).chain(["leaf".to_owned()]);
        own.len() <= 9 && own.iter().cloned().eq(chain.take(own.len()))
    };
    ensure!(['a', 'b', 'g'].into_iter().any(is_chain), "impossible: {functions:?}");
    Ok(())
}

#[test]
fn what_could_not_be_verified_is_stopped_on_demand_and_nothing_else() {
    let scenario = Scenario::new("no block: fallback");
    let strace = has_program("strace");
    if !strace {
        scenario.skip("which threads are traced", "strace is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            // Those wait for each other, and all may be seen asleep, one time or another.
            let target = Target::start_awake(interpreter, "chains.py", &["4"])?;
            for _ in 0..8 {
                fallback(interpreter, &target, 4, strace)?;
            }
            drop(target);
            let never_asleep = Target::start_awake(interpreter, "chains.py", &["1"])?;
            let stops = fallback(interpreter, &never_asleep, 1, strace)?;
            ensure!(stops == 1, "{stops} threads had to be stopped");
            Ok(())
        });
    }
    scenario.finish();
}

/// How many threads had to be stopped.
fn fallback(interpreter: &Interpreter, target: &Target, threads: usize, strace: bool) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let (trace, snapshot) = (folder.path().join("trace"), folder.path().join("x.pyst"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=ptrace", "-o"]).arg(&trace).arg(Tool::Grab.path());
    let mut command = if strace { command } else { Command::new(Tool::Grab.path()) };
    command.args(["--no-block=fallback", "--stop-limit=10000", "-o"]).arg(&snapshot).arg(target.pid().to_string());
    let output = run(&mut command)?;
    let (status, report) = analysed(&fs::read(&snapshot)?)?;
    ensure!(output.status == Some(0) && status == Some(0), "{}: {status:?} {}", interpreter.name, output.stderr);
    let (all, verified) = count_possible(&report)?;
    ensure!((all, verified) == (threads, threads), "{verified} of {all} verified");
    let main = report.thread(target.pid())?;
    let mut stopped = BTreeSet::new();
    for thread in report.threads() {
        ensure!(thread.native_frames().len() > 3, "no native frames: {}", thread.json["stack_end"]);
        if thread.json["reading"] == "stopped" {
            stopped.extend(thread.tid());
        }
    }
    // It sleeps.
    is_verified(&main, "slept")?;
    let blocking = &report.json["snapshot"]["blocking"];
    ensure!(*blocking == if stopped.is_empty() { "not-stopped" } else { "partly-stopped" }, "{blocking}");
    ensure!(report.json["snapshot"]["stopped_ns"].is_null() == stopped.is_empty(), "{}", report.json["snapshot"]);
    if strace {
        let seized: BTreeSet<u32> = fs::read_to_string(&trace)?.lines().filter_map(seized).collect();
        ensure!(seized == stopped, "seized {seized:?}, stopped {stopped:?}");
    }
    Ok(stopped.len())
}

/// Threads that sleep, each time in other code: what was read of one at first another has in its memory later.
#[test]
fn sleepers_whose_code_becomes_anothers_are_tried_again_and_stopped_on_demand() {
    let scenario = Scenario::new("no block: ever new code");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "ever_new_code.py", &["6", "2"])?;
            for _ in 0..12 {
                let output = grab(["--no-block=fallback", &target.pid().to_string()])?;
                let (status, report) = analysed(&output.stdout)?;
                ensure!(
                    output.status == Some(0) && status == Some(0),
                    "{:?} {status:?} {}",
                    output.status,
                    output.said()?
                );
                for thread in report.threads() {
                    let states = thread.json["python_states"].as_array().cloned().unwrap_or_default();
                    ensure!(states.iter().all(|state| state["verified"] == true), "not verified: {states:?}");
                    is_of_one_moment(&thread)?;
                }
            }
            Ok(())
        });
    }
    scenario.finish();
}

/// All functions of a stack that were made for it are of the same number.
fn is_of_one_moment(thread: &Thread<'_>) -> Result<()> {
    let frames = thread.python_frames()?;
    let made = frames.iter().filter_map(|frame| frame.function.rsplit_once("__").map(|(_, number)| number.to_owned()));
    let numbers: BTreeSet<String> = made.collect();
    ensure!(numbers.len() < 2, "of several moments: {frames:?}");
    Ok(())
}

#[test]
fn threads_that_begin_or_end_meanwhile_are_no_loss() {
    let scenario = Scenario::new("no block: short-lived threads");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "short_lived_threads.py", &[])?;
            let pid = target.pid().to_string();
            let tids = || -> Result<BTreeSet<u64>> {
                let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
                Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
            };
            for option in ["--no-block", "--no-block=fallback"] {
                for _ in 0..5 {
                    let before = tids()?;
                    let output = grab([option, &pid])?;
                    let after = tids()?;
                    let (status, report) = analysed(&output.stdout)?;
                    let listed = report.json["diagnostics"].as_array().context("no diagnostics")?;
                    let lost: Vec<&Value> = listed.iter().filter(|one| one["severity"] == "loss").collect();
                    ensure!((status == Some(3)) != lost.is_empty(), "{option}: {status:?} {lost:?}");
                    let stayed = |one: &Value| {
                        let tid = one["tid"].as_u64();
                        // On a busy machine the list of threads may change whenever it is read, and be lost from a place on.
                        one["code"] == "python-states-lost"
                            || tid.is_some_and(|tid| before.contains(&tid) && after.contains(&tid))
                    };
                    ensure!(lost.iter().all(|one| stayed(one)), "{option}: {lost:#?}");
                }
            }
            Ok(())
        });
    }
    scenario.finish();
}

/// `1234 ptrace(PTRACE_SEIZE, 99, NULL, 0) = 0`
fn seized(line: &str) -> Option<u32> {
    line.split_once("PTRACE_SEIZE, ")?.1.split(',').next()?.parse().ok()
}

#[test]
fn nothing_is_traced_that_may_not_be_stopped() {
    let scenario = Scenario::new("no block: no ptrace");
    if !has_program("strace") {
        return scenario.skip("all", "strace is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "busy.py", &[])?;
            for arguments in [&["--no-block"][..], &["--no-block", "--locals"], &["--no-block", "--python-only"]] {
                let folder = tempfile::tempdir()?;
                let trace = folder.path().join("trace");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-e", "trace=ptrace,process_vm_readv,kill,tgkill", "-o"]).arg(&trace);
                strace.arg(Tool::Grab.path()).args(arguments).arg("-o").arg(folder.path().join("x.pyst"));
                let output = run(strace.arg(target.pid().to_string()))?;
                ensure!(matches!(output.status, Some(0 | 3)), "{:?}: {}", output.status, output.stderr);
                let trace = fs::read_to_string(&trace)?;
                let mut calls = trace.lines().filter(|line| line.contains('('));
                ensure!(trace.contains("process_vm_readv("), "the trace shows nothing");
                let other = calls.find(|line| !line.contains("process_vm_readv"));
                ensure!(other.is_none(), "{arguments:?}: {other:?}");
            }
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn threads_that_another_process_traces_are_verified_while_they_sleep() {
    let scenario = Scenario::new("no block: traced by another");
    if !has_program("strace") {
        return scenario.skip("all", "strace is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let strace = target.strace()?;
            let output = grab([target.pid().to_string()])?;
            let (status, report) = analysed(&output.stdout)?;
            drop(strace);
            ensure!(output.status == Some(3) && status == Some(3), "{:?} {status:?}", output.status);
            ensure!(report.codes().contains(&"already-traced".to_owned()), "{:?}", report.codes());
            report.agrees_with(target.account())?;
            for thread in report.threads() {
                is_verified(&thread, "slept")?;
                ensure!(thread.native_frames().len() > 3, "no native frames: {}", thread.json["stack_end"]);
            }
            target.wait_for_state('S')
        });
    }
    scenario.finish();
}

/// Nobody else can stop them: no advice is to.
#[test]
fn of_threads_that_another_process_traces_no_stop_is_advised() {
    let scenario = Scenario::new("no block: advice for what another traces");
    if !has_program("strace") {
        return scenario.skip("all", "strace is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "chains.py", &["1"])?;
            let said = |options: &[&str]| -> Result<Vec<String>> {
                let pid = target.pid().to_string();
                let (_, report) = analysed(&grab(options.iter().copied().chain([pid.as_str()]))?.stdout)?;
                let listed = report.json["diagnostics"].as_array().cloned().context("no diagnostics")?;
                let advising = |one: &&Value| one["code"] == "not-asleep" || one["code"] == "not-verified";
                Ok(listed.iter().filter(advising).map(|one| one["message"].to_string()).collect())
            };
            let untraced = said(&["--no-block"])?;
            ensure!(untraced.iter().any(|one| one.contains("--no-block=fallback")), "{untraced:?}");
            let strace = target.strace()?;
            for options in [&[][..], &["--no-block"], &["--no-block=fallback"]] {
                let traced = said(options)?;
                ensure!(!traced.is_empty(), "{options:?}: nothing is said of threads that run");
                for one in traced {
                    ensure!(one.contains("trace") && !one.contains("fallback"), "{options:?}: {one}");
                }
            }
            drop(strace);
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_snapshot_without_a_stop_says_the_same_elsewhere_and_its_text_marks_doubt() {
    let scenario = Scenario::new("no block: elsewhere");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start_awake(interpreter, "chains.py", &["4"])?;
            let mut doubts = 0;
            for _ in 0..10 {
                let taken = grab(["--no-block", "--locals", "--debug-info", &target.pid().to_string()])?.stdout;
                let (_, here) = analysed(&taken)?;
                let elsewhere = Pipeline::from_snapshot_only(&JSON).run(&taken)?;
                let elsewhere = Report::parse(&elsewhere.last().context("no stage")?.stdout)?;
                ensure!(here.json == elsewhere.json, "it says something else elsewhere");
                let text = Pipeline::from_snapshot_only(&[]).run(&taken)?;
                let text = String::from_utf8(text.into_iter().next_back().context("no stage")?.stdout)?;
                let of_threads = here.threads();
                let states = of_threads.iter().filter_map(|thread| thread.json["python_states"].as_array()).flatten();
                let doubtful = states.filter(|state| state["verified"] == json!(false)).count();
                let marked =
                    text.lines().filter(|line| line.starts_with("Traceback") && line.contains("Not verified]"));
                ensure!(marked.count() == doubtful, "{doubtful} are doubtful:\n{text}");
                doubts += doubtful;
            }
            scenario.figure(&interpreter.name, &format!("{doubts} not verified"));
            Ok(())
        });
    }
    scenario.finish();
}
