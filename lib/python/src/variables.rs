//! Arguments and locals of the frames that a walk has found.
//!
//! The innermost frames of all threads come first, for what is read is limited, and those are what people look at.

mod slots;

use crate::layout::{self, Layout};
use crate::values::{ITEMS, Lack, Values};
use pyst_memory::Memory;
use pyst_snapshot::payload::{
    Diagnostic, FoundRuntime, FrameVariables, Python, PythonFrame, Severity, ValueAbsence, Variable, VariableKind,
    Variables,
};
use pyst_snapshot::{Address, Text};
use slots::{Slot, Slots};
use std::collections::HashMap;
use std::rc::Rc;

/// How many variables there may be in all.
const VARIABLES: usize = 200_000;

/// How much text the values may have in all, in bytes.
const TEXT: usize = 8 << 20;

/// The arguments and locals of all frames of `python`, of which no more than `limit` bytes are read. The result is a
/// function of the arguments alone.
#[must_use]
pub fn variables(
    runtime: &FoundRuntime,
    python: &Python,
    memory: &dyn Memory,
    limit: u64,
) -> (Variables, Vec<Diagnostic>) {
    let layout = layout::of_runtime(runtime, memory);
    let found = layout.as_ref().and_then(|layout| Some((layout, Values::new(layout, memory, limit)?)));
    let Some((layout, mut values)) = found else {
        let message = format!(
            "Arguments and locals of Python {} are not known to this version of pyst: use a newer one.",
            runtime.version()
        );
        return (Variables::default(), vec![Diagnostic::new(Severity::LOSS, "locals-unknown", message)]);
    };
    if let Some(interpreter) = python.interpreters.last() {
        values.ask(interpreter.address);
    }
    let mut walk = Walk {
        layout,
        memory,
        values,
        slots: HashMap::new(),
        count: 0,
        text: 0,
        left_out: 0,
        unread: 0,
        partly_unread: 0,
        nameless: 0,
    };
    let variables = walk.all(python);
    (variables, walk.diagnostics(limit))
}

struct Walk<'a> {
    layout: &'a Layout,
    memory: &'a dyn Memory,
    values: Values<'a>,
    /// Of each code object.
    slots: HashMap<Address, Option<Rc<Slots>>>,
    count: usize,
    text: usize,
    /// How many variables the limit left no value.
    left_out: usize,
    /// How many values were not read.
    unread: usize,
    /// Inside how many others an object was not read.
    partly_unread: usize,
    /// Of how many frames not even the names of the variables can be had.
    nameless: usize,
}

