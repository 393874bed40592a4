//! Code objects, each read once a walk.

use crate::layout::{Layout, Offsets};
use crate::location::{Location, LocationTable};
use crate::object;
use crate::text::{self, TextError};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::payload::PythonCode;
use pyst_snapshot::{Address, Text};
use std::collections::HashMap;

/// The longest bytecode and the longest table of lines that are read, in bytes. The largest modules that people
/// generate have a few megabytes.
const LONGEST: u64 = 16 << 20;

/// How many bytes of names a walk keeps in all. Ordinary programs have some kilobytes on their stacks.
const TEXT_IN_ALL: usize = 8 << 20;

/// How far behind its instructions, in bytes, a code object's first traceable one may be. That of `_Py_InitCleanup` (3.13
/// and later), which checks what `__init__` returns, is: it is in the chain whenever a class is called, and never shown.
const BEYOND: u64 = 16;

/// A code object, by its place among those of this walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeId(usize);

/// Why there is no code object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// Its bytes could not be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is none.
    #[error("there is no code object at {0}")]
    NoCode(Address),
}

/// The code objects of one walk.
pub(crate) struct Codes<'a> {
    layout: &'a Layout,
    memory: &'a dyn Memory,
    codes: Vec<Code>,
    places: HashMap<Address, CodeId>,
    /// Where the copies of instructions start that threads have for themselves.
    copies: HashMap<(usize, u32), Address>,
    /// The one asked for last: recursion asks for it again.
    last: Option<(Address, CodeId)>,
    locations: HashMap<(usize, u32), Location>,
    texts: HashMap<Address, Text>,
    text_bytes: usize,
    /// The code objects that frames name.
    pub(crate) found: Vec<PythonCode>,
    /// What could not be had of them.
    pub(crate) lost: Vec<String>,
}

/// How many copies of its instructions a code object may have: CPython makes one for each thread that runs it.
const COPIES: u64 = 1 << 20;

/// What a code object's header says.
pub(crate) struct Code {
    address: Address,
    header: Vec<u8>,
    /// Where its own instructions start.
    instructions: Address,
    /// How long they are, in bytes.
    pub(crate) length: u64,
    /// Before this offset a frame is not complete yet.
    pub(crate) first_traceable: u64,
    /// How many locals, cells and free variables a frame has.
    pub(crate) locals: u64,
    /// Whether what it runs is a generator or coroutine.
    pub(crate) is_generator: bool,
    lines: Option<LocationTable>,
    /// The one asked for last: threads that do the same are at the same instruction, and so are the frames of a recursion.
    last_location: Option<(u32, Location)>,
    /// Its place among those that a frame shows.
    shown: Option<u32>,
}

