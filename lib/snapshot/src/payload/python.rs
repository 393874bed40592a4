//! `python`: interpreters, thread states and Python frames, added by `pyst-py`.

use super::first_version;
use crate::address::{Address, Ident, Tid};
use crate::code::open_enum;
use crate::text::Text;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Python = PythonV1;
/// The newest version of a thread state.
pub type PythonState = PythonStateV1;
/// The newest version of a Python frame.
pub type PythonFrame = PythonFrameV1;
/// The newest version of a run of frames.
pub type PythonRun = PythonRunV1;
/// The newest version of a code object.
pub type PythonCode = PythonCodeV1;
/// The newest version of an exception.
pub type PythonException = PythonExceptionV1;
/// The newest version of where an exception was raised.
pub type Raised = RaisedV1;

open_enum!(
    /// Where a runtime is in its life.
    RuntimePhase {
        /// It is starting: not yet initialized.
        STARTING = 1, "starting";
        /// It runs.
        RUNNING = 2, "running";
        /// It is shutting down.
        FINALIZING = 3, "finalizing";
    }
);

open_enum!(
    /// Why a chain of frames ends.
    FrameChainEnd {
        /// At its outermost frame.
        COMPLETE = 1, "complete";
        /// A frame could not be read.
        UNREADABLE = 2, "unreadable";
        /// A frame is not in the snapshot.
        NOT_RECORDED = 3, "not-recorded";
        /// A frame came twice.
        LOOP = 4, "loop";
        /// More frames than the stated limit.
        FRAME_LIMIT = 5, "frame-limit";
        /// What a pointer led to is no frame.
        INVALID = 6, "invalid";
    }
);

open_enum!(
    /// What a run of frames is anchored by on the C stack.
    AnchorKind {
        /// The shim `_PyInterpreterFrame`, a local of the evaluation loop (3.12 and later).
        SHIM_FRAME = 1, "shim-frame";
        /// The `_PyCFrame`, a local of the evaluation loop (3.11).
        C_FRAME = 2, "c-frame";
    }
);

open_enum!(
    /// Who owns a frame's memory: `_frameowner`.
    FrameOwner {
        /// The thread's data stack.
        THREAD = 0, "thread";
        /// A generator or coroutine.
        GENERATOR = 1, "generator";
        /// A frame object.
        FRAME_OBJECT = 2, "frame-object";
    }
);

open_enum!(
    /// What a thread does with the GIL.
    GilState {
        /// It has it.
        HOLDING = 1, "holding";
        /// It waits until it can have it.
        WAITING = 2, "waiting";
        /// It gave it away on request, and waits until another thread has it.
        DROPPING = 3, "dropping";
        /// It neither has it nor waits for it.
        NONE = 4, "none";
    }
);

open_enum!(
    /// Whether a thread state may run Python code: `PyThreadState.state`, from 3.13 on.
    Attachment {
        /// It may not: it runs other code, or sleeps.
        DETACHED = 1, "detached";
        /// It may.
        ATTACHED = 2, "attached";
        /// It was stopped, as all others, for the one that stopped the world (builds without a GIL).
        SUSPENDED = 3, "suspended";
        /// It never will again: the interpreter shuts down.
        SHUTTING_DOWN = 4, "shutting-down";
    }
);

/// The `python` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonV1 {
    /// Where the runtime is in its life.
    pub phase: RuntimePhase,
    /// The interpreters, in the runtime's order: newest first, the main one last.
    pub interpreters: Vec<InterpreterV1>,
    /// The code objects that frames name by index.
    pub codes: Vec<PythonCodeV1>,
    /// The thread states of all interpreters, in the interpreters' order.
    pub states: Vec<PythonStateV1>,
}

