//! `variables`: arguments and locals of the frames in `python`, added by `pyst-py` when the capture was asked for them.

use super::first_version;
use crate::code::open_enum;
use crate::text::Text;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Variables = VariablesV1;
/// The newest version of the variables of one frame.
pub type FrameVariables = FrameVariablesV1;
/// The newest version of one variable.
pub type Variable = VariableV1;

open_enum!(
    /// What a variable is to its function.
    VariableKind {
        /// An argument.
        ARGUMENT = 1, "argument";
        /// A local variable.
        LOCAL = 2, "local";
        /// A local variable that an inner function uses, too.
        CELL = 3, "cell";
        /// A variable of an outer function.
        FREE = 4, "free";
    }
);

open_enum!(
    /// Why a variable's value is absent.
    ValueAbsence {
        /// The target's memory could not be read there.
        UNREADABLE = 1, "unreadable";
        /// It is not in the snapshot: it had changed when the process was stopped.
        NOT_RECORDED = 2, "not-recorded";
        /// There is no sound object.
        INVALID = 3, "invalid";
        /// The limit of what is read for variables was reached before it.
        LIMIT = 4, "limit";
    }
);

/// The `variables` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariablesV1 {
    /// The frames that have any.
    pub frames: Vec<FrameVariablesV1>,
}

/// The variables of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameVariablesV1 {
    /// Index into `states` of the `python` payload.
    pub state: u32,
    /// Index into that state's `frames`.
    pub frame: u32,
    /// The variables that are bound: arguments in the order of the function's signature, then locals, cells and free
    /// variables, each in the order in which the compiler met them.
    pub variables: Vec<VariableV1>,
    /// How many there are more, of which nothing is said.
    pub more: u32,
}

/// One variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableV1 {
    /// Its name.
    pub name: Text,
    /// What it is to its function.
    pub kind: VariableKind,
    /// The type of its value, with the module unless that is `builtins`.
    pub type_name: Option<String>,
    /// The value as `repr()` spells it, or in a short form; see the manual page of pyst-grab.
    pub repr: Option<String>,
    /// Whether the value has more than `repr` shows.
    pub truncated: bool,
    /// Why there is no `repr`.
    pub absence: Option<ValueAbsence>,
}

first_version!(VariablesV1, VARIABLES);
