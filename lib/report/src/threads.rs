//! The threads of a report, each made of what the sections hold of it.

use crate::assemble::letter;
use crate::cut::{MAX_TEXT, cut};
use crate::doing::Doings;
use crate::frames::Names;
use crate::kernel::Kernel;
use crate::merge::{Entry, Merged, Reason, Unplaced, merge};
use crate::model::{PythonState, Thread};
use crate::sections::Sections;
use crate::verdicts::Verdicts;
use crate::words::{Decimal, Word};
use pyst_snapshot::Tid;
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::{GilState, PackedStack, StackEnd};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A diagnostic: thread, code, message.
pub(crate) type Problem = (Option<u32>, &'static str, String);

/// What the sections hold of one thread.
#[derive(Default)]
struct Parts<'a> {
    thread: Option<&'a wire::Thread>,
    /// The index of its native stack.
    native: Option<usize>,
    states: Vec<&'a wire::PythonState>,
    /// The index of each of them among all states.
    indices: Vec<u32>,
}

impl<'a> Parts<'a> {
    fn has_crashed(&self) -> bool {
        self.thread.is_some_and(|thread| thread.crashed)
    }

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
    for (index, tid) in sections.native.tids().enumerate() {
        all.entry((Some(tid), 0)).or_default().native.get_or_insert(index);
    }
    for (index, state) in (0..).zip(sections.python.iter().flat_map(|python| &python.states)) {
        let owner = state.tid.map_or((None, index), |tid| (Some(tid), 0));
        let parts = all.entry(owner).or_default();
        parts.states.push(state);
        parts.indices.push(index);
    }
    all.into_iter().map(|((tid, _), parts)| (tid.map(|tid| tid.0), parts)).collect()
}

/// What is known of all threads before any is shown.
pub(crate) struct Threads<'a> {
    sections: &'a Sections,
    /// In the report's order.
    parts: Vec<(Option<u32>, Parts<'a>)>,
    names: Names<'a>,
    doings: Doings,
    kernel: Kernel<'a>,
    verdicts: Verdicts<'a>,
}

impl<'a> Threads<'a> {
    /// Looks at all threads that any section knows of, and at what is wrong with them.
    pub(crate) fn of_sections(sections: &'a Sections) -> (Threads<'a>, Vec<Problem>) {
        let mut parts = all_parts(sections);
        let main = sections.process.as_ref().map(|process| process.pid);
        parts.sort_by_key(|(tid, parts)| {
            let is_main = tid.is_some() && *tid == main;
            (Reverse(parts.has_crashed()), Reverse(is_main), tid.is_none(), *tid)
        });
        let mut threads = Threads {
            sections,
            parts,
            names: Names::of_sections(sections),
            doings: Doings::default(),
            kernel: Kernel::of_sections(sections),
            verdicts: Verdicts::of_sections(sections),
        };
        let problems = threads.survey();
        (threads, problems)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All of them, each made when it is asked for: of thousands, one at a time is in memory.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Thread> {
        self.parts.iter().map(|(tid, parts)| {
            let stack = self.stack_of(parts);
            let merged = self.merged(parts, stack.as_ref());
            let mut thread = thread(*tid, parts, stack.as_ref(), &merged, &self.names, &self.doings);
            self.kernel.add_to(&mut thread);
            self.verdicts.add_to(&mut thread, &parts.states_in(&merged));
            thread
        })
    }

    /// The interpreters that there are Python frames of.
    pub(crate) fn interpreters(&self) -> BTreeSet<Option<i64>> {
        let states = self.parts.iter().flat_map(|(_, parts)| &parts.states);
        let with_frames = states.filter(|state| !state.frames.is_empty());
        with_frames.map(|state| self.names.interpreter(state.interpreter)).collect()
    }

    fn stack_of(&self, parts: &Parts) -> Option<PackedStack<'a>> {
        Some(self.sections.native.stack(parts.native?))
    }

    fn merged(&self, parts: &Parts, stack: Option<&PackedStack>) -> Merged {
        let frames = stack.map_or(&[][..], |stack| &stack.frames);
        let is_loop = |frame: usize| frames.get(frame).is_some_and(|frame| self.names.is_loop(frame));
        merge(stack, &parts.states, &is_loop)
    }

