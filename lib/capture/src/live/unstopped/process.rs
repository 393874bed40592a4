//! What belongs to the process and not to one of its threads: the list of thread states, names, who has the GIL. It is read
//! around what was read of the threads, which stays, and read again.

use super::attempt::Pieces;
use super::{Target, at_once};
use crate::live::careful::Careful;
use crate::live::copy::Copy;
use pyst_memory::RangeSet;
use pyst_python::Alone;
use pyst_snapshot::payload::{
    Diagnostic, InterpreterV1, Python, PythonCode, PythonFrame, PythonState, Severity, Thread,
};
use pyst_snapshot::{Address, Range};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often it is read anew when it was not the same again.
const TRIES: usize = 5;

/// The same of the list of thread states, which is shorter.
const LISTS: usize = 20;

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

/// Reads what the walk needs beside what is held of the threads, and the thread states `known` of them.
pub(super) fn read(target: &Target<'_>, threads: &[Thread], held: &Pieces, known: &BTreeSet<Address>) -> Whole {
    let read = || {
        let copy = Copy::of(target.pid);
        copy.hold(&list(target, known));
        copy.hold(held);
        let careful = Careful::by(&copy, &target.pages);
        let walked = target.found.map(|found| pyst_python::walk(found, threads, &careful).python);
        Whole { copy, walked: walked.unwrap_or_default(), same_list: false }
    };
    // Where a thread ends while its place in the list is read, the list seems to end there.
    let count = |whole: &Whole| whole.walked.states.iter().filter(|state| known.contains(&state.address)).count();
    let mut last = read();
    let mut best: Option<Whole> = None;
    for _ in 0..TRIES {
        let again = read();
        let states = again.walked.states.iter().map(|state| state.address);
        if same_list(&last.walked, &again.walked) && states.eq(target.listed()) {
            return Whole { same_list: true, ..last };
        }
        let before = std::mem::replace(&mut last, again);
        if best.as_ref().is_none_or(|best| count(&before) > count(best)) {
            best = Some(before);
        }
    }
    best.filter(|best| count(best) > count(&last)).unwrap_or(last)
}

/// The list of thread states, as it is at one moment: the words that link them, and those that are not `known`. What was read
/// of threads may lie where another's state is by now.
fn list(target: &Target<'_>, known: &BTreeSet<Address>) -> Pieces {
    let Some(states) = &target.states else { return Pieces::new() };
    let mut pieces = Pieces::new();
    for _ in 0..LISTS {
        let listed = target.listed();
        let copy = Copy::of(target.pid);
        let careful = Careful::by(&copy, &target.pages);
        let ranges = states.list_of(&listed, known, &careful);
        pieces = read_at_once(target, ranges.into_iter().collect()).unwrap_or_default();
        let copy = Copy::of(target.pid);
        copy.hold(&pieces);
        if states.addresses(&Careful::by(&copy, &target.pages)) == listed {
            break;
        }
    }
    pieces
}

fn read_at_once(target: &Target<'_>, mut ranges: RangeSet) -> Option<Pieces> {
    let ranges = target.readable(ranges.merged());
    let mut rest = at_once::read(target.pid, &ranges)?.into_iter();
    let mut bytes = |range: &Range| Some(rest.by_ref().take(usize::try_from(range.len()).ok()?).collect());
    ranges.iter().map(|range| Some((*range, Arc::new(bytes(range)?)))).collect()
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
