//! A report from the sections of a snapshot.

use crate::cut::{MAX_TEXT, cut};
use crate::doing::Doings;
use crate::frames::Names;
use crate::kernel::Kernel;
use crate::merge::{Entry, Merged, Reason, Unplaced, merge};
use crate::model::{
    Diagnostic, Interpreter, Process, Python, PythonState, Report, SCHEMA, Signal, SnapshotInfo, Thread, VERSION,
};
use crate::sections::Sections;
use crate::signals;
use crate::time::rfc3339;
use crate::verdicts::Verdicts;
use crate::words::{Decimal, Hex, Word};
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::{GilState, RuntimePhase, Severity, StackEnd};
use pyst_snapshot::{Snapshot, Tid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

impl Report {
    /// The report of a snapshot. A pure function: nothing but the snapshot decides over it.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Report {
        let mut sections = Sections::of_snapshot(snapshot);
        let (threads, problems) = threads(&sections);
        for (tid, code, message) in problems {
            let tid = tid.map(Tid);
            sections.note(wire::Diagnostic { tid, ..wire::Diagnostic::new(Severity::WARNING, code, message) });
        }
        let diagnostics = in_order(std::mem::take(&mut sections.diagnostics));
        let lost = |diagnostic: &Diagnostic| matches!(diagnostic.severity.0, Severity::LOSS | Severity::FAILURE);
        let sound = snapshot.defects.is_empty() && !diagnostics.iter().any(lost);
        Report {
            schema: SCHEMA,
            version: VERSION,
            snapshot: snapshot_info(sections.capture.as_ref(), sound),
            process: sections.process.as_ref().map(process),
            python: python(&sections),
            threads,
            diagnostics,
            python_was_sought: sections.runtime.is_some(),
        }
    }
}

/// Sorts by stage, tid and code, so that the order the stages ran in leaves no trace, and drops what was said twice.
fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    fn key(d: &Diagnostic) -> (u16, Option<u32>, &str, &str, u16) {
        (d.stage.0.0, d.tid, &d.code, &d.message, d.severity.0.0)
    }
    diagnostics.sort_by(|a, b| key(a).cmp(&key(b)));
    diagnostics.dedup();
    diagnostics
}

fn snapshot_info(capture: Option<&wire::Capture>, sound: bool) -> SnapshotInfo {
    let Some(capture) = capture else { return SnapshotInfo::default() };
    SnapshotInfo {
        source: Some(Word(capture.source)),
        arch: Some(Word(capture.arch)),
        captured_at: Some(rfc3339(capture.captured_at_ns)),
        blocking: Some(Word(capture.blocking)),
        stopped_ns: capture.stopped_ns,
        stopped_bytes: capture.stopped_bytes,
        complete: capture.complete && sound,
        tool: Some(capture.tool.clone()),
        host: Some(capture.host.clone()),
    }
}

fn process(process: &wire::Process) -> Process {
    Process {
        pid: process.pid,
        namespace_pids: process.namespace_pids.clone(),
        ppid: process.ppid,
        pgrp: process.pgrp,
        sid: process.sid,
        uid: process.uid,
        gid: process.gid,
        state: process.state.map(letter),
        zombie: process.zombie,
        nice: process.nice,
        name: process.name.escaped(),
        exe: process.exe.as_ref().map(|exe| exe.escaped()),
        exe_found: (!process.exe_found.is_empty()).then(|| process.exe_found.clone()),
        cmdline: process.cmdline.iter().map(|argument| argument.escaped()).collect(),
        cwd: process.cwd.as_ref().map(|cwd| cwd.escaped()),
        started_at: process.started_at_ns.map(rfc3339),
        signal: process.signal.as_ref().map(signal),
    }
}

fn signal(signal: &wire::Signal) -> Signal {
    Signal {
        number: signal.number,
        name: signals::name(signal.number).map(|name| name.into_owned()),
        code: signal.code,
        tid: signal.tid.0,
        sender_pid: signal.sender_pid,
        sender_uid: signal.sender_uid,
        fault_address: signal.fault_address.map(Hex),
    }
}

/// The kernel's state letter; a byte that is no letter is marked.
fn letter(state: u8) -> String {
    pyst_snapshot::Bytes(vec![state]).escaped()
}

fn python(sections: &Sections) -> Option<Python> {
    let found = sections.runtime.as_ref().and_then(|runtime| runtime.found.as_ref());
    let walked = sections.python.as_ref();
    if found.is_none() && walked.is_none() {
        return None;
    }
    Some(Python {
        version: found.map(|found| found.version()),
        implementation: "CPython",
        free_threaded: found.map(|found| found.free_threaded),
        debug: found.and_then(|found| found.debug),
        found_by: found.map(|found| Word(found.found_by)),
        version_found_by: found.map(|found| Word(found.version_found_by)),
        layout: found.map(|found| found.layout.clone()),
        layout_source: found.map(|found| Word(found.layout_source)),
        finalizing: walked.map(|python| python.phase == RuntimePhase::FINALIZING),
        interpreters: walked.map(|python| {
            python.interpreters.iter().map(|interpreter| self::interpreter(interpreter, python)).collect()
        }),
    })
}