impl Walk<'_> {
    fn all(&mut self, python: &Python) -> Variables {
        let deepest = python.states.iter().map(|state| state.frames.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        for index in 0..deepest {
            for (state, frames) in (0..).zip(&python.states) {
                let Some(frame) = frames.frames.get(index) else { continue };
                let code = usize::try_from(frame.code).ok().and_then(|code| python.codes.get(code));
                let Some(code) = code.map(|code| code.address) else { continue };
                let Some((variables, more)) = self.of_frame(frame, code) else {
                    self.nameless += 1;
                    continue;
                };
                let frame = u32::try_from(index).unwrap_or(u32::MAX);
                found.push(FrameVariables { state, frame, variables, more });
                if self.count >= VARIABLES || self.left_out > 0 {
                    found.sort_by_key(|found| (found.state, found.frame));
                    return Variables { frames: found };
                }
            }
        }
        found.sort_by_key(|found| (found.state, found.frame));
        Variables { frames: found }
    }

    /// The variables of a frame, and how many there are more.
    fn of_frame(&mut self, frame: &PythonFrame, code: Address) -> Option<(Vec<Variable>, u32)> {
        let slots = match self.slots.get(&code) {
            Some(known) => known.clone(),
            None => {
                let read = slots::of_code(self.layout, code, self.memory).map(Rc::new);
                self.slots.insert(code, read.clone());
                read
            }
        }?;
        if slots.is_namespace {
            return self.of_namespace(frame);
        }
        let words = slots::words(self.layout, frame.address, slots.words, self.memory)?;
        let mut found = Vec::new();
        for slot in &slots.list {
            let word = words.get(slot.index).copied().unwrap_or(0);
            if let Some(variable) = self.of_slot(slot, word) {
                found.push(variable);
            }
        }
        Some((found, slots.more))
    }

    fn of_slot(&mut self, slot: &Slot, word: u64) -> Option<Variable> {
        /// An int in the place of a pointer (3.14 and later): its value lies above these bits.
        const INT: u64 = 3;
        let tags = self.layout.semantics.reference_tags;
        if tags & INT == INT && word & INT == INT {
            let repr = Some((word as i64 >> 2).to_string());
            let type_name = Some("int".to_owned());
            return Some(Variable { type_name, repr, ..variable(slot.name.clone(), slot.kind) });
        }
        let address = Address(word & !tags);
        if address.is_null() {
            return None;
        }
        self.values.start();
        let value = if slot.is_cell { self.values.cell_content(address) } else { Ok(Some(address)) };
        match value {
            Ok(None) => None,
            Ok(Some(value)) => Some(self.valued(slot.name.clone(), slot.kind, value)),
            Err(lack) => Some(self.absent(slot.name.clone(), slot.kind, lack)),
        }
    }

    /// The names of a class that is being made, or of code that was given a namespace of its own.
    fn of_namespace(&mut self, frame: &PythonFrame) -> Option<(Vec<Variable>, u32)> {
        let Some(dict) = slots::namespace(self.layout, frame.address, self.memory)? else {
            return Some(Default::default());
        };
        self.values.start();
        let (names, more) = self.values.names_of(dict, ITEMS).ok()?;
        let mut found = Vec::new();
        for (name, value) in names {
            self.values.start();
            found.push(self.valued(Text::from(name.as_str()), VariableKind::LOCAL, value));
        }
        Some((found, u32::try_from(more).unwrap_or(u32::MAX)))
    }

    fn valued(&mut self, name: Text, kind: VariableKind, value: Address) -> Variable {
        if self.text >= TEXT {
            return self.absent(name, kind, Lack::Limit);
        }
        match self.values.show(value) {
            Ok(shown) => {
                self.count += 1;
                self.partly_unread += usize::from(shown.has_unread);
                self.text = self.text.saturating_add(shown.repr.len());
                Variable {
                    type_name: Some(shown.type_name),
                    repr: Some(shown.repr),
                    truncated: shown.truncated,
                    ..variable(name, kind)
                }
            }
            Err(lack) => self.absent(name, kind, lack),
        }
    }

    fn absent(&mut self, name: Text, kind: VariableKind, lack: Lack) -> Variable {
        self.count += 1;
        let absence = lack.absence();
        self.left_out += usize::from(absence == ValueAbsence::LIMIT && self.values.is_spent());
        self.left_out += usize::from(absence == ValueAbsence::LIMIT && self.text >= TEXT);
        self.unread += usize::from(absence == ValueAbsence::NOT_RECORDED);
        Variable { absence: Some(absence), ..variable(name, kind) }
    }

    fn diagnostics(&self, limit: u64) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        if self.left_out > 0 || self.count >= VARIABLES {
            let message = format!(
                "Arguments and locals are shown of the innermost frames only: {limit} bytes are read for them at most \
                 (pyst-grab --locals-limit)."
            );
            diagnostics.push(Diagnostic::new(Severity::INFO, "locals-limit", message));
        }
        // Without a stop, what changes is left out; in one, what had changed before is not sought for long, and what has to be
        // brought into memory not at all.
        let why =
            "changed while the snapshot was taken, or was not in memory, and was not read. Take the snapshot again.";
        let mut say = |count: usize, code: &str, what: &str| {
            let message = format!("{what}: that {why}");
            diagnostics.extend((count > 0).then(|| Diagnostic::new(Severity::INFO, code, message)));
        };
        let (unread, partly) = (self.unread, self.partly_unread);
        say(unread, "locals-changed", &format!("The values of {unread} arguments or locals are missing"));
        say(
            partly,
            "locals-partly-changed",
            &format!("Of the values of {partly} arguments or locals a part is missing"),
        );
        if self.nameless > 0 {
            let message = format!(
                "Of {} frames arguments and locals are missing: their names or places cannot be read, or changed while \
                 the snapshot was taken.",
                self.nameless
            );
            diagnostics.push(Diagnostic::new(Severity::INFO, "locals-missing", message));
        }
        diagnostics
    }
}

fn variable(name: Text, kind: VariableKind) -> Variable {
    Variable { name, kind, ..Variable::default() }
}
