//! Reading a process that is not stopped: what is said to be verified was there, whatever the process does meanwhile.
//!
//! `PYST_TEST_PYTHON` names another interpreter than Debian's, `PYST_TEST_CAPTURES` says how often a busy one is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use common::{TestChild, have_python, section};
use pyst_capture::{Captured, NoBlock, Options, Target, capture};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Blocking, Capture, Python, PythonState, Severity, ThreadReading, Threads, Verdicts};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHAINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/targets/chains.py");

fn unstopped() -> Options {
    Options { no_block: Some(NoBlock::Never), ..Options::default() }
}

/// Starts the program that alternates two chains of calls on some threads.
fn chains(folder: &tempfile::TempDir, arguments: &[&str]) -> TestChild {
    let python = std::env::var("PYST_TEST_PYTHON").unwrap_or_else(|_| common::PYTHON.to_owned());
    let mut command = Command::new(python);
    command.arg(CHAINS).args(arguments).env("PYST_TARGET_DIR", folder.path()).stdin(Stdio::null());
    let child = TestChild(command.spawn().unwrap());
    let started = Instant::now();
    while !folder.path().join("account.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Whether the functions, outermost first, are the first of one of the chains.
fn is_possible(functions: &[String]) -> bool {
    let Some(drive) = functions.iter().position(|function| function.starts_with("drive")) else { return false };
    let own = &functions[drive + 1..];
    let chain = |letter: char| (1..=8).map(move |number| format!("{letter}{number}")).chain(["leaf".to_owned()]);
    ['a', 'b', 'g'].into_iter().any(|letter| own.len() <= 9 && own.iter().cloned().eq(chain(letter).take(own.len())))
}

fn python(snapshot: &Snapshot) -> Python {
    pyst_python::walk_snapshot(snapshot).0.expect("Python frames")
}

#[derive(Debug, Default)]
struct Count {
    captures: usize,
    stacks: usize,
    verified_at_once: usize,
    verified: usize,
    impossible: usize,
    impossible_unverified: usize,
    asleep: usize,
    microseconds: Vec<u128>,
}

fn count(pid: u32, captures: usize, options: &Options) -> Count {
    let mut count = Count::default();
    for _ in 0..captures {
        let started = Instant::now();
        let snapshot = capture(Target::Live(pid), options).and_then(Captured::snapshot).unwrap();
        count.captures += 1;
        count.microseconds.push(started.elapsed().as_micros());
        let (python, verdicts) = (python(&snapshot), section::<Verdicts>(&snapshot));
        for state in &python.states {
            let name = |code: u32| python.codes[code as usize].function.escaped();
            let functions: Vec<String> = state.frames.iter().rev().map(|frame| name(frame.code)).collect();
            let verdict = verdicts.of_state(state.address).expect("a verdict");
            if !functions.iter().any(|function| function.starts_with("drive")) && verdict.verified {
                // The main thread, which may still be about to sleep.
                assert_eq!(functions[0], "<module>");
                continue;
            }
            let reading = state.tid.and_then(|tid| verdicts.of_thread(tid)).map(|verdict| verdict.reading);
            count.asleep += usize::from(reading == Some(ThreadReading::SLEPT));
            count.stacks += 1;
            let is_possible = is_possible(&functions);
            if verdict.verified && !is_possible {
                println!("impossible: {functions:?} {verdict:?} {reading:?}");
            }
            count.impossible += usize::from(verdict.verified && !is_possible);
            count.impossible_unverified += usize::from(!verdict.verified && !is_possible);
            count.verified += usize::from(verdict.verified);
            count.verified_at_once += usize::from(verdict.verified && verdict.retries == 0);
        }
    }
    count.microseconds.sort_unstable();
    count
}

#[test]
fn no_impossible_stack_is_verified() {
    if !have_python() {
        return;
    }
    let captures = std::env::var("PYST_TEST_CAPTURES").map_or(60, |captures| captures.parse().unwrap());
    for arguments in [&["8"][..], &["1"], &["4", "generators"]] {
        for python_only in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let target = chains(&folder, arguments);
            let count = count(target.pid(), captures, &Options { python_only, ..unstopped() });
            println!(
                "{arguments:?}, Python only: {python_only}: {} captures, {} stacks, {} verified, {} of them at once, {} asleep, {} impossible, {} impossible not verified; {} µs, at most {}",
                count.captures,
                count.stacks,
                count.verified,
                count.verified_at_once,
                count.asleep,
                count.impossible,
                count.impossible_unverified,
                count.microseconds[count.microseconds.len() / 2],
                count.microseconds.last().unwrap(),
            );
            assert_eq!(count.impossible, 0);
            // A thread that has a processor to itself may never be read twice alike, the slower pyst-grab is.
            assert!(count.verified * 2 > count.stacks || arguments[0] == "1");
        }
    }
}

#[test]
fn sleepers_are_verified_at_once_and_have_registers() {
    if !have_python() {
        return;
    }
    let target = common::python(
        "
import threading, time
def leaf(): time.sleep(1000)
for _ in range(3): threading.Thread(target=leaf).start()
time.sleep(0.2)
print('ready')
leaf()
",
    );
    let snapshot = common::grab_with(target.pid(), &unstopped()).unwrap();
    let capture: Capture = section(&snapshot);
    assert_eq!((capture.blocking, capture.stopped_ns, capture.complete), (Blocking::NOT_STOPPED, None, true));
    assert_eq!(capture.option("no-block"), Some("true"));
    let verdicts: Verdicts = section(&snapshot);
    assert_eq!((verdicts.states.len(), verdicts.threads.len()), (4, 4));
    assert!(verdicts.states.iter().all(|verdict| verdict.verified));
    assert!(verdicts.threads.iter().all(|verdict| verdict.verified && verdict.reading == ThreadReading::SLEPT));
    assert!(section::<Threads>(&snapshot).threads.iter().all(|thread| thread.registers.is_some()));
    assert!(common::diagnostics(&snapshot).iter().all(|diagnostic| diagnostic.severity < Severity::WARNING));
    let python = python(&snapshot);
    assert!(python.states.iter().all(|state| python.codes[state.frames[0].code as usize].function.escaped() == "leaf"));
}

#[test]
fn who_slept_is_verified_also_where_c_calls_python() {
    if !have_python() {
        return;
    }
    // What marks the inner evaluation loop is on the stack, which is read too, and lies elsewhere each time.
    let target = common::python(
        "
import threading, time
def leaf(depth):
    if depth: return leaf(depth - 1)
    time.sleep(0.0008)
    return 1
class Sized:
    def __len__(self): return leaf(4)
    def __hash__(self): return leaf(4)
def drive():
    while True:
        len(Sized()); hash(Sized()); list(map(lambda depth: leaf(depth), [4]))
for _ in range(6): threading.Thread(target=drive, daemon=True).start()
print('ready')
time.sleep(1000)
",
    );
    let mut slept = 0;
    for _ in 0..12 {
        let snapshot = common::grab_with(target.pid(), &unstopped()).unwrap();
        let verdicts: Verdicts = section(&snapshot);
        for verdict in verdicts.threads.iter().filter(|verdict| verdict.reading == ThreadReading::SLEPT) {
            assert!(verdict.verified, "{verdict:?}");
            slept += 1;
        }
    }
    assert!(slept > 12, "{slept}");
}

#[test]
fn states_of_threads_that_have_ended_are_not_doubted_in_silence() {
    if !have_python() {
        return;
    }
    let target = common::python(
        "
import threading, time
def churn():
    while True:
        thread = threading.Thread(target=time.sleep, args=(0.0004,)); thread.start(); thread.join()
for _ in range(4): threading.Thread(target=churn, daemon=True).start()
print('ready')
time.sleep(1000)
",
    );
    for _ in 0..60 {
        let snapshot = common::grab_with(target.pid(), &unstopped()).unwrap();
        let (python, verdicts) = (python(&snapshot), section::<Verdicts>(&snapshot));
        let diagnostics = common::diagnostics(&snapshot);
        let doubted =
            |state: &&PythonState| !state.frames.is_empty() && !verdicts.of_state(state.address).unwrap().verified;
        for state in python.states.iter().filter(doubted) {
            let is_said =
                diagnostics.iter().any(|one| one.code == "not-verified" && (one.tid.is_none() || one.tid == state.tid));
            assert!(is_said, "{state:?} {:?}: {diagnostics:?}", verdicts.of_state(state.address));
        }
    }
}
