//! The exception that each thread is handling, and where it was raised.
//!
//! It is what `sys.exc_info()` would give in the thread's innermost frame: of an exception that is being thrown, and that
//! nothing has caught yet, nothing is said. In 2.7 it stays until the function that caught it returns. What an exception
//! leads to is bounded by count and by bytes, for one thread and for all.

use crate::chain::Cycles;
use crate::code::{CodeError, Codes};
use crate::layout::{self, Field, Layout};
use crate::object;
use crate::values::{Family, Lack, Object, Values};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{
    Diagnostic, FoundRuntime, Python, PythonCode, PythonException, PythonState, Raised, Severity,
};
use std::collections::HashMap;

/// How much is read of one exception and of its types, in bytes.
const OF_ONE: u64 = 24 << 10;

/// How much of all.
const OF_ALL: u64 = 1 << 20;

/// How many running generators inside each other are asked for an exception.
const GENERATORS: usize = 1024;

/// How many entries of a traceback are followed: that of a recursion that went too deep has a thousand.
const ENTRIES: usize = 1100;

/// How much is read of all tracebacks, and of code that only they lead to.
const OF_TRACEBACKS: u64 = 512 << 10;

/// The largest code, and the largest table of its lines, that is read for where an exception was raised.
const LARGEST_CODE: u64 = 64 << 10;

/// What is read at once of a structure.
const STRUCTURE: u64 = 256;

/// The exceptions of a process.
#[derive(Debug, Default)]
pub struct Exceptions {
    /// By index of state.
    found: Vec<(usize, PythonException)>,
    /// The code objects that no frame runs: they follow those of the frames.
    codes: Vec<PythonCode>,
    diagnostics: Vec<Diagnostic>,
}

impl Exceptions {
    /// Adds them to what they were found by, and says what could not be had.
    pub fn add_to(self, python: &mut Python) -> Vec<Diagnostic> {
        python.codes.extend(self.codes);
        for (index, exception) in self.found {
            if let Some(state) = python.states.get_mut(index) {
                state.exception = Some(exception);
            }
        }
        self.diagnostics
    }
}

/// The exceptions that the threads of `python` are handling. The result is a function of the arguments alone.
#[must_use]
pub fn exceptions(runtime: &FoundRuntime, python: &Python, memory: &dyn Memory) -> Exceptions {
    let Some(layout) = layout::of_runtime(runtime, memory) else { return Exceptions::default() };
    let Some(values) = Values::new(&layout, memory, OF_ALL) else { return Exceptions::default() };
    let codes = Codes::new(&layout, memory);
    let mut walk = Walk {
        layout: &layout,
        memory,
        values,
        asked: false,
        codes,
        left: OF_TRACEBACKS,
        indices: None,
        found: Exceptions::default(),
    };
    for (index, state) in python.states.iter().enumerate() {
        walk.state(index, state, python);
    }
    walk.found
}

struct Walk<'a> {
    layout: &'a Layout,
    memory: &'a dyn Memory,
    values: Values<'a>,
    /// Whether the interpreter was asked how it was built.
    asked: bool,
    codes: Codes<'a>,
    /// How much of tracebacks and their code may still be read.
    left: u64,
    /// The indices of code objects by their addresses.
    indices: Option<HashMap<Address, u32>>,
    found: Exceptions,
}

/// What a thread is handling.
struct Handled {
    /// Its class; null from 3.11 on.
    class: Address,
    /// Null or None before 3.11 where it was never made an object.
    value: Address,
    /// Its traceback, where the thread has that beside it.
    traceback: Option<Address>,
}

