//! What belongs to the process and not to one of its threads: the list of thread states, names, who has the GIL. It is read
//! around what was read of the threads, which stays, and read again.

use super::Target;
use super::attempt::Pieces;
use crate::live::careful::Careful;
use crate::live::copy::Copy;
use pyst_python::Alone;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{
    Diagnostic, InterpreterV1, Python, PythonCode, PythonFrame, PythonState, Severity, Thread,
};

/// How often it is read anew when it was not the same again.
const TRIES: usize = 5;

/// What interpreters say of their locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said(Vec<InterpreterV1>);

impl Said {
    pub(super) fn of(python: &Python) -> Said {
        Said(python.interpreters.clone())
    }
}

/// All that was read.
pub(super) struct Whole {
    pub(super) copy: Copy,
    pub(super) walked: Python,
    /// Whether the lists of interpreters and threads were the same when they were read again.
    pub(super) same_list: bool,
}

/// Reads what the walk needs beside what is held of the threads.
pub(super) fn read(target: &Target<'_>, threads: &[Thread], held: &Pieces) -> Whole {
    let read = || {
        let copy = Copy::of(target.pid);
        copy.hold(held);
        let careful = Careful::by(&copy, &target.pages);
        let walked = target.found.map(|found| pyst_python::walk(found, threads, &careful).python);
        (copy, walked.unwrap_or_default())
    };
    let (mut copy, mut walked) = read();
    for _ in 0..TRIES {
        let (again, walked_again) = read();
        if same_list(&walked, &walked_again) {
            return Whole { copy, walked, same_list: true };
        }
        (copy, walked) = (again, walked_again);
    }
    Whole { copy, walked, same_list: false }
}

/// Whether both found the same interpreters and thread states, with the same names.
fn same_list(first: &Python, second: &Python) -> bool {
    let addresses = |python: &Python| python.interpreters.iter().map(|one| one.address).collect::<Vec<Address>>();
    let state = |state: &PythonState| (state.address, state.name.clone(), state.daemon);
    addresses(first) == addresses(second) && first.states.iter().map(state).eq(second.states.iter().map(state))
}

pub(super) fn changed_all_the_time() -> Diagnostic {
    let message = "threads of the process came and went all the time: some may be missing, or have another's name";
    Diagnostic::new(Severity::WARNING, "threads-changed", message)
}

/// Whether a state has the frames that were told of it when it was read: what they lead to may be another's by now.
pub(super) fn is_as_told(state: &PythonState, walked: &Python, told: &[Alone]) -> bool {
    let Some(alone) = told.iter().find(|alone| alone.state.address == state.address) else { return false };
    let frames = (frames(&state.frames, &walked.codes), frames(&alone.state.frames, &alone.codes));
    frames.0.eq(frames.1) && state.ident == alone.state.ident && state.end == alone.state.end
}

/// Frames with the code that they run instead of its number.
fn frames<'a>(
    frames: &'a [PythonFrame],
    codes: &'a [PythonCode],
) -> impl Iterator<Item = (PythonFrame, Option<&'a PythonCode>)> {
    let code = |frame: &PythonFrame| usize::try_from(frame.code).ok().and_then(|code| codes.get(code));
    frames.iter().map(move |frame| (PythonFrame { code: 0, ..*frame }, code(frame)))
}
