//! The report: what a snapshot says, merged and in words. Its serialization is the JSON format, and the JSON Schema in
//! `schemas/` is generated from these types.
//!
//! **Adding a field keeps [`VERSION`]; renaming or removing one, or changing what it means, raises it.** Every field is
//! always written; what is not known is null.

use crate::merge::PlacedBy;
use crate::words::{Decimal, Hex, Word};
use pyst_snapshot::Tid;
use pyst_snapshot::payload::{
    self as wire, Arch, Attachment, Blocking, CaptureSource, FoundBy, FrameChainEnd, GilState, LayoutSource,
    RuntimeFoundBy, Severity, SocketProtocol, SocketState, StackEnd, Stage, ThreadReading, ValueAbsence, VariableKind,
    VersionFoundBy,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// The value of `schema` in every report.
pub const SCHEMA: &str = "pyst.report";

/// The version of the format.
pub const VERSION: u32 = 1;

/// What one Python process was doing: the report of one snapshot.
///
/// Readers must accept fields and words that they do not know. Addresses are strings (`0x…`), and so are numbers that may
/// pass 2^53. Bytes of the target that are no UTF-8 are written `\xNN`, lone surrogates of Python strings `\udcNN`. Names
/// and source lines of more than 4096 bytes are cut and end in `…`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// Always `pyst.report`.
    pub schema: &'static str,
    /// The version of this format: adding a field keeps it, renaming or removing one raises it.
    pub version: u32,
    /// How and when the snapshot was taken.
    pub snapshot: SnapshotInfo,
    /// The process; null when the snapshot lost it.
    pub process: Option<Process>,
    /// The Python in it; null when none was found.
    pub python: Option<Python>,
    /// The threads: the one that crashed first, then the main thread, then by tid; Python states of no known thread last.
    pub threads: Vec<Thread>,
    /// What could not be done, and what the reader must know, by stage, tid and code.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the search for an interpreter ran to its end, so that no Python means that there is none.
    #[serde(skip)]
    pub(crate) python_was_sought: bool,
}

/// How and when the snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct SnapshotInfo {
    /// What it was taken from: a living process or a core file.
    pub source: Option<Word<CaptureSource>>,
    /// The target's instruction set.
    pub arch: Option<Word<Arch>>,
    /// When memory was read, in RFC 3339, UTC. For a core file, its modification time.
    pub captured_at: Option<String>,
    /// Whether the target was stopped while its memory was read.
    pub blocking: Option<Word<Blocking>>,
    /// For how long it was stopped, in nanoseconds.
    pub stopped_ns: Option<u64>,
    /// How many bytes were read in that time.
    pub stopped_bytes: Option<u64>,
    /// Whether nothing that was asked for is missing, from capture to this report.
    pub complete: bool,
    /// The tool that took it, with its version.
    pub tool: Option<String>,
    /// The name of the host it was taken on.
    pub host: Option<String>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Process {
    /// Its id on the host that captured it; for a core file, as the core has it.
    pub pid: u32,
    /// Its ids in nested pid namespaces, outermost first, without the host's.
    pub namespace_pids: Vec<u32>,
    /// The parent's pid.
    pub ppid: Option<u32>,
    /// The process group.
    pub pgrp: Option<u32>,
    /// The session.
    pub sid: Option<u32>,
    /// The real user id.
    pub uid: Option<u32>,
    /// The real group id.
    pub gid: Option<u32>,
    /// The kernel's state letter: `S`, `R`, `D`, `T`, `Z`, …
    pub state: Option<String>,
    /// Whether it is a zombie.
    pub zombie: Option<bool>,
    /// The nice value.
    pub nice: Option<i32>,
    /// The kernel's name for it, at most 15 bytes.
    pub name: String,
    /// The executable.
    pub exe: Option<String>,
    /// How the executable of a core file was found; null for a living process.
    pub exe_found: Option<String>,
    /// The arguments. A core file has one string, cut after 80 bytes.
    pub cmdline: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// When it started, in RFC 3339, UTC.
    pub started_at: Option<String>,
    /// The signal that ended it; null for a living process and for a core file taken on demand.
    pub signal: Option<Signal>,
}

