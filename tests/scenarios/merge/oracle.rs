//! Merged stacks held against gdb: which native frames there are, which are evaluation loops, and what these run.
//!
//! From 3.11 on gdb reads from the process what the interpreter keeps of each run on the C stack (`tests/tools/python_runs.py`): the
//! native frame in whose part of the stack that lies is the loop, whatever its name, and the functions of the run are those that
//! must follow it. Before, loops are known by name: they have one also where there is no `.symtab`, for Python exports them, and
//! of a stripped copy gdb is given the original's symbols.

use anyhow::{Context, Result, ensure};
use pyst_tests::{GdbFrame, Interpreter, Report, Target, Thread};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A Python function, native functions one of which it must have called, and the Python function that these called. No name
/// stands for the thread's start and for its end.
pub(super) type Between = (&'static str, &'static [&'static str], &'static str);

/// Holds all threads against gdb; how many Python frames have no place.
pub(super) fn check_threads(
    interpreter: &Interpreter,
    target: &Target,
    report: &Report,
    oracle: &BTreeMap<u32, Vec<GdbFrame>>,
    is_lossy: bool,
) -> Result<usize> {
    let mut known: Vec<u32> = report.threads().iter().filter_map(Thread::tid).collect();
    // The main thread comes first in a report, and has the highest id where those of the others begin anew at the lowest.
    known.sort_unstable();
    ensure!(known == oracle.keys().copied().collect::<Vec<_>>(), "threads {known:?}, gdb has {:?}", oracle.keys());
    let mut unplaced = 0;
    for (tid, gdb) in oracle {
        let thread = report.thread(*tid)?;
        let runs_python = target.account().threads.iter().any(|thread| thread.tid == *tid);
        unplaced +=
            check_thread(interpreter, &thread, gdb, runs_python, is_lossy).with_context(|| format!("thread {tid}"))?;
        ensure!(thread.json["stack_end"] == "complete", "the stack ends with {}", thread.json["stack_end"]);
    }
    Ok(unplaced)
}

fn check_thread(
    interpreter: &Interpreter,
    thread: &Thread<'_>,
    gdb: &[GdbFrame],
    runs_python: bool,
    is_lossy: bool,
) -> Result<usize> {
    let pcs: Vec<String> = thread.native_frames().iter().map(|frame| text(&frame["address"])).collect();
    let expected: Vec<String> = gdb.iter().map(|frame| format!("{:#x}", frame.pc)).collect();
    ensure!(pcs == expected, "native frames {pcs:?}, gdb has {expected:?}: {gdb:?}");
    let nameless = if has_symbols(interpreter) { BTreeSet::new() } else { before_runs(thread) };
    let is_loop = |frame: &GdbFrame| match (&frame.runs, &frame.name) {
        (Some(runs), _) => !runs.is_empty(),
        (None, Some(name)) => is_named_loop(interpreter, name),
        (None, None) => nameless.contains(&format!("{:#x}", frame.pc)),
    };
    runs_are_gdbs(interpreter, thread, gdb)?;
    ensure!(gdb.iter().any(is_loop) == runs_python, "gdb finds evaluation loops, or not: {gdb:?}");
    // A run follows each loop, and nothing else.
    let mut native = gdb.iter();
    let (mut last_was_loop, mut unplaced) = (false, 0);
    for frame in thread.frames() {
        if frame["kind"] == "native" && frame["inlined"] == true {
            continue;
        }
        let placed_by = text(&frame["placed_by"]);
        if placed_by == "unplaced" {
            unplaced += 1;
            continue;
        }
        let entry = frame["kind"] == "python" && frame["entry"] == true;
        // Loops whose frames are lost have none.
        ensure!(
            entry == last_was_loop || is_lossy && !entry,
            "an evaluation loop and the first frame of a run do not meet at {frame}"
        );
        last_was_loop = false;
        if frame["kind"] == "native" {
            last_was_loop = native.next().is_some_and(is_loop);
        } else {
            let ways: &[&str] = match interpreter.version {
                (3, 12..) => &["shim-frame"],
                (3, 11) => &["c-frame"],
                _ => &["register", "order"],
            };
            ensure!(ways.contains(&placed_by.as_str()), "placed by {placed_by}: {frame}");
        }
    }
    Ok(unplaced)
}

/// Each loop runs the functions that it runs by gdb, and no other native frame runs any. What has no place is shown inside of the run that
/// called it.
fn runs_are_gdbs(interpreter: &Interpreter, thread: &Thread<'_>, gdb: &[GdbFrame]) -> Result<()> {
    let mut frames = thread.frames();
    frames.retain(|frame| frame["inlined"] != true);
    let mut groups = frames.chunk_by(|_, next| next["kind"] == "python");
    for gdb in gdb {
        let Some(runs) = &gdb.runs else { return Ok(()) };
        let group = groups.next().context("too few frames")?;
        ensure!(group[0]["kind"] == "native", "Python frames before all native ones: {group:?}");
        // A tail-call interpreter's is small enough for a compiler to inline it.
        let inlined = gdb.calls.iter().filter_map(|call| call.name.as_ref());
        let mut names = gdb.name.iter().chain(inlined).filter(|_| has_symbols(interpreter)).peekable();
        ensure!(
            names.peek().is_none() || names.any(|name| is_named_loop(interpreter, name)) != runs.is_empty(),
            "what runs Python is a loop: {gdb:?}"
        );
        let found: Vec<String> = group[1..].iter().map(|frame| text(&frame["function"])).collect();
        let expected: Vec<&String> = runs.iter().flatten().rev().flatten().collect();
        ensure!(runs.len() <= 1, "one frame runs several: {gdb:?}");
        ensure!(found.iter().eq(expected.iter().copied()), "at {:#x} run {found:?}, by gdb {expected:?}", gdb.pc);
    }
    Ok(())
}

/// The native frames that a run follows, by their pcs.
fn before_runs(thread: &Thread<'_>) -> BTreeSet<String> {
    let frames = thread.frames();
    let before = frames.windows(2).filter(|pair| pair[0]["kind"] == "native" && pair[1]["kind"] == "python");
    before.map(|pair| text(&pair[0]["address"])).collect()
}

/// Whether gdb knows all functions of the interpreter by name.
fn has_symbols(interpreter: &Interpreter) -> bool {
    !interpreter.stripped || interpreter.name.ends_with(" stripped")
}

fn is_named_loop(interpreter: &Interpreter, name: &str) -> bool {
    let name = name.split('.').next().unwrap_or_default();
    name == if interpreter.version < (3, 0) { "PyEval_EvalFrameEx" } else { "_PyEval_EvalFrameDefault" }
}

/// Looks for native functions between Python functions, by pyst's names for them and gdb's. Where neither has symbols, some
/// native frame must be there.
pub(super) fn check_between(
    interpreter: &Interpreter,
    report: &Report,
    oracle: &BTreeMap<u32, Vec<GdbFrame>>,
    (caller, natives, callee): Between,
) -> Result<()> {
    let has_names = has_symbols(interpreter);
    let mut seen = 0;
    for thread in report.threads() {
        let gdb = thread.tid().and_then(|tid| oracle.get(&tid)).context("gdb does not know the thread")?;
        let frames = names(&thread, gdb);
        for (start, _) in frames.iter().enumerate().filter(|(_, frame)| frame.is(caller)) {
            let rest = &frames[start + 1..];
            let called: Vec<_> = rest.iter().take_while(|frame| !frame.is_python).collect();
            if !rest.get(called.len()).is_some_and(|next| next.is(callee)) {
                continue;
            }
            // gcc adds suffixes to the symbols of parts and copies: `_gen_throw.isra.0`.
            let base = |name: &String| natives.contains(&name.split('.').next().unwrap_or_default());
            let is_there = called.iter().any(|frame| !has_names || frame.names.iter().any(base));
            ensure!(is_there, "between {caller} and {callee} there is none of {natives:?}: {called:?}");
            seen += 1;
        }
    }
    ensure!(seen > 0, "{caller} does not call {callee}");
    Ok(())
}

#[derive(Debug)]
struct Named {
    is_python: bool,
    names: Vec<String>,
}

impl Named {
    fn is(&self, function: &str) -> bool {
        self.is_python && self.names.iter().any(|name| name == function)
    }
}

/// A thread's frames, each with all names it has, between a nameless Python function and another.
fn names(thread: &Thread<'_>, gdb: &[GdbFrame]) -> Vec<Named> {
    let nameless = || Named { is_python: true, names: vec![String::new()] };
    let mut all = vec![nameless()];
    let mut gdb = gdb.iter();
    for frame in thread.frames() {
        let is_python = frame["kind"] == "python";
        let mut names = vec![text(&frame["function"])];
        if !is_python && frame["inlined"] != true {
            let frame = gdb.next();
            names.extend(frame.into_iter().flat_map(|frame| &frame.calls).filter_map(|call| call.name.clone()));
        }
        all.push(Named { is_python, names });
    }
    all.push(nameless());
    all
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