/// One interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterpreterV1 {
    /// Its id; 0 is the main one.
    pub id: i64,
    /// Where its `PyInterpreterState` is.
    pub address: Address,
    /// Where the thread state is that holds its GIL; absent when none does, or it is not known. Interpreters that share a
    /// GIL share the holder.
    pub gil_holder: Option<Address>,
    /// Whether its garbage is being collected; absent where that is not known.
    pub gc_collecting: Option<bool>,
    /// Whether all its threads but one are stopped for that one; absent in builds with a GIL.
    pub world_stopped: Option<bool>,
}

/// A code object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonCodeV1 {
    /// Where it is.
    pub address: Address,
    /// `co_name`.
    pub function: Text,
    /// `co_qualname`, from 3.11 on.
    pub qualname: Option<Text>,
    /// `co_filename`.
    pub file: Text,
    /// `co_firstlineno`.
    pub first_line: Option<u32>,
}

/// One `PyThreadState`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonStateV1 {
    /// Where it is.
    pub address: Address,
    /// Index into [`PythonV1::interpreters`].
    pub interpreter: u32,
    /// `thread_id`.
    pub ident: Ident,
    /// `native_thread_id`, in the target's own pid namespace (3.11 and later).
    pub native_thread_id: Option<u64>,
    /// The thread that runs it; absent when it is none of the process's threads.
    pub tid: Option<Tid>,
    /// The frames, innermost first.
    pub frames: Vec<PythonFrameV1>,
    /// How the frames fall into runs, innermost first: a run is the frames that one native evaluation loop runs.
    pub runs: Vec<PythonRunV1>,
    /// Why the chain of frames ends.
    pub end: FrameChainEnd,
    /// What it does with the GIL; absent where that is not known.
    pub gil: Option<GilState>,
    /// Whether it collects garbage; absent where one of the interpreter's threads does and which is not known.
    pub gc_collecting: Option<bool>,
    /// Whether it may run Python code; absent before 3.13.
    pub attachment: Option<Attachment>,
    /// `threading.Thread.name`; absent where `threading` does not know the thread, or was not imported.
    pub name: Option<Text>,
    /// `threading.Thread.daemon`; absent as the name is.
    pub daemon: Option<bool>,
    /// The exception that it is handling, as `sys.exc_info()` would give it in the innermost frame; absent when there is
    /// none, or where a diagnostic says so.
    pub exception: Option<PythonExceptionV1>,
}

/// An exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonExceptionV1 {
    /// Its type, with the module unless that is `builtins`.
    pub type_name: String,
    /// What `str()` of it gives, from its start; absent where only code of its class would know.
    pub message: Option<Text>,
    /// What `repr()` of it gives, or a short form; absent when it cannot be had.
    pub repr: Option<String>,
    /// Whether `message` is cut; without one, whether `repr` is.
    pub truncated: bool,
    /// Where it was raised: the last entry of its traceback; absent when it has none, or where a diagnostic says so.
    pub raised: Option<RaisedV1>,
}

/// Where an exception was raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedV1 {
    /// Index into [`PythonV1::codes`].
    pub code: u32,
    /// The line, from 1.
    pub line: Option<u32>,
}

/// One Python frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonFrameV1 {
    /// Where it is.
    pub address: Address,
    /// Index into [`PythonV1::codes`].
    pub code: u32,
    /// Who owns its memory.
    pub owner: FrameOwner,
    /// The offset of the current instruction in the bytecode, in bytes.
    pub instruction: Option<u32>,
    /// The line, from 1; absent where the table says that there is none.
    pub line: Option<u32>,
    /// The line the expression ends on.
    pub end_line: Option<u32>,
    /// Where the expression starts in its line, from 0, in bytes of UTF-8.
    pub column: Option<u32>,
    /// Where it ends.
    pub end_column: Option<u32>,
}

/// A run of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonRunV1 {
    /// How many frames it has; it may have none.
    pub frames: u32,
    /// An address on the C stack inside the native frame of the evaluation loop that runs them.
    pub anchor: Option<Address>,
    /// What lies there.
    pub anchor_kind: AnchorKind,
}

first_version!(PythonV1, PYTHON);