    /// Finds out what is said of one thread by the stack of another, and what is wrong with any.
    fn survey(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let owners = self.parts.iter().enumerate();
        let owners: BTreeMap<usize, usize> = owners.filter_map(|(at, (_, parts))| Some((parts.native?, at))).collect();
        for (index, stack) in self.sections.native.stacks().enumerate() {
            if let Some((tid, parts)) = owners.get(&index).and_then(|at| self.parts.get(*at)) {
                let merged = self.merged(parts, Some(&stack));
                self.doings.add(Some(&stack), &parts.states_in(&merged), &self.names);
                report_problems(*tid, Some(&stack), &merged, &mut problems);
            }
        }
        for (tid, parts) in self.parts.iter().filter(|(_, parts)| parts.native.is_none()) {
            let merged = self.merged(parts, None);
            self.doings.add(None, &parts.states_in(&merged), &self.names);
            report_problems(*tid, None, &merged, &mut problems);
        }
        problems.extend(self.sections.python.iter().flat_map(|python| self.doings.collectors_unknown(python)));
        let cut = self.names.cut();
        if cut > 0 {
            let message = format!("names or lines longer than {MAX_TEXT} bytes are cut, and marked with …: {cut}");
            problems.push((None, "text-cut", message));
        }
        let others = self.names.other_pythons();
        if let Some(first) = others.first() {
            let more = if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
            let message = format!(
                "another Python runs in this process, too ({first}{more}): its frames are not shown, only the native \
                 frames that run them"
            );
            problems.push((None, "other-python", message));
        }
        problems
    }
}

fn thread(
    tid: Option<u32>,
    parts: &Parts,
    stack: Option<&PackedStack>,
    merged: &Merged,
    names: &Names,
    doings: &Doings,
) -> Thread {
    let kernel = parts.thread;
    let native = stack.map_or(&[][..], |stack| &stack.frames);
    let mut frames = Vec::with_capacity(merged.entries.len());
    for entry in &merged.entries {
        match *entry {
            Entry::Native { frame, runs_python } => {
                if let Some(frame) = native.get(frame) {
                    names.add_native(frame, runs_python, &mut frames);
                }
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
        crashed: parts.has_crashed(),
        reading: None,
        gil: python_states.first().and_then(|state| state.gil),
        gc_collecting: python_states.first().and_then(|state| state.gc_collecting),
        exception: python_states.first().and_then(|state| state.exception.clone()),
        python_states,
        stack_end: stack.map(|stack| Word(stack.end)),
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

fn report_problems(tid: Option<u32>, stack: Option<&PackedStack>, merged: &Merged, problems: &mut Vec<Problem>) {
    for unplaced in &merged.unplaced {
        problems.push((tid, "run-unplaced", unplaced_message(unplaced, stack)));
    }
    if merged.state_order_unknown {
        let message = "frames of several interpreters run on this thread, and nothing tells which called which: they are \
                       shown one interpreter after the other, the newest innermost";
        problems.push((tid, "interpreter-order-unknown", message.to_owned()));
    }
}

fn unplaced_message(unplaced: &Unplaced, native: Option<&PackedStack>) -> String {
    let Unplaced { reason, runs, frames } = *unplaced;
    let end = native.map(|stack| stack.end).filter(|end| ends_early(*end));
    let why = match (reason, end) {
        (Reason::OutsideStack, Some(end)) => {
            format!("their evaluation loops are not in the native stack, which ends early ({})", end.name())
        }
        (Reason::OutsideStack, None) => "their evaluation loops are not in the native stack".to_owned(),
        (Reason::NoAnchor, Some(end)) => format!(
            "the interpreter keeps nothing of them on the C stack, and their evaluation loops may be in the part of the native \
             stack that is missing: it ends early ({})",
            end.name()
        ),
        (Reason::NoAnchor, None) => "the interpreter keeps nothing of them on the C stack".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_placed_says_that_the_native_stack_ends_early() {
        let message = |reason, end| {
            let native = PackedStack { tid: Tid(1), frames: Vec::new(), end };
            unplaced_message(&Unplaced { reason, runs: 1, frames: 2 }, Some(&native))
        };
        for reason in [Reason::OutsideStack, Reason::NoAnchor] {
            assert!(message(reason, StackEnd::REGISTER_UNKNOWN).contains("ends early (register-unknown)"));
            assert!(!message(reason, StackEnd::COMPLETE).contains("early"));
        }
    }
}