impl<'a> Codes<'a> {
    pub(crate) fn new(layout: &'a Layout, memory: &'a dyn Memory) -> Codes<'a> {
        Codes {
            layout,
            memory,
            codes: Vec::new(),
            places: HashMap::new(),
            copies: HashMap::new(),
            last: None,
            locations: HashMap::new(),
            texts: HashMap::new(),
            text_bytes: 0,
            found: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// The code object at `address`.
    pub(crate) fn get(&mut self, address: Address) -> Result<(CodeId, &Code), CodeError> {
        let known = match self.last {
            Some((last, id)) if last == address => Some(id),
            _ => self.places.get(&address).copied(),
        };
        let id = match known {
            Some(id) => id,
            None => {
                let code = self.read(address)?;
                let id = CodeId(self.codes.len());
                self.codes.push(code);
                self.places.insert(address, id);
                id
            }
        };
        self.last = Some((address, id));
        self.codes.get(id.0).map(|code| (id, code)).ok_or(CodeError::NoCode(address))
    }

    /// Where the instructions start that a frame runs. Free-threaded builds from 3.14 on have a copy for each thread.
    pub(crate) fn instructions(&mut self, id: CodeId, copy: Option<u32>) -> Result<Address, CodeError> {
        let Some(code) = self.codes.get(id.0) else { return Err(CodeError::NoCode(Address(0))) };
        let offsets = &self.layout.offsets;
        let array = copy.zip(offsets.code_copies.address(&code.header));
        let Some((copy, array)) = array else { return Ok(code.instructions) };
        if let Some(known) = self.copies.get(&(id.0, copy)) {
            return Ok(*known);
        }
        let no_code = || CodeError::NoCode(code.address);
        let count = self.memory.read_u64(offsets.code_copies_count.of(array).ok_or_else(no_code)?)?;
        if u64::from(copy) >= count.min(COPIES) {
            return Err(no_code());
        }
        let first = offsets.code_copies_first.of(array);
        let entry = first.and_then(|first| first.checked_add(u64::from(copy) * 8)).ok_or_else(no_code)?;
        let instructions = self.memory.read_address(entry)?;
        self.memory.read_bytes(instructions, code.length, LONGEST)?;
        self.copies.insert((id.0, copy), instructions);
        Ok(instructions)
    }

    /// The code's place in the `python` payload; its names are read when it is asked for first. Frames that are hidden
    /// have code objects too, some without proper names.
    pub(crate) fn show(&mut self, id: CodeId) -> u32 {
        let Some(code) = self.codes.get(id.0) else { return u32::MAX };
        if let Some(shown) = code.shown {
            return shown;
        }
        let offsets = &self.layout.offsets;
        let address = code.address;
        let first_line = offsets.code_first_line.u32(&code.header).filter(|line| *line <= i32::MAX as u32);
        let name = offsets.code_name.address(&code.header);
        let qualname = offsets.code_qualname.address(&code.header);
        let file = offsets.code_file.address(&code.header);
        let found = PythonCode {
            address,
            function: self.text(address, "name", name).unwrap_or_else(|| Text::from("<name not readable>")),
            qualname: qualname.and_then(|qualname| self.text(address, "qualified name", Some(qualname))),
            file: self.text(address, "file name", file).unwrap_or_else(|| Text::from("<file name not readable>")),
            first_line,
        };
        let shown = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        self.found.push(found);
        if let Some(code) = self.codes.get_mut(id.0) {
            code.shown = Some(shown);
        }
        shown
    }

    /// Where the instruction at `offset` bytes comes from, as `frame.f_lineno` and `code.co_positions()` have it.
    pub(crate) fn location(&mut self, id: CodeId, offset: i64) -> Location {
        let Some(code) = self.codes.get_mut(id.0) else { return Location::default() };
        let unit = self.layout.semantics.lines.bytes_of_a_unit();
        let Some(unit) = u64::try_from(offset).ok().and_then(|offset| u32::try_from(offset / unit).ok()) else {
            // PyCode_Addr2Line of a frame that has not started.
            let line = self.layout.offsets.code_first_line.u32(&code.header);
            return Location { line: line.filter(|line| *line <= i32::MAX as u32), ..Location::default() };
        };
        let key = (id.0, unit);
        let last = code.last_location.filter(|(last, _)| *last == unit).map(|(_, location)| location);
        if let Some(location) = last.or_else(|| self.locations.get(&key).copied()) {
            code.last_location = Some((unit, location));
            return location;
        }
        if code.lines.is_none() {
            match line_table(self.layout, code, self.memory) {
                Ok(lines) => code.lines = Some(lines),
                Err(error) => {
                    self.lost.push(format!("The lines of the code object at {} are unknown: {error}.", code.address));
                    code.lines = Some(LocationTable::unknown());
                }
            }
        }
        let location = code.lines.as_mut().map(|lines| lines.at(unit)).unwrap_or_default();
        code.last_location = Some((unit, location));
        self.locations.insert(key, location);
        location
    }

    fn read(&self, address: Address) -> Result<Code, CodeError> {
        let no_code = || CodeError::NoCode(address);
        let offsets = &self.layout.offsets;
        if offsets.code_bytes.get().is_some() {
            return self.read_with_bytes(address);
        }
        let size = offsets.code_instructions.get().ok_or_else(no_code)?;
        let header = self.memory.read_bytes(address, size, LONGEST)?;
        if !self.is_code(&header) {
            return Err(no_code());
        }
        let count = |field: crate::layout::Field| field.i32(&header).and_then(|count| u64::try_from(count).ok());
        let length = offsets.code_units.u64(&header).and_then(|units| units.checked_mul(2));
        let length = length.filter(|length| *length <= LONGEST).ok_or_else(no_code)?;
        let first_traceable = count(offsets.code_first_traceable).and_then(|units| units.checked_mul(2));
        let code = Code {
            address,
            instructions: offsets.code_instructions.of(address).ok_or_else(no_code)?,
            length,
            first_traceable: first_traceable
                .filter(|offset| *offset <= length.saturating_add(BEYOND))
                .ok_or_else(no_code)?,
            locals: count(offsets.code_locals).ok_or_else(no_code)?,
            is_generator: is_generator(offsets, &header),
            lines: None,
            last_location: None,
            shown: None,
            header,
        };
        // Nothing here looks at the instructions, but what a snapshot does not have no later version can look at. The
        // last byte must be there in any case.
        self.memory.read_bytes(code.instructions, length, LONGEST)?;
        Ok(code)
    }

    fn is_code(&self, header: &[u8]) -> bool {
        object::may_be(&self.layout.offsets, header, "code", self.memory)
    }

    /// The code object of 3.10 and older, whose instructions are a `bytes` object of their own.
    fn read_with_bytes(&self, address: Address) -> Result<Code, CodeError> {
        let no_code = || CodeError::NoCode(address);
        let offsets = &self.layout.offsets;
        let header = self.memory.read_bytes(address, offsets.code_size.get().ok_or_else(no_code)?, LONGEST)?;
        if !self.is_code(&header) {
            return Err(no_code());
        }
        let bytes = offsets.code_bytes.address(&header).ok_or_else(no_code)?;
        let (instructions, length) = object::bytes(offsets, bytes, self.memory)?.ok_or_else(no_code)?;
        // As above: a later version may look at them.
        self.memory.read_bytes(instructions, length, LONGEST)?;
        Ok(Code {
            address,
            instructions,
            length,
            first_traceable: 0,
            locals: 0,
            is_generator: is_generator(offsets, &header),
            lines: None,
            last_location: None,
            shown: None,
            header,
        })
    }

    fn text(&mut self, code: Address, what: &str, address: Option<Address>) -> Option<Text> {
        let text = match address {
            None => Err(TextError::NoText(code)),
            Some(address) => match self.texts.get(&address) {
                Some(text) => Ok(text.clone()),
                None => text::read(self.layout, address, self.memory),
            },
        };
        let spent = self.text_bytes;
        match text {
            Ok(text) if spent.saturating_add(text.0.len()) <= TEXT_IN_ALL => {
                self.text_bytes = spent.saturating_add(text.0.len());
                address.map(|address| self.texts.insert(address, text.clone()));
                Some(text)
            }
            Ok(_) => {
                self.lost
                    .push(format!("The {what} of the code object at {code} is left out: there are too many names."));
                None
            }
            Err(error) => {
                self.lost.push(format!("The {what} of the code object at {code} is unknown: {error}."));
                None
            }
        }
    }
}

/// CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR.
fn is_generator(offsets: &Offsets, header: &[u8]) -> bool {
    const FLAGS: u32 = 0x20 | 0x80 | 0x200;
    offsets.code_flags.u32(header).is_some_and(|flags| flags & FLAGS != 0)
}

fn line_table(layout: &Layout, code: &Code, memory: &dyn Memory) -> Result<LocationTable, CodeError> {
    let offsets = &layout.offsets;
    let no_code = || CodeError::NoCode(code.address);
    let table = offsets.code_line_table.address(&code.header).ok_or_else(no_code)?;
    let first_line = offsets.code_first_line.i32(&code.header).ok_or_else(no_code)?;
    let (data, length) = object::bytes(offsets, table, memory)?.ok_or_else(no_code)?;
    let bytes = memory.read_bytes(data, length, LONGEST)?;
    Ok(LocationTable::new(layout.semantics.lines, bytes, first_line))
}