fn interpreter(interpreter: &wire::InterpreterV1, python: &wire::Python) -> Interpreter {
    let holder = interpreter.gil_holder;
    let holder = holder.and_then(|holder| python.states.iter().find(|state| state.address == holder));
    Interpreter {
        id: interpreter.id,
        gil_holder_tid: holder.and_then(|state| state.tid).map(|tid| tid.0),
        gc_collecting: interpreter.gc_collecting,
        world_stopped: interpreter.world_stopped,
    }
}

/// A diagnostic: thread, code, message.
pub(crate) type Problem = (Option<u32>, &'static str, String);

/// What the sections hold of one thread.
#[derive(Default)]
struct Parts<'a> {
    thread: Option<&'a wire::Thread>,
    native: Option<&'a wire::NativeStack>,
    states: Vec<&'a wire::PythonState>,
    /// The index of each of them among all states.
    indices: Vec<u32>,
}

impl<'a> Parts<'a> {
    /// The states in the order the merge found: innermost first.
    fn states_in(&self, merged: &Merged) -> Vec<&'a wire::PythonState> {
        merged.states.iter().filter_map(|index| self.states.get(*index).copied()).collect()
    }
}

/// What the sections hold of each thread that any of them knows of. A state whose thread is not known has parts of its own.
fn all_parts(sections: &Sections) -> Vec<(Option<u32>, Parts<'_>)> {
    let mut all: BTreeMap<(Option<Tid>, u32), Parts> = BTreeMap::new();
    for thread in &sections.threads.threads {
        all.entry((Some(thread.tid), 0)).or_default().thread.get_or_insert(thread);
    }
    for stack in sections.native.iter().flat_map(|native| &native.stacks) {
        all.entry((Some(stack.tid), 0)).or_default().native.get_or_insert(stack);
    }
    for (index, state) in (0..).zip(sections.python.iter().flat_map(|python| &python.states)) {
        let owner = state.tid.map_or((None, index), |tid| (Some(tid), 0));
        let parts = all.entry(owner).or_default();
        parts.states.push(state);
        parts.indices.push(index);
    }
    all.into_iter().map(|((tid, _), parts)| (tid.map(|tid| tid.0), parts)).collect()
}

/// All threads that any section knows of, each merged, in the report's order.
fn threads(sections: &Sections) -> (Vec<Thread>, Vec<Problem>) {
    let names = Names::of_sections(sections);
    let mut problems = Vec::new();
    let merged: Vec<(Option<u32>, Parts, Merged)> = all_parts(sections)
        .into_iter()
        .map(|(tid, parts)| {
            let native = parts.native.map_or(&[][..], |stack| &stack.frames);
            let is_loop = |frame: usize| native.get(frame).is_some_and(|frame| names.is_loop(frame));
            let merged = merge(parts.native, &parts.states, &is_loop);
            (tid, parts, merged)
        })
        .collect();
    let mut doings = Doings::default();
    for (_, parts, merged) in &merged {
        doings.add(parts.native, &parts.states_in(merged), &names);
    }
    let kernel = Kernel::of_sections(sections);
    let verdicts = Verdicts::of_sections(sections);
    let thread = |(tid, parts, merged): (Option<u32>, Parts, Merged)| {
        report_problems(tid, &parts, &merged, &mut problems);
        let mut thread = thread(tid, &parts, &merged, &names, &doings);
        kernel.add_to(&mut thread);
        verdicts.add_to(&mut thread, &parts.states_in(&merged));
        thread
    };
    let mut threads: Vec<Thread> = merged.into_iter().map(thread).collect();
    problems.extend(sections.python.iter().flat_map(|python| doings.collectors_unknown(python)));
    if names.cut > 0 {
        let message = format!("names or lines longer than {MAX_TEXT} bytes are cut, and marked with …: {}", names.cut);
        problems.push((None, "text-cut", message));
    }
    let stacks = sections.native.iter().flat_map(|native| &native.stacks);
    let others: BTreeSet<&str> =
        stacks.flat_map(|stack| &stack.frames).filter_map(|frame| names.other_python(frame)).collect();
    if let Some(first) = others.first() {
        let more = if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
        let message = format!(
            "another Python runs in this process, too ({first}{more}): its frames are not shown, only the native frames \
             that run them"
        );
        problems.push((None, "other-python", message));
    }
    let main = sections.process.as_ref().map(|process| process.pid);
    threads.sort_by_key(|thread| {
        let is_main = thread.tid.is_some() && thread.tid == main;
        (Reverse(thread.crashed), Reverse(is_main), thread.tid.is_none(), thread.tid)
    });
    (threads, problems)
}

