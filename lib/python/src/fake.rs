//! A runtime made by hand, by any table, for tests: what no living process can be made to hold on demand.

use crate::layout::{COOKIE, Field, Lines, Names, Runs, Table, all};
use pyst_memory::{Image, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{FoundRuntime, LayoutSource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The structures of a target, each a segment of its own.
pub(crate) struct Fake {
    pub(crate) table: &'static Table,
    pub(crate) runtime: Address,
    pub(crate) parts: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

/// What each fake is run with: one table of each minor version, with a GIL and without.
pub(crate) fn tables() -> Vec<&'static Table> {
    let mut tables: Vec<&Table> = all().iter().collect();
    tables.dedup_by_key(|table| (table.minor, table.free_threaded));
    tables
}

impl Fake {
    /// A runtime that runs, without an interpreter.
    pub(crate) fn new(table: &'static Table) -> Fake {
        let mut fake = Fake { table, runtime: Address(0), parts: BTreeMap::new(), next: 0x7f00_0000_0000 };
        fake.runtime = fake.allocate(4096);
        fake.put32(fake.runtime, table.offsets.runtime_core_initialized, 1);
        fake.put32(fake.runtime, table.offsets.runtime_initialized, 1);
        fake
    }

    pub(crate) fn found(&self) -> FoundRuntime {
        let (major, minor) = self.table.minor;
        let patch = self.table.patches[0];
        FoundRuntime {
            address: self.runtime,
            version_hex: u32::from_be_bytes([major, minor, patch, 0xf0]),
            free_threaded: self.table.free_threaded,
            layout: self.table.name.to_owned(),
            layout_source: LayoutSource::TABLE,
            ..FoundRuntime::default()
        }
    }

    pub(crate) fn image(&self) -> Image<'static> {
        let mut image = Image::new();
        image.extend(self.parts.iter().map(|(start, bytes)| (Address(*start), bytes.clone().into())));
        image
    }

    /// Zeroed memory, apart from all other.
    pub(crate) fn allocate(&mut self, size: u64) -> Address {
        let address = self.next;
        self.parts.insert(address, vec![0; usize::try_from(size).unwrap()]);
        self.next += size.next_multiple_of(4096) + 4096;
        Address(address)
    }

    fn place(&mut self, base: Address, field: Field) -> Option<&mut [u8]> {
        let address = field.of(base)?.0;
        let (start, bytes) = self.parts.range_mut(..=address).next_back().unwrap();
        bytes.get_mut(usize::try_from(address - start).unwrap()..)
    }

    /// Fields that the table lacks are left alone.
    pub(crate) fn put(&mut self, base: Address, field: Field, value: u64) {
        if let Some(place) = self.place(base, field) {
            place[..8].copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn put32(&mut self, base: Address, field: Field, value: u32) {
        if let Some(place) = self.place(base, field) {
            place[..4].copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn put_bytes(&mut self, base: Address, field: Field, value: &[u8]) {
        self.place(base, field).unwrap()[..value.len()].copy_from_slice(value);
    }

    /// A `bytes` object.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Address {
        let offsets = self.table.offsets;
        let address = self.allocate(offsets.bytes_data.get().unwrap() + bytes.len() as u64);
        self.put(address, offsets.bytes_length, bytes.len() as u64);
        self.put_bytes(address, offsets.bytes_data, bytes);
        address
    }

    /// Makes an object one of a type of this name.
    pub(crate) fn put_type(&mut self, object: Address, name: &str) {
        let offsets = self.table.offsets;
        let its_type = self.allocate(256);
        let text = self.allocate(32);
        self.put_bytes(text, Field(0), name.as_bytes());
        self.put(its_type, offsets.type_name, text.0);
        self.put(object, offsets.object_type, its_type.0);
    }

    /// An ASCII string.
    pub(crate) fn text(&mut self, text: &str) -> Address {
        if self.table.semantics.names == Names::Bytes {
            return self.bytes(text.as_bytes());
        }
        let offsets = self.table.offsets;
        let address = self.allocate(offsets.text_ascii_data.get().unwrap() + text.len() as u64);
        let bit = |field: Field| u32::try_from(field.get().unwrap()).unwrap();
        let state =
            1 << bit(offsets.text_kind_bit) | 1 << bit(offsets.text_compact_bit) | 1 << bit(offsets.text_ascii_bit);
        self.put32(address, offsets.text_state, state);
        self.put(address, offsets.text_length, text.len() as u64);
        self.put_bytes(address, offsets.text_ascii_data, text.as_bytes());
        address
    }

    /// A code object of 8 units, each a line from line 11 on, of which the first makes the frame complete.
    pub(crate) fn code(&mut self, name: &str) -> Address {
        let offsets = self.table.offsets;
        let lines: Vec<u8> = match self.table.semantics.lines {
            Lines::Locations => (0..8).flat_map(|_| [0x80 | 13 << 3, 2]).collect(),
            Lines::Ranges => [2, 1].repeat(8),
            Lines::Steps | Lines::StepsForward => (0..8).flat_map(|unit: u8| [unit.min(1) * 2, 1]).collect(),
        };
        let table = self.bytes(&lines);
        let code = match offsets.code_instructions.get() {
            Some(size) => self.allocate(size + 16),
            None => {
                let code = self.allocate(offsets.code_size.get().unwrap());
                let instructions = self.bytes(&[9; 16]);
                self.put(code, offsets.code_bytes, instructions.0);
                code
            }
        };
        self.put_type(code, "code");
        if let (Some(count), Some(first)) = (offsets.code_copies_count.get(), offsets.code_copies_first.get()) {
            // The code itself, and a copy that no thread has yet.
            let copies = self.allocate(first + 16);
            self.put(copies, Field(u32::try_from(count).unwrap()), 2);
            self.put(copies, offsets.code_copies_first, offsets.code_instructions.of(code).unwrap().0);
            self.put(code, offsets.code_copies, copies.0);
        }
        let (name, file) = (self.text(name), self.text("file.py"));
        self.put(code, offsets.code_units, 8);
        self.put(code, offsets.code_name, name.0);
        self.put(code, offsets.code_qualname, name.0);
        self.put(code, offsets.code_file, file.0);
        self.put(code, offsets.code_line_table, table.0);
        self.put32(code, offsets.code_first_line, 10);
        self.put32(code, offsets.code_first_traceable, 1);
        code
    }

    /// How many words of locals and evaluation stack a frame states to have.
    pub(crate) fn words_of_a_frame(&self) -> u64 {
        if matches!(self.table.semantics.runs, Runs::FrameObjects { .. }) { 4 } else { 0 }
    }

    /// A frame that is at a unit of its code.
    pub(crate) fn frame(&mut self, code: Address, unit: u64, previous: Address) -> Address {
        let offsets = self.table.offsets;
        let frame = self.allocate(offsets.frame_locals.get().unwrap() + 8 * self.words_of_a_frame());
        self.put(frame, offsets.frame_code, code.0);
        self.put(frame, offsets.frame_previous, previous.0);
        if let Runs::FrameObjects { instruction_unit, .. } = self.table.semantics.runs {
            let steps = 2 * u32::try_from(unit).unwrap() / u32::from(instruction_unit);
            self.put32(frame, offsets.frame_instruction, steps);
            self.put(frame, offsets.frame_words, self.words_of_a_frame());
            self.put_type(frame, "frame");
            return frame;
        }
        let instruction = offsets.code_instructions.of(code).unwrap().0 + 2 * unit;
        self.put(frame, offsets.frame_instruction, instruction);
        frame
    }

    /// What separates runs in versions with shims: a frame that nobody is to see. Nothing elsewhere.
    pub(crate) fn shim(&mut self, code: Address, previous: Address) -> Address {
        let Runs::Shims { owner } = self.table.semantics.runs else { return previous };
        let shim = self.frame(code, 5, previous);
        self.put_bytes(shim, self.table.offsets.frame_owner, &[owner]);
        shim
    }

    /// Makes the runtime say what version it is, and where its fields are.
    pub(crate) fn describe(&mut self, version_hex: u32) {
        let runtime = self.runtime;
        self.put(runtime, Field(0), u64::from_le_bytes(*COOKIE));
        self.put(runtime, Field(8), version_hex.into());
        self.put(runtime, Field(16), self.table.free_threaded.into());
        self.table.offsets.each_with(self.table.stated.unwrap(), |offset, stated| {
            if let Some(offset) = offset.get() {
                self.put(runtime, stated, offset);
            }
        });
    }

    /// The newest interpreter.
    pub(crate) fn interpreter(&mut self, id: u64) -> Address {
        let offsets = self.table.offsets;
        let interpreter = self.allocate(offsets.interpreter_size.get().unwrap());
        let image = self.image();
        let older = offsets.runtime_interpreters_head.of(self.runtime).unwrap();
        let older = pyst_memory::MemoryExt::read_u64(&image, older).unwrap();
        self.put(interpreter, offsets.interpreter_next, older);
        self.put(interpreter, offsets.interpreter_id, id);
        self.put(self.runtime, offsets.runtime_interpreters_head, interpreter.0);
        if id == 0 {
            self.put(self.runtime, offsets.runtime_interpreters_main, interpreter.0);
        }
        interpreter
    }

    /// The newest thread state of an interpreter, with the innermost frame of each evaluation loop, innermost first.
    pub(crate) fn state(&mut self, interpreter: Address, ident: u64, loops: &[Address]) -> Address {
        let offsets = self.table.offsets;
        let state = self.allocate(offsets.thread_size.get().unwrap());
        let image = self.image();
        let older = offsets.interpreter_threads_head.of(interpreter).unwrap();
        let older = pyst_memory::MemoryExt::read_u64(&image, older).unwrap();
        self.put(state, offsets.thread_next, older);
        self.put(state, offsets.thread_interpreter, interpreter.0);
        self.put(state, offsets.thread_ident, ident);
        self.put(interpreter, offsets.interpreter_threads_head, state.0);
        let innermost = loops.first().map_or(0, |frame| frame.0);
        self.put(state, offsets.thread_current_frame, innermost);
        if offsets.thread_base_frame != Field::ABSENT {
            self.put_below(state, Address(innermost));
        }
        self.put(state, offsets.thread_frame, innermost);
        if let Some(root) = offsets.thread_root_cframe.of(state).filter(|_| offsets.cframe_size.get().is_some()) {
            let mut previous = root;
            for frame in loops.iter().rev() {
                let cframe = self.allocate(offsets.cframe_size.get().unwrap());
                self.put(cframe, offsets.cframe_previous, previous.0);
                self.put(cframe, offsets.cframe_current_frame, frame.0);
                previous = cframe;
            }
            self.put(state, offsets.thread_cframe, previous.0);
        }
        state
    }
}

impl Fake {
    /// The frame below all others, in versions that have it: the outermost loop's leads to it.
    fn put_below(&mut self, state: Address, innermost: Address) {
        let offsets = self.table.offsets;
        let base = self.frame(Address(0), 0, Address(0));
        self.put(state, offsets.thread_base_frame, base.0);
        let Runs::Shims { owner } = self.table.semantics.runs else { return };
        self.put_bytes(base, offsets.frame_owner, &[owner]);
        let image = self.image();
        let mut frame = innermost;
        // Some tests make circles.
        for _ in 0..1000 {
            let Ok(bytes) = image.read_bytes(frame, offsets.frame_locals.get().unwrap(), 4096) else { return };
            let previous = offsets.frame_previous.address(&bytes).unwrap();
            if previous.is_null() && offsets.frame_owner.u8(&bytes) == Some(owner) {
                self.put(frame, offsets.frame_previous, base.0);
            }
            frame = previous;
        }
    }
}

/// An interpreter of this machine.
pub(crate) struct LocalPython {
    pub(crate) path: PathBuf,
    /// `sys.hexversion`.
    pub(crate) hex: u32,
}

/// The interpreters that this machine has, but for those that no table is for; says so when it has none.
pub(crate) fn pythons() -> Vec<LocalPython> {
    let mut paths = ["python3.9", "python3.11", "python3.13"].map(|name| Path::new("/usr/bin").join(name)).to_vec();
    let root = Command::new("pyenv").arg("root").output().ok().filter(|output| output.status.success());
    if let Some(root) = root {
        let versions = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim()).join("versions");
        let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path().join("bin/python")));
    }
    let local = |path: PathBuf| {
        let output = Command::new(&path).args(["-E", "-s", "-c", "import sys; print(sys.hexversion)"]).output().ok()?;
        let hex = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
        (hex >= 0x0207_0000).then_some(LocalPython { path, hex })
    };
    let found: Vec<LocalPython> = paths.into_iter().filter_map(local).collect();
    if found.is_empty() {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("skipped: there is no Python of pyenv or /usr/bin on this machine\n"),
        );
    }
    found
}
