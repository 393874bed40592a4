//! A report from the sections of a snapshot.

use crate::model::{Diagnostic, Interpreter, Process, Python, Report, SCHEMA, Signal, SnapshotInfo, VERSION};
use crate::sections::Sections;
use crate::signals;
use crate::threads::Threads;
use crate::time::rfc3339;
use crate::words::{Hex, Word};
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::{RuntimePhase, Severity, Stage};
use pyst_snapshot::{Snapshot, Tid};

/// A report whose threads are made when they are asked for, one at a time.
pub struct Assembly<'a> {
    head: Report,
    pub(crate) threads: Threads<'a>,
}

impl<'a> Assembly<'a> {
    /// The report of what a snapshot holds. A pure function: nothing else decides over it.
    #[must_use]
    pub fn of_sections(sections: &'a Sections) -> Assembly<'a> {
        let (threads, problems) = Threads::of_sections(sections);
        let problems = problems.into_iter().map(|(tid, code, message)| {
            let tid = tid.map(Tid);
            let diagnostic = wire::Diagnostic { tid, ..wire::Diagnostic::new(Severity::WARNING, code, message) };
            Diagnostic::new(Stage::FMT, diagnostic)
        });
        let diagnostics = in_order(sections.diagnostics.iter().cloned().chain(problems).collect());
        let lost = |diagnostic: &Diagnostic| matches!(diagnostic.severity.0, Severity::LOSS | Severity::FAILURE);
        let sound = !sections.defective && !diagnostics.iter().any(lost);
        let head = Report {
            schema: SCHEMA,
            version: VERSION,
            snapshot: snapshot_info(sections.capture.as_ref(), sound),
            process: sections.process.as_ref().map(process),
            python: python(sections),
            threads: Vec::new(),
            diagnostics,
            python_was_sought: sections.runtime.is_some(),
        };
        Assembly { head, threads }
    }

    /// All but the threads.
    #[must_use]
    pub fn head(&self) -> &Report {
        &self.head
    }

    /// Whether there is anything to show, as [`Report::has_content`] says.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.head.has_content() || !self.threads.is_empty()
    }
}

impl Report {
    /// The report of a snapshot, with all its threads.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Report {
        let sections = Sections::of_snapshot(snapshot.clone());
        let Assembly { head, threads } = Assembly::of_sections(&sections);
        Report { threads: threads.iter().collect(), ..head }
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
pub(crate) fn letter(state: u8) -> String {
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