fn thread(tid: Option<u32>, parts: &Parts, merged: &Merged, names: &Names, doings: &Doings) -> Thread {
    let kernel = parts.thread;
    let native = parts.native.map_or(&[][..], |stack| &stack.frames);
    let mut frames = Vec::with_capacity(merged.entries.len());
    for entry in &merged.entries {
        match *entry {
            Entry::Native { frame, runs_python } => {
                frames.extend(native.get(frame).into_iter().flat_map(|frame| names.native(frame, runs_python)));
            }
            Entry::Python { state, frame, entry, placed_by } => {
                let known = parts.states.get(state).zip(parts.indices.get(state));
                let known = known.and_then(|(state, index)| Some((state, *index, state.frames.get(frame)?)));
                frames.extend(known.map(|(state, index, wire)| {
                    names.python(state.interpreter, wire, (index, frame), entry, placed_by)
                }));
            }
        }
    }
    let state = |state: &wire::PythonState| PythonState {
        interpreter_id: names.interpreter(state.interpreter),
        ident: state.ident.into(),
        verified: None,
        retries: None,
        frames_end: Word(state.end),
        gil: doings.gil(state).map(Word),
        gc_collecting: doings.collects(state, names.is_collecting(state.interpreter)),
        attachment: state.attachment.map(Word),
        exception: state.exception.as_ref().map(|exception| names.exception(exception)),
    };
    let mut python_states: Vec<PythonState> = parts.states_in(merged).into_iter().map(state).collect();
    // Interpreters may share a GIL, and the thread waits for it but once.
    for outer in python_states.iter_mut().skip(1).filter(|state| state.gil == Some(Word(GilState::WAITING))) {
        outer.gil = Some(Word(GilState::NONE));
    }
    // The interpreter that made the thread has the outermost state; to another's `threading` it is a main thread.
    let named = parts.states_in(merged).into_iter().rev().find(|state| state.name.is_some());
    let mut name = named.and_then(|state| state.name.as_ref()).map(|name| name.escaped());
    name.as_mut().map(cut);
    Thread {
        tid,
        namespace_tid: kernel.and_then(|thread| thread.namespace_tid),
        ident: ident(parts),
        name,
        daemon: named.and_then(|state| state.daemon),
        os_name: kernel.and_then(|thread| thread.name.as_ref()).map(|name| name.escaped()),
        state: kernel.and_then(|thread| thread.state).map(letter),
        wchan: None,
        syscall: None,
        crashed: kernel.is_some_and(|thread| thread.crashed),
        reading: None,
        gil: python_states.first().and_then(|state| state.gil),
        gc_collecting: python_states.first().and_then(|state| state.gc_collecting),
        exception: python_states.first().and_then(|state| state.exception.clone()),
        python_states,
        stack_end: parts.native.map(|stack| Word(stack.end)),
        frames,
    }
}

/// A thread's ident is its thread pointer. Without registers it is what its states say, if they agree: before 3.13 a
/// sub-interpreter's state may hold the ident of another thread.
fn ident(parts: &Parts) -> Option<Decimal> {
    let registers = parts.thread.and_then(|thread| thread.registers.as_ref());
    if let Some(pointer) = registers.and_then(|registers| registers.thread_pointer) {
        return Some(Decimal(pointer.0));
    }
    let first = parts.states.first()?.ident;
    parts.states.iter().all(|state| state.ident == first).then(|| first.into())
}

fn report_problems(tid: Option<u32>, parts: &Parts, merged: &Merged, problems: &mut Vec<Problem>) {
    for unplaced in &merged.unplaced {
        problems.push((tid, "run-unplaced", unplaced_message(unplaced, parts.native)));
    }
    if merged.state_order_unknown {
        let message = "frames of several interpreters run on this thread, and nothing tells which called which: they are \
                       shown one interpreter after the other, the newest innermost";
        problems.push((tid, "interpreter-order-unknown", message.to_owned()));
    }
}

fn unplaced_message(unplaced: &Unplaced, native: Option<&wire::NativeStack>) -> String {
    let Unplaced { reason, runs, frames } = *unplaced;
    let end = native.map(|stack| stack.end).filter(|end| ends_early(*end));
    let why = match (reason, end) {
        (Reason::OutsideStack, Some(end)) => {
            format!("their evaluation loops are not in the native stack, which ends early ({})", end.name())
        }
        (Reason::OutsideStack, None) => "their evaluation loops are not in the native stack".to_owned(),
        (Reason::NoAnchor, _) => "the interpreter keeps nothing of them on the C stack".to_owned(),
        (Reason::Ambiguous, _) => "several native frames claim the same part of the stack".to_owned(),
        (Reason::Disorder, _) => "their places contradict the order of the Python frames".to_owned(),
    };
    let (runs_word, frames_word) = (plural(runs, "run"), plural(frames, "Python frame"));
    format!(
        "{frames_word} in {runs_word} could not be placed among the native frames: {why}. They are shown where their \
         order puts them; which native frames called them is not known"
    )
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// Whether a native stack has outer frames that are not known.
pub(crate) fn ends_early(end: StackEnd) -> bool {
    !matches!(end, StackEnd::COMPLETE | StackEnd::ZERO_RETURN_ADDRESS)
}
