//! Text for people, in the shape that PyStack prints and that scripts parse.
//!
//! What must hold: no string of the target can drive the terminal or forge a line, and the shape of the lines stays:
//!
//! ```text
//! Traceback for thread 20229 (python3) [] (most recent call last):
//!     (C) File "Modules/main.c", line 710, in pymain_main (inlined) (/usr/bin/python3.11)
//!     (Python) File "/t/t1.py", line 7, in e
//!         time.sleep(100000)
//!     (C) File "???", line 0, in time_sleep (/usr/bin/python3.11)
//! ```

mod core;
mod exception;
mod paint;
mod variables;

use crate::assemble::Assembly;
use crate::kernel;
use crate::model::{Frame, NativeFrame, PythonFrame, PythonState, Report, Thread};
use crate::threads::ends_early;
use paint::{Paint, WriteTo};
use pyst_snapshot::Safe;
use pyst_snapshot::payload::{Attachment, FrameChainEnd, GilState, Severity};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// What to show, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Also the interpreter's own native frames.
    pub native_internals: bool,
    /// Show only those native frames that the innermost Python frame called.
    pub native_last: bool,
    /// Also threads that run no Python.
    pub all_threads: bool,
    /// With colours.
    pub color: bool,
    /// The snapshot's place in its stream, from 0, if a line shall tell the snapshots of the stream apart.
    pub snapshot: Option<usize>,
}

/// Writes a report.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let several = interpreters_of(&report.threads).len() > 1;
    write_threads(report, report.threads.iter(), several, options, out)
}

/// Writes a report as its threads are made.
///
/// # Errors
/// Those of `out`.
pub fn write_assembly(assembly: &Assembly, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let several = assembly.threads.interpreters().len() > 1;
    write_threads(assembly.head(), assembly.threads.iter(), several, options, out)
}

/// Writes a report, of which these are the threads. `several` tells whether there are Python frames of several interpreters.
fn write_threads(
    report: &Report,
    threads: impl Iterator<Item = impl Borrow<Thread>>,
    several: bool,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut threads = threads.peekable();
    let has_threads = threads.peek().is_some();
    let paint = Paint { color: options.color };
    write_separator(report, options, &paint, out)?;
    core::write(report, &paint, out)?;
    if options.snapshot.is_some() && !has_threads {
        write_failure(report, out)?;
    }
    if report.python.is_none() && report.python_was_sought {
        writeln!(out, "No Python interpreter was found in this process.\n")?;
    }
    if report.python.as_ref().is_some_and(|python| python.interpreters.is_none()) {
        writeln!(out, "This snapshot has no Python frames yet: pyst-py adds them.\n")?;
    }
    let writer = Writer { options, paint: &paint, blocks: several };
    let mut shows_any = false;
    for thread in threads {
        let thread = thread.borrow();
        // One with Python frames is shown always.
        if !is_shown(report, thread, options) {
            continue;
        }
        if shows_any {
            writeln!(out)?;
        }
        shows_any = true;
        writer.write_thread(thread, out)?;
    }
    if has_threads && !shows_any {
        writeln!(out, "No thread runs Python code; --all-threads shows those that do not.")?;
    }
    Ok(())
}

fn write_separator(report: &Report, options: &Options, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    let Some(index) = options.snapshot else { return Ok(()) };
    if index > 0 {
        writeln!(out)?;
    }
    let number = index.saturating_add(1);
    let line = match &report.process {
        Some(process) => format!("Snapshot {number}: process {} ({})", process.pid, Safe(&process.name)),
        None => format!("Snapshot {number}"),
    };
    writeln!(out, "{}\n", paint.header(line))
}

/// Says below the heading of a process that nothing follows. Why, standard error has in full.
fn write_failure(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let failure = report.diagnostics.iter().find(|diagnostic| diagnostic.severity.0 == Severity::FAILURE);
    failure.map_or(Ok(()), |failure| writeln!(out, "Not captured ({}).", Safe(&failure.code)))
}

