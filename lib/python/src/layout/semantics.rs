//! What the fields mean: the part of a layout that no header states, one constant a minor version.

/// How the versions that share a table's fields use them.
#[derive(Debug)]
pub(crate) struct Semantics {
    /// How the chain of frames falls into runs, one for each native evaluation loop.
    pub(crate) runs: Runs,
    /// The owner of frames that a generator or coroutine holds; those are always complete.
    pub(crate) generator_owner: u8,
    /// The bits of a reference to a code object that are no part of the pointer.
    pub(crate) reference_tags: u64,
    /// The form of the table that turns instructions into lines.
    pub(crate) lines: Lines,
    /// What names and paths are.
    pub(crate) names: Names,
    /// Where instances have their attributes.
    pub(crate) attributes: Attributes,
    /// In which order a dict whose keys are shared has its items.
    pub(crate) split_order: SplitOrder,
    /// The flag of types that no Python code can have made, beside those that are no heap types.
    pub(crate) immutable_type: u64,
    /// How values are spelled by `repr()`.
    pub(crate) spelling: Spelling,
}

/// Where instances have their attributes, apart from slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// In a dict that lies where the type says (`tp_dictoffset`).
    Dict,
    /// Before the object: a pointer to values, and one to a dict (3.11).
    ValuesOrDict,
    /// Before the object: a pointer to values if it is odd, else to a dict (3.12).
    Tagged,
    /// In values inside the object while they are valid, else in a dict before it (3.13 and later).
    Inline,
}

/// In which order a dict whose keys are shared has its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SplitOrder {
    /// That of the keys.
    Keys,
    /// A byte for each before the values (3.11 and 3.12).
    BeforeValues,
    /// A byte for each after the values (3.13 and later).
    AfterValues,
}

/// How values are spelled by `repr()`, where versions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// `u'…'`, `5L`, `set([…])`, `<type 'int'>`.
    pub(crate) python_2: bool,
    /// `ValueError(1,)` and `timedelta(1, 2)`, up to 3.6.
    pub(crate) bare: bool,
    /// `OrderedDict([('a', 1)])`, up to 3.11.
    pub(crate) ordered_as_list: bool,
}

/// How the chain of frames falls into runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// Each evaluation loop has a `_PyCFrame` on the C stack, which names the loop's innermost frame and the loop before
    /// it. `is_entry` of the frames does not delimit runs: after `coro.throw()` every frame has it.
    CFrames,
    /// Each evaluation loop has a frame of its own on the C stack, which follows the frames that the loop runs. Its code
    /// may well be a code object; only its owner tells what it is.
    Shims {
        /// The owner of such frames.
        owner: u8,
    },
    /// Each frame is an object, and has an evaluation loop of its own.
    FrameObjects {
        /// How many bytes of bytecode a step of `f_lasti` is.
        instruction_unit: u8,
        /// When the line is what the frame itself says it is.
        own_line: OwnLine,
        /// Whether a generator that an exception is thrown through becomes the innermost frame without a link to its
        /// caller (`_gen_throw` of 3.9), for as long as what it awaits runs.
        throwing_unlinks: bool,
    },
}

/// When a frame object's line is its `f_lineno` (`PyFrame_GetLineNumber`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnLine {
    /// While it has a trace function, of its own, not the thread's.
    WhenTraced,
    /// When it is not 0, which is while its trace function runs.
    WhenSet,
}

/// The form of a table of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// PEP 657: lines and columns.
    Locations,
    /// `co_linetable` of 3.10 (PEP 626): lines.
    Ranges,
    /// `co_lnotab` of 3.6 to 3.9: lines, which may go back.
    Steps,
    /// `co_lnotab` of 2.7: lines, which only go on.
    StepsForward,
}

impl Lines {
    /// How many bytes of bytecode a unit of the table stands for.
    pub(crate) fn bytes_of_a_unit(self) -> u64 {
        match self {
            Lines::Locations => 2,
            Lines::Ranges | Lines::Steps | Lines::StepsForward => 1,
        }
    }
}

/// What names and paths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// `str` of Python 2: bytes of no stated encoding.
    Bytes,
    /// `str` of Python 3.
    Text,
}

/// A reference to an object has its own meaning in the lowest bits: whether it counts, or that it is no object.
const STACK_REFERENCE_TAGS: u64 = 3;

const FRAME_OWNED_BY_GENERATOR: u8 = 1;
const FRAME_OWNED_BY_CSTACK: u8 = 3;
const FRAME_OWNED_BY_INTERPRETER: u8 = 3;

const IMMUTABLE_TYPE: u64 = 1 << 8;

pub(super) static PYTHON_2_7: Semantics = Semantics {
    lines: Lines::StepsForward,
    names: Names::Bytes,
    spelling: Spelling { python_2: true, ..PYTHON_3_6.spelling },
    ..PYTHON_3_6
};

pub(super) static PYTHON_3_6: Semantics = Semantics {
    runs: Runs::FrameObjects { instruction_unit: 1, own_line: OwnLine::WhenTraced, throwing_unlinks: false },
    generator_owner: FRAME_OWNED_BY_GENERATOR,
    reference_tags: 0,
    lines: Lines::Steps,
    names: Names::Text,
    attributes: Attributes::Dict,
    split_order: SplitOrder::Keys,
    immutable_type: 0,
    spelling: Spelling { python_2: false, bare: true, ordered_as_list: true },
};

/// 3.7 and 3.8.
pub(super) static PYTHON_3_7: Semantics =
    Semantics { spelling: Spelling { bare: false, ..PYTHON_3_6.spelling }, ..PYTHON_3_6 };

pub(super) static PYTHON_3_9: Semantics = Semantics {
    runs: Runs::FrameObjects { instruction_unit: 1, own_line: OwnLine::WhenTraced, throwing_unlinks: true },
    ..PYTHON_3_7
};

pub(super) static PYTHON_3_10: Semantics = Semantics {
    runs: Runs::FrameObjects { instruction_unit: 2, own_line: OwnLine::WhenSet, throwing_unlinks: false },
    lines: Lines::Ranges,
    immutable_type: IMMUTABLE_TYPE,
    ..PYTHON_3_7
};

pub(super) static PYTHON_3_11: Semantics = Semantics {
    runs: Runs::CFrames,
    generator_owner: FRAME_OWNED_BY_GENERATOR,
    reference_tags: 0,
    lines: Lines::Locations,
    names: Names::Text,
    attributes: Attributes::ValuesOrDict,
    split_order: SplitOrder::BeforeValues,
    immutable_type: IMMUTABLE_TYPE,
    spelling: PYTHON_3_7.spelling,
};

pub(super) static PYTHON_3_12: Semantics = Semantics {
    runs: Runs::Shims { owner: FRAME_OWNED_BY_CSTACK },
    attributes: Attributes::Tagged,
    spelling: Spelling { ordered_as_list: false, ..PYTHON_3_11.spelling },
    ..PYTHON_3_11
};

pub(super) static PYTHON_3_13: Semantics =
    Semantics { attributes: Attributes::Inline, split_order: SplitOrder::AfterValues, ..PYTHON_3_12 };

pub(super) static PYTHON_3_14: Semantics = Semantics {
    runs: Runs::Shims { owner: FRAME_OWNED_BY_INTERPRETER },
    reference_tags: STACK_REFERENCE_TAGS,
    ..PYTHON_3_13
};

pub(super) static PYTHON_3_15: Semantics = Semantics { ..PYTHON_3_14 };
