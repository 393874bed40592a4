//! `native`: the native stacks of threads, added by `pyst-unwind`. Those of thousands of threads are in several sections, so that
//! the first can be on its way, and gone from memory, when the last is made.

use super::first_version;
use super::threads::RegisterV1;
use crate::address::{Address, Tid};
use crate::code::open_enum;
use crate::text::{Bytes, Text};
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Native = NativeV1;
/// The newest version of one stack.
pub type NativeStack = NativeStackV1;
/// The newest version of one frame.
pub type NativeFrame = NativeFrameV1;
/// The newest version of one place.
pub type NativePlace = NativePlaceV1;

open_enum!(
    /// How a native frame was found: by what its *caller's side* of the chain led to it.
    FoundBy {
        /// It is the innermost: its registers are the thread's.
        CONTEXT = 1, "context";
        /// The CFI of the frame it called.
        CFI = 2, "cfi";
        /// The frame pointer of the frame it called.
        FRAME_POINTER = 3, "frame-pointer";
        /// The kernel's signal frame: this frame was interrupted, not called away from.
        SIGNAL_TRAMPOLINE = 4, "signal-trampoline";
        /// The frame it called had jumped to nowhere; the return address lay at sp.
        BAD_CALL = 5, "bad-call";
        /// The frame it called has no CFI, but its next instructions lead straight to a return.
        EPILOGUE = 6, "epilogue";
    }
);

open_enum!(
    /// Why a native stack ends.
    StackEnd {
        /// The CFI says so: the return address is undefined, as in `_start` and `clone`.
        COMPLETE = 1, "complete";
        /// A return address of 0.
        ZERO_RETURN_ADDRESS = 2, "zero-return-address";
        /// No CFI covers the pc, and nothing else could be believed.
        NO_CFI = 3, "no-cfi";
        /// The pc lies in no module.
        NO_MODULE = 4, "no-module";
        /// Memory that the unwinder needs is not in the snapshot.
        NOT_RECORDED = 5, "not-recorded";
        /// Memory that the unwinder needs could not be read.
        UNREADABLE = 6, "unreadable";
        /// The stack was read up to a stated cap only.
        STACK_TRUNCATED = 7, "stack-truncated";
        /// The same frame came twice.
        LOOP = 8, "loop";
        /// More frames than the stated limit.
        FRAME_LIMIT = 9, "frame-limit";
        /// The CFI is malformed, or needs a register that it has said is lost.
        BAD_CFI = 10, "bad-cfi";
        /// The CFA did not move towards the stack's base.
        STACK_DID_NOT_GROW = 11, "stack-did-not-grow";
        /// The thread's registers are not known.
        NO_REGISTERS = 12, "no-registers";
        /// What lies beyond is another stack's leftovers: a greenlet switch.
        STACK_SWITCH = 13, "stack-switch";
        /// To go on, a register is needed that was not known from the start: of a thread that was not stopped most are not.
        REGISTER_UNKNOWN = 14, "register-unknown";
    }
);

/// The `native` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeV1 {
    /// Functions, named by index in calls.
    pub functions: Vec<NativeFunctionV1>,
    /// Where frames stand, named by index in frames.
    pub places: Vec<NativePlaceV1>,
    /// The stacks, by ascending tid.
    pub stacks: Vec<NativeStackV1>,
}

/// A function's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NativeFunctionV1 {
    /// The name to show, demangled.
    pub function: Text,
    /// The symbol as the file has it.
    pub raw_symbol: Bytes,
}

/// What is known of an address in code. Thousands of threads wait in the same few.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NativePlaceV1 {
    /// Index into `modules`; absent for code that no file holds.
    pub module: Option<u32>,
    /// The function, and those inlined into it, innermost first; empty when nothing is known.
    pub calls: Vec<NativeCallV1>,
}

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeStackV1 {
    /// The thread.
    pub tid: Tid,
    /// The frames, innermost first.
    pub frames: Vec<NativeFrameV1>,
    /// Why it ends after the last frame.
    pub end: StackEnd,
}

/// One physical frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeFrameV1 {
    /// The program counter: in the innermost frame, and in one that a signal interrupted, the next instruction; in others
    /// the return address.
    pub pc: Address,
    /// The stack pointer in this frame.
    pub sp: Address,
    /// The canonical frame address: the caller's sp. Absent where the frame could not be unwound further.
    pub cfa: Option<Address>,
    /// How it was found.
    pub found_by: FoundBy,
    /// Index into [`NativeV1::places`].
    pub place: u32,
    /// The callee-saved registers as they are in this frame, by ascending DWARF number, those only that are known.
    pub registers: Vec<RegisterV1>,
}

/// A call within a physical frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NativeCallV1 {
    /// Index into [`NativeV1::functions`].
    pub function: u32,
    /// The source file.
    pub file: Option<Text>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// Whether it was inlined into the next call of the frame.
    pub inlined: bool,
}

first_version!(NativeV1, NATIVE);