/// A thread is shown when it crashed or is one of Python's. Where no Python frames are known, each may be what the reader
/// looks for.
fn is_shown(report: &Report, thread: &Thread, options: &Options) -> bool {
    let walked = report.python.as_ref().is_some_and(|python| python.interpreters.is_some());
    let has_python_frames = thread.frames.iter().any(|frame| matches!(frame, Frame::Python(_)));
    let lost_frames = thread.python_states.iter().any(|state| state.frames_end.0 != FrameChainEnd::COMPLETE);
    let is_pythons = thread.tid.is_some() && !thread.python_states.is_empty();
    options.all_threads || !walked || thread.crashed || is_pythons || has_python_frames || lost_frames
}

fn interpreters_of(threads: &[Thread]) -> BTreeSet<Option<i64>> {
    let frames = threads.iter().flat_map(|thread| &thread.frames);
    let interpreter = |frame: &Frame| match frame {
        Frame::Python(frame) => Some(frame.interpreter_id),
        Frame::Native(_) => None,
    };
    frames.filter_map(interpreter).collect()
}

struct Writer<'a> {
    options: &'a Options,
    paint: &'a Paint,
    /// Whether a line says which interpreter the frames after it belong to.
    blocks: bool,
}

impl Writer<'_> {
    fn write_thread(&self, thread: &Thread, out: &mut impl Write) -> io::Result<()> {
        let tid = thread.tid.map_or_else(|| "???".to_owned(), |tid| tid.to_string());
        let visible = |frame: &&Frame| self.options.native_internals || !is_internal(frame);
        let cut = thread.python_states.iter().any(|state| state.frames_end.0 != FrameChainEnd::COMPLETE);
        if !thread.frames.iter().any(|frame| visible(&frame)) && !cut {
            return writeln!(out, "{}", self.paint.header(format_args!("The frame stack for thread {tid} is empty")));
        }
        let name = thread.name.as_deref().or(thread.os_name.as_deref()).unwrap_or("???");
        let doing =
            if self.blocks { String::new() } else { thread.python_states.first().map(doing).unwrap_or_default() };
        let header = format!("Traceback for thread {tid} ({}) [{doing}] (most recent call last):", Safe(name));
        writeln!(out, "{}", self.paint.header(header))?;
        let mut ends = StackEnds::of_thread(thread);
        let mut interpreter = None;
        let innermost = thread.frames.iter().rposition(|frame| matches!(frame, Frame::Python(_)));
        let first_native = innermost.filter(|_| self.options.native_last).unwrap_or(0);
        for (index, frame) in thread.frames.iter().enumerate() {
            ends.write_before(frame, self.paint, out)?;
            match frame {
                Frame::Python(frame) => {
                    if self.blocks && interpreter != Some(frame.interpreter_id) {
                        interpreter = Some(frame.interpreter_id);
                        write_interpreter(thread, frame.interpreter_id, out)?;
                    }
                    self.write_python(frame, out)?;
                }
                Frame::Native(_) if !visible(&frame) || index < first_native => {}
                Frame::Native(frame) => self.write_native(frame, out)?,
            }
        }
        ends.write_rest(self.paint, out)?;
        if let Some(line) = kernel::line(thread) {
            writeln!(out, "    (Kernel) {}", Safe(&line))?;
        }
        exception::write(&thread.python_states, self.blocks, self.paint, out)
    }

    fn write_python(&self, frame: &PythonFrame, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"    (Python) ")?;
        self.write_place(frame.file.as_deref(), frame.line, frame.function.as_deref(), out)?;
        out.write_all(b"\n")?;
        if let Some(source) = frame.source.as_deref().map(str::trim).filter(|source| !source.is_empty()) {
            out.write_all(b"        ")?;
            Safe(source).write_to(out)?;
            if frame.source_newer == Some(true) {
                write!(out, " {}", self.paint.note("[file changed since the process started]"))?;
            }
            out.write_all(b"\n")?;
        }
        variables::write(frame, self.paint, out)
    }

    fn write_native(&self, frame: &NativeFrame, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"    (C) ")?;
        self.write_place(frame.file.as_deref(), frame.line, frame.function.as_deref(), out)?;
        out.write_all(if frame.inlined { b" (inlined) (" } else { b" (" })?;
        Safe(frame.module.as_deref().unwrap_or("???")).write_to(out)?;
        out.write_all(b")\n")
    }

    /// `File "F", line N, in FUNC`; what is not known is `???`, and the line then 0.
    fn write_place(
        &self,
        file: Option<&str>,
        line: Option<u32>,
        function: Option<&str>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        out.write_all(b"File \"")?;
        self.paint.file(Safe(file.unwrap_or("???"))).write_to(out)?;
        out.write_all(b"\", line ")?;
        self.paint.line(line.unwrap_or(0)).write_to(out)?;
        out.write_all(b", in ")?;
        self.paint.function(Safe(function.unwrap_or("???"))).write_to(out)
    }
}