/// The signal that ended a process.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Its name: `SIGSEGV`; null for a number that Linux has no signal for.
    pub name: Option<String>,
    /// `si_code`: why it was sent.
    pub code: i32,
    /// The thread that took it.
    pub tid: u32,
    /// The process that sent it.
    pub sender_pid: Option<u32>,
    /// The real user id of the sender.
    pub sender_uid: Option<u32>,
    /// The address of the fault.
    pub fault_address: Option<Hex>,
}

/// The Python in the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Python {
    /// The version: `3.13.0`; `3.13` where the patch release is not known.
    pub version: Option<String>,
    /// The implementation: `CPython`.
    pub implementation: &'static str,
    /// Whether it was built without the GIL.
    pub free_threaded: Option<bool>,
    /// Whether it is a debug build.
    pub debug: Option<bool>,
    /// What led to the runtime.
    pub found_by: Option<Word<RuntimeFoundBy>>,
    /// What told the version.
    pub version_found_by: Option<Word<VersionFoundBy>>,
    /// The layout table that was used, by the release it is of.
    pub layout: Option<String>,
    /// Where the layout comes from.
    pub layout_source: Option<Word<LayoutSource>>,
    /// Whether it is shutting down; null when no Python frames were added to the snapshot.
    pub finalizing: Option<bool>,
    /// The interpreters, newest first; null when no Python frames were added to the snapshot.
    pub interpreters: Option<Vec<Interpreter>>,
}

/// One interpreter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Interpreter {
    /// Its id; 0 is the main one.
    pub id: i64,
    /// The thread that holds its GIL; null when none does, or it is not known.
    pub gil_holder_tid: Option<u32>,
    /// Whether its garbage is being collected; null where that is not known.
    pub gc_collecting: Option<bool>,
    /// Whether all its threads but one are stopped for that one; null in builds with a GIL.
    pub world_stopped: Option<bool>,
}

/// One thread, or a Python thread state that no thread of the process runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Thread {
    /// The kernel's id on the host that captured; null for a Python state of no known thread.
    pub tid: Option<u32>,
    /// Its id in its own pid namespace.
    pub namespace_tid: Option<u32>,
    /// What `threading.get_ident()` returns in it.
    pub ident: Option<Decimal>,
    /// `threading.Thread.name`; null where `threading` does not know the thread.
    pub name: Option<String>,
    /// The kernel's name for it, at most 15 bytes.
    pub os_name: Option<String>,
    /// `threading.Thread.daemon`; null as the name is.
    pub daemon: Option<bool>,
    /// The kernel's state letter before the stop: `S`, `R`, `D`, …
    pub state: Option<String>,
    /// The kernel's function that it slept in before the stop; null when it did not sleep, or that is not known.
    pub wchan: Option<String>,
    /// The system call that it is in; null when it is in none, or that is not known.
    pub syscall: Option<SystemCall>,
    /// Whether it took the signal that ended the process.
    pub crashed: bool,
    /// How it was read: `stopped`; or in a process that was not stopped: `slept`, from before it was read until after, or
    /// `ran`. Null where the snapshot does not say.
    pub reading: Option<Word<ThreadReading>>,
    /// Its Python states, one an interpreter that it runs code of, innermost first.
    pub python_states: Vec<PythonState>,
    /// What it does with the GIL: of its innermost Python state.
    pub gil: Option<Word<GilState>>,
    /// Whether it collects garbage: of its innermost Python state.
    pub gc_collecting: Option<bool>,
    /// The exception that it is handling: of its innermost Python state.
    pub exception: Option<Exception>,
    /// Why the native stack ends after its outermost frame; null when there is none.
    pub stack_end: Option<Word<StackEnd>>,
    /// The frames, outermost first.
    pub frames: Vec<Frame>,
}

/// A system call that a thread sleeps in.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SystemCall {
    /// Its number.
    pub number: u64,
    /// Its name; null for a number that this version does not know.
    pub name: Option<&'static str>,
    /// The registers of its arguments: six, though it may have fewer; null for one that is not known.
    pub arguments: Vec<Option<Hex>>,
    /// Whether it was interrupted before and went on, as by an earlier snapshot; the kernel then says `restart_syscall`.
    pub restarted: bool,
    /// The files it waits for, 64 at most.
    pub files: Vec<OpenFile>,
    /// Whether it waits for more files than those, or which they are is not known.
    pub more_files: bool,
    /// The futex it waits for.
    pub futex: Option<Hex>,
    /// The thread whose end it waits for.
    pub joins_tid: Option<u32>,
    /// How long it waits at most; null where no argument says so, or it is not known.
    pub timeout: Option<Timeout>,
    /// What it waits for, for people: `read(3: /run/queue)`.
    pub text: String,
}