impl Walk<'_> {
    fn state(&mut self, index: usize, state: &PythonState, python: &Python) {
        self.values.start_within(OF_ONE);
        let handled = match self.handled(state.address) {
            Ok(Some(handled)) => handled,
            Ok(None) => return,
            Err(lack) => return self.lost(state, "exception-lost", "is handling is not shown", lack),
        };
        if !std::mem::replace(&mut self.asked, true)
            && let Some(interpreter) = python.interpreters.last()
        {
            self.values.ask(interpreter.address);
            self.values.start_within(OF_ONE);
        }
        match self.described(&handled) {
            Ok((mut exception, traceback)) => {
                match self.raised(traceback, python) {
                    Ok(raised) => exception.raised = raised,
                    Err(lack) => {
                        self.lost(state, "exception-place-unknown", "is handling was raised at a place not known", lack)
                    }
                }
                self.found.found.push((index, exception));
            }
            Err(lack) => self.lost(state, "exception-lost", "is handling is not shown", lack),
        }
    }

    fn lost(&mut self, state: &PythonState, code: &str, what: &str, lack: Lack) {
        /// Nobody reads more.
        const DIAGNOSTICS: usize = 100;
        if self.found.diagnostics.len() >= DIAGNOSTICS {
            return;
        }
        let why = match lack {
            Lack::Read(error) => error.to_string(),
            Lack::Invalid => "what is there is none".to_owned(),
            Lack::Limit => "more would have to be read for it than is allowed".to_owned(),
        };
        let message = format!("The exception that the thread with ident {:#x} {what}: {why}.", state.ident.0);
        let diagnostic = Diagnostic::new(Severity::INFO, code, message);
        self.found.diagnostics.push(match state.tid {
            Some(tid) => diagnostic.on(tid),
            None => diagnostic,
        });
    }

    /// What the thread with the state at `address` is handling (`_PyErr_GetTopmostException`).
    fn handled(&self, address: Address) -> Result<Option<Handled>, Lack> {
        let (offsets, objects) = (&self.layout.offsets, self.values.objects());
        let Some(place) = offsets.thread_handled.of(address) else {
            let word = |field: Field| self.word(field.of(address));
            let [class, value] = [word(offsets.thread_handled_type)?, word(offsets.thread_handled_value)?];
            let traceback = Some(word(offsets.thread_handled_trace)?);
            return Ok((!self.is_none(class)?).then_some(Handled { class, value, traceback }));
        };
        // Each running generator has one of its own, with or without an exception.
        let mut item = self.word(Some(place))?;
        let size = objects.handled_previous.get().ok_or(Lack::Invalid)?.saturating_add(8);
        let mut cycles = Cycles::default();
        for _ in 0..GENERATORS {
            if item.is_null() {
                return Ok(None);
            }
            if cycles.found_at(item) {
                return Err(Lack::Invalid);
            }
            let bytes = self.memory.read_bytes(item, size, STRUCTURE).map_err(Lack::Read)?;
            let value = objects.handled_value.address(&bytes).ok_or(Lack::Invalid)?;
            let class = objects.handled_type.address(&bytes);
            if !self.is_none(class.unwrap_or(value))? {
                let traceback = objects.handled_trace.address(&bytes);
                return Ok(Some(Handled { class: class.unwrap_or_default(), value, traceback }));
            }
            item = objects.handled_previous.address(&bytes).ok_or(Lack::Invalid)?;
        }
        Err(Lack::Limit)
    }

    fn word(&self, place: Option<Address>) -> Result<Address, Lack> {
        self.memory.read_address(place.ok_or(Lack::Invalid)?).map_err(Lack::Read)
    }

    /// Whether nothing is there, or None.
    fn is_none(&self, address: Address) -> Result<bool, Lack> {
        Ok(address.is_null() || self.values.object(address)?.its_type.family == Family::None)
    }

    /// The exception, and its traceback.
    fn described(&self, handled: &Handled) -> Result<(PythonException, Option<Address>), Lack> {
        let exception = if handled.value.is_null() { None } else { Some(self.values.object(handled.value)?) };
        let is_exception = |object: &Object| match object.its_type.family {
            Family::Exception => true,
            Family::OldInstance => !handled.class.is_null(),
            _ => false,
        };
        let Some(exception) = exception.filter(is_exception) else {
            // C code may handle one that was never made an object: a class, and what it would be made of.
            let type_name = self.values.name_of_class(handled.class)?;
            let repr = self.values.show(handled.value).ok();
            let (repr, truncated) = repr.map(|shown| (shown.repr, shown.truncated)).unzip();
            let truncated = truncated.unwrap_or(false);
            return Ok((
                PythonException { type_name, repr, truncated, ..PythonException::default() },
                handled.traceback,
            ));
        };
        let type_name = self.values.name_of_exception(&exception)?;
        // What it says is less than what it is.
        let message = self.values.message(exception.address).unwrap_or_default();
        let shown = self.values.show(exception.address).ok();
        let truncated = match (&message, &shown) {
            (Some(message), _) => message.truncated,
            (None, shown) => shown.as_ref().is_some_and(|shown| shown.truncated),
        };
        let traceback = handled.traceback.or_else(|| self.values.objects().exception_trace.address(&exception.bytes));
        let found = PythonException {
            type_name,
            message: message.map(|message| message.text),
            repr: shown.map(|shown| shown.repr),
            truncated,
            raised: None,
        };
        Ok((found, traceback))
    }

    /// Where the exception with this traceback was raised: the last entry, which is the innermost frame that it was thrown
    /// through.
    fn raised(&mut self, traceback: Option<Address>, python: &Python) -> Result<Option<Raised>, Lack> {
        let objects = self.values.objects();
        let mut next = traceback.unwrap_or_default();
        if self.is_none(next)? {
            return Ok(None);
        }
        let size = objects.trace_line.get().ok_or(Lack::Invalid)?.saturating_add(4);
        let mut last: Option<Vec<u8>> = None;
        let mut cycles = Cycles::default();
        for count in 0.. {
            if next.is_null() {
                break;
            }
            if cycles.found_at(next) {
                return Err(Lack::Invalid);
            }
            if count >= ENTRIES {
                return Err(Lack::Limit);
            }
            self.spend(size)?;
            let entry = self.memory.read_bytes(next, size, STRUCTURE).map_err(Lack::Read)?;
            let kind = |entry: &[u8]| self.layout.offsets.object_type.address(entry);
            let is_entry = match &last {
                None => object::may_be(&self.layout.offsets, &entry, "traceback", self.memory),
                Some(last) => kind(last) == kind(&entry),
            };
            if !is_entry {
                return Err(Lack::Invalid);
            }
            next = objects.trace_next.address(&entry).ok_or(Lack::Invalid)?;
            last = Some(entry);
        }
        let Some(entry) = last else { return Ok(None) };
        let code = self.code_of_frame(objects.trace_frame.address(&entry).ok_or(Lack::Invalid)?)?;
        self.check_size(code)?;
        let (id, _) = self.codes.get(code).map_err(lack)?;
        let line = objects.trace_line.i32(&entry).and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0);
        let instruction = objects.trace_instruction.i32(&entry).ok_or(Lack::Invalid)?;
        let line = line.or_else(|| self.codes.location(id, instruction.into()).line);
        Ok(Some(Raised { code: self.index(code, id, python)?, line }))
    }

    fn spend(&mut self, length: u64) -> Result<(), Lack> {
        self.left = self.left.checked_sub(length).ok_or(Lack::Limit)?;
        Ok(())
    }

    /// The code that a frame object's frame runs, or ran.
    fn code_of_frame(&self, frame: Address) -> Result<Address, Lack> {
        let offsets = &self.layout.offsets;
        let header = offsets.object_type.get().ok_or(Lack::Invalid)?.saturating_add(8);
        let header = self.memory.read_bytes(frame, header, STRUCTURE).map_err(Lack::Read)?;
        if !object::may_be(offsets, &header, "frame", self.memory) {
            return Err(Lack::Invalid);
        }
        let frame = match self.values.objects().frame_object_frame.of(frame) {
            Some(place) => self.word(Some(place))?,
            None => frame,
        };
        let code = self.word(offsets.frame_code.of(frame))?;
        Ok(Address(code.0 & !self.layout.semantics.reference_tags))
    }

    /// Whether the code at `address` may be read, with the table of its lines.
    fn check_size(&mut self, address: Address) -> Result<(), Lack> {
        let offsets = &self.layout.offsets;
        let length = |place: Address| -> Result<u64, Lack> {
            let found = object::bytes(offsets, place, self.memory).map_err(Lack::Read)?;
            found.map(|(_, length)| length).ok_or(Lack::Invalid)
        };
        let instructions = match offsets.code_bytes.of(address) {
            Some(place) => length(self.word(Some(place))?)?,
            None => self.word(offsets.code_units.of(address))?.0.checked_mul(2).ok_or(Lack::Invalid)?,
        };
        let lines = length(self.word(offsets.code_line_table.of(address))?)?;
        if instructions.max(lines) > LARGEST_CODE {
            return Err(Lack::Limit);
        }
        self.spend(instructions + lines)
    }

    /// The index of the code at `address` among all that the payload has.
    fn index(&mut self, address: Address, id: crate::code::CodeId, python: &Python) -> Result<u32, Lack> {
        let indices = self
            .indices
            .get_or_insert_with(|| (0..).zip(&python.codes).map(|(index, code)| (code.address, index)).collect());
        if let Some(index) = indices.get(&address) {
            return Ok(*index);
        }
        let lost = self.codes.lost.len();
        let shown = usize::try_from(self.codes.show(id)).unwrap_or(usize::MAX);
        if self.codes.lost.len() > lost {
            return Err(Lack::Invalid);
        }
        let code = self.codes.found.get(shown).ok_or(Lack::Invalid)?;
        let index = python.codes.len().saturating_add(self.found.codes.len());
        let index = u32::try_from(index).map_err(|_| Lack::Limit)?;
        self.found.codes.push(code.clone());
        indices.insert(address, index);
        Ok(index)
    }
}

fn lack(error: CodeError) -> Lack {
    match error {
        CodeError::Read(error) => Lack::Read(error),
        CodeError::NoCode(_) => Lack::Invalid,
    }
}

#[cfg(test)]
mod tests;