fn is_internal(frame: &Frame) -> bool {
    matches!(frame, Frame::Native(NativeFrame { internal: true, .. }))
}

/// What a state does, in the words between brackets.
fn doing(state: &PythonState) -> String {
    let gil = match state.gil.map(|gil| gil.0) {
        Some(GilState::HOLDING) => Some("Has the GIL"),
        Some(GilState::WAITING) => Some("Waiting for the GIL"),
        Some(GilState::DROPPING) => Some("Dropping the GIL"),
        _ => None,
    };
    let suspended = state.attachment.is_some_and(|attachment| attachment.0 == Attachment::SUSPENDED);
    let suspended = suspended.then_some("Suspended");
    let collecting = (state.gc_collecting == Some(true)).then_some("Garbage collecting");
    let doubtful = (state.verified == Some(false)).then_some("Not verified");
    gil.into_iter().chain(suspended).chain(collecting).chain(doubtful).collect::<Vec<_>>().join(",")
}

fn write_interpreter(thread: &Thread, id: Option<i64>, out: &mut impl Write) -> io::Result<()> {
    let state = thread.python_states.iter().find(|state| state.interpreter_id == id);
    let doing = state.map(doing).unwrap_or_default();
    match id {
        Some(0) => writeln!(out, "  In the main interpreter [{doing}]"),
        Some(id) => writeln!(out, "  In interpreter {id} [{doing}]"),
        None => writeln!(out, "  In interpreter ??? [{doing}]"),
    }
}

/// What is missing at the outer ends of a thread's stacks, each said once, before the outermost frame that is left.
struct StackEnds<'a> {
    native: Option<String>,
    /// By interpreter.
    python: BTreeMap<Option<i64>, Vec<&'a PythonState>>,
}

impl StackEnds<'_> {
    fn of_thread(thread: &Thread) -> StackEnds<'_> {
        let native = thread.stack_end.map(|end| end.0).filter(|end| ends_early(*end));
        let mut python: BTreeMap<Option<i64>, Vec<&PythonState>> = BTreeMap::new();
        for state in thread.python_states.iter().filter(|state| state.frames_end.0 != FrameChainEnd::COMPLETE) {
            python.entry(state.interpreter_id).or_default().push(state);
        }
        StackEnds { native: native.map(|end| end.name().into_owned()), python }
    }

    fn write_before(&mut self, frame: &Frame, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
        match frame {
            Frame::Native(_) => match self.native.take() {
                Some(end) => writeln!(out, "    {}", paint.note(format_args!("(C) … stack ends here: {end}"))),
                None => Ok(()),
            },
            Frame::Python(frame) => {
                write_python_ends(self.python.remove(&frame.interpreter_id).unwrap_or_default(), paint, out)
            }
        }
    }

    /// The states that have no frame left. A native stack without a frame says nothing: its thread has a diagnostic.
    fn write_rest(self, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
        write_python_ends(self.python.into_values().flatten().collect(), paint, out)
    }
}

fn write_python_ends(states: Vec<&PythonState>, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    for state in states {
        let end = state.frames_end.0.name();
        writeln!(out, "    {}", paint.note(format_args!("(Python) … frames end here: {end}")))?;
    }
    Ok(())
}