/// How long a system call waits at most.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Timeout {
    /// `given`: so long from its start on; `left`: so long from the moment of the snapshot on; `never`: it has none.
    pub kind: &'static str,
    /// In nanoseconds; null with `never`.
    pub ns: Option<Decimal>,
}

/// A file that a system call waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct OpenFile {
    /// Its descriptor.
    pub fd: i32,
    /// What `/proc/PID/fd/N` leads to: a path, or `pipe:[4711]`; null when it is not known.
    pub path: Option<Arc<str>>,
    /// Of a socket.
    pub socket: Option<Socket>,
    /// Of an epoll instance: the descriptors that it watches, 64 at most.
    pub watches: Option<Vec<i32>>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Socket {
    /// What it speaks.
    pub protocol: Word<SocketProtocol>,
    /// Its state.
    pub state: Word<SocketState>,
    /// Its own address and port: `10.0.0.5:40312`, `[::1]:80`.
    pub local: Option<String>,
    /// The address and port that it is connected to.
    pub remote: Option<String>,
    /// Of a unix socket: its path; an abstract one starts with `@`.
    pub path: Option<Arc<str>>,
}

/// What one interpreter knows of a thread.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PythonState {
    /// The interpreter; null when the snapshot does not say.
    pub interpreter_id: Option<i64>,
    /// The interpreter's ident of the thread. Before 3.13 a sub-interpreter may have that of the thread that made it.
    pub ident: Decimal,
    /// Whether its frames are those of one moment: what was stopped has only such, and of what ran while it was read, what
    /// was the same when it was read again. Where it is false, the frames may never have been on the stack together. Null
    /// where the snapshot does not say.
    pub verified: Option<bool>,
    /// How often it was read anew before that; null as `verified` is.
    pub retries: Option<u32>,
    /// Why the chain of Python frames ends after its outermost frame.
    pub frames_end: Word<FrameChainEnd>,
    /// What it does with the GIL; null where that is not known.
    pub gil: Option<Word<GilState>>,
    /// Whether it collects garbage; null where one of several threads does, and which is not known.
    pub gc_collecting: Option<bool>,
    /// Whether it may run Python code; null before 3.13.
    pub attachment: Option<Word<Attachment>>,
    /// The exception that it is handling: what `sys.exc_info()` would give in its innermost frame. In 2.7 that is so until
    /// the function that caught it returns. Null when there is none, or where a diagnostic says that it is not known.
    pub exception: Option<Exception>,
}

/// An exception that is being handled.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Exception {
    /// Its type, with the module unless that is `builtins`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What `str()` of it gives, from its start; null where only code of its class would know, or it cannot be read.
    pub message: Option<String>,
    /// What `repr()` of it gives, or a short form; null when it cannot be read.
    pub repr: Option<String>,
    /// Whether `message` is cut, or without one, `repr`.
    pub truncated: bool,
    /// `co_filename` of the code that raised it; this and what follows is of the last entry of its traceback, and null when
    /// it has none, or where a diagnostic says that it is not known.
    pub file: Option<Arc<str>>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// `co_name` of that code.
    pub function: Option<Arc<str>>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Frame {
    /// A call of Python code.
    Python(PythonFrame),
    /// A call of native code.
    Native(NativeFrame),
}

/// A call of Python code.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PythonFrame {
    /// The interpreter that runs it; null when the snapshot does not say.
    pub interpreter_id: Option<i64>,
    /// `co_name`.
    pub function: Option<Arc<str>>,
    /// `co_qualname`; null before 3.11.
    pub qualname: Option<Arc<str>>,
    /// `co_filename`.
    pub file: Option<Arc<str>>,
    /// The line, from 1; null for an instruction that belongs to no line.
    pub line: Option<u32>,
    /// The line that the expression ends on.
    pub end_line: Option<u32>,
    /// Where the expression starts in its line, from 0, in bytes of UTF-8.
    pub column: Option<u32>,
    /// Where it ends in its last line.
    pub end_column: Option<u32>,
    /// The source line, read when the snapshot was taken.
    pub source: Option<Arc<str>>,
    /// Whether the file was changed after the process started, so that `source` may not be what runs.
    pub source_newer: Option<bool>,
    /// Whether C code called it: it is the outermost of the frames that one native evaluation loop runs.
    pub entry: bool,
    /// What told its place among the native frames: what the interpreter keeps on the C stack (`shim-frame`, `c-frame`) or
    /// `order`, where only one place keeps the order of both; `unplaced` when its place is not known. Null when there are
    /// no native frames.
    pub placed_by: Option<Word<PlacedBy>>,
    /// Its arguments that are bound, in the order of the signature; null when they were not asked for.
    pub arguments: Option<Vec<Variable>>,
    /// Its other variables that are bound: locals in the order in which the compiler met them, then those that inner
    /// functions use, too, then those of outer functions; null when they were not asked for.
    pub locals: Option<Vec<Variable>>,
    /// How many more variables it has, of which nothing is said.
    pub variables_left_out: Option<u32>,
    /// Whether arguments and locals were asked for, and those of this frame could not be had.
    pub variables_lost: bool,
}

/// An argument or a local variable.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is to its function: `argument`, `local`, `cell` (inner functions use it, too), `free` (of an outer function).
    pub kind: Word<VariableKind>,
    /// The type of its value, with the module unless that is `builtins`.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// The value as `repr()` spells it, or in a short form; null when it is not known.
    pub repr: Option<String>,
    /// Whether the value has more than `repr` shows.
    pub truncated: bool,
    /// Why `repr` is null.
    pub absent: Option<Word<ValueAbsence>>,
}

/// A call of native code.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NativeFrame {
    /// The function, demangled.
    pub function: Option<Arc<str>>,
    /// Its symbol as the file has it.
    pub raw_symbol: Option<Arc<str>>,
    /// The source file.
    pub file: Option<Arc<str>>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// Whether it was inlined into the frame before it, whose address and module it shares.
    pub inlined: bool,
    /// Whether it belongs to the interpreter's own calling of Python code: the evaluation loop and what leads to it.
    pub internal: bool,
    /// The file its code is from, as the target sees it.
    pub module: Option<Arc<str>>,
    /// The build-id of that file, in hexadecimal digits.
    pub build_id: Option<Arc<str>>,
    /// The program counter: the return address, but in the innermost frame and in one that a signal interrupted the next
    /// instruction.
    pub address: Hex,
    /// How it was found.
    pub found_by: Word<FoundBy>,
}

/// What a stage could not do, or did in a way the reader must know.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Diagnostic {
    /// The tool that speaks.
    pub stage: Word<Stage>,
    /// How much it matters: `loss` and `failure` mean that something that was asked for is missing.
    pub severity: Word<Severity>,
    /// A stable word for programs. Open: readers must accept others.
    pub code: String,
    /// The thread it is about.
    pub tid: Option<u32>,
    /// A sentence for people.
    pub message: String,
}

impl Report {
    /// Whether the snapshot held anything to show: a stream that could not be read gives a report of its diagnostics only.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.process.is_some() || self.python.is_some() || !self.threads.is_empty()
    }

    /// The diagnostics as the stages wrote them, each with its stage, in the report's order.
    #[must_use]
    pub fn wire_diagnostics(&self) -> Vec<(Stage, wire::Diagnostic)> {
        let to_wire = |diagnostic: &Diagnostic| {
            let Diagnostic { stage, severity, code, tid, message } = diagnostic.clone();
            (stage.0, wire::Diagnostic { severity: severity.0, code, tid: tid.map(Tid), message })
        };
        self.diagnostics.iter().map(to_wire).collect()
    }
}

impl Diagnostic {
    pub(crate) fn new(stage: Stage, diagnostic: wire::Diagnostic) -> Diagnostic {
        let wire::Diagnostic { severity, code, tid, message } = diagnostic;
        Diagnostic { stage: Word(stage), severity: Word(severity), code, tid: tid.map(|tid| tid.0), message }
    }
}
