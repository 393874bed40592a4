//! One step: from a frame to its caller.

use crate::machine::Machine;
use crate::mapped::Mapped;
use crate::places::{Covered, Places};
use crate::registers::RegisterFile;
use crate::row::{Row, Rule};
use crate::rules::{self, Failure};
use pyst_elf::{Answer, Files, ModuleId, ModuleTable};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::payload::{FoundBy, StackEnd, StackV1 as Stack};
use pyst_snapshot::{Address, Svma};

/// The largest frame that is searched for return addresses, in words.
const MAX_WORDS: u64 = 4096;

/// How far a frame pointer may lie from sp where the bounds of the stack are not known, in bytes.
const MAX_FRAME: u64 = 1 << 20;

/// A frame whose caller is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) machine: Machine,
    pub(crate) registers: RegisterFile,
    /// What sp is at least, where it is not known.
    pub(crate) floor: Address,
    pub(crate) found_by: FoundBy,
}

impl Frame {
    pub(crate) fn pc(&self) -> Address {
        Address(self.registers.get(self.machine.pc()).unwrap_or(0))
    }

    pub(crate) fn sp(&self) -> Address {
        self.registers.get(self.machine.sp()).map_or(self.floor, Address)
    }

    /// Whether pc is the next instruction rather than a return address: the frame runs, or a signal interrupted it.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self.found_by, FoundBy::CONTEXT | FoundBy::SIGNAL_TRAMPOLINE)
    }

    /// An address within the instruction that runs. A return address is the first one after it, and after a call of a
    /// function that does not return it may belong to another function.
    pub(crate) fn lookup(&self) -> Address {
        if self.is_exact() { self.pc() } else { Address(self.pc().0.wrapping_sub(1)) }
    }
}

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Stepped {
    /// The frame's CFA, where it became known.
    pub(crate) cfa: Option<Address>,
    /// The frame is the kernel's signal frame; its caller is what the signal interrupted.
    pub(crate) trampoline: bool,
    /// The caller, or why there is none.
    pub(crate) caller: Result<Frame, StackEnd>,
}

impl Stepped {
    fn ended(end: StackEnd) -> Stepped {
        Stepped { cfa: None, trampoline: false, caller: Err(end) }
    }
}

/// Finds callers.
pub(crate) struct Stepper<'a> {
    pub(crate) machine: Machine,
    pub(crate) memory: &'a dyn Memory,
    pub(crate) modules: &'a ModuleTable,
    pub(crate) files: &'a dyn Files,
    pub(crate) mapped: Mapped<'a>,
    pub(crate) places: Places<'a>,
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(
        machine: Machine,
        memory: &'a dyn Memory,
        modules: &'a ModuleTable,
        files: &'a dyn Files,
        mapped: Mapped<'a>,
    ) -> Stepper<'a> {
        Stepper { machine, memory, modules, files, mapped, places: Places::new(machine, modules, files) }
    }

    /// The caller of `frame`.
    pub(crate) fn step(&mut self, frame: &Frame, stack: Option<&Stack>) -> Stepped {
        let place = self.places.at(frame.lookup());
        let (located, covered) = (self.places.located(place), self.places.covered(place));
        let is_trampoline = || self.machine.is_trampoline(frame.pc(), self.memory);
        match covered {
            // The bytes are believed before the CFI, which on aarch64 is wrong.
            _ if self.machine.link().is_some() && is_trampoline() => self.by_trampoline(frame, stack),
            Covered::Row(row) if !self.is_trampoline_after(&row, frame, located) => self.by_cfi(&row, frame, stack),
            Covered::Malformed => Stepped::ended(StackEnd::BAD_CFI),
            Covered::NotRecorded => Stepped::ended(StackEnd::NOT_RECORDED),
            Covered::Row(_) => self.by_trampoline(frame, stack),
            Covered::Not if is_trampoline() => self.by_trampoline(frame, stack),
            Covered::Not if self.is_bad_call(frame) => self.by_bad_call(frame, stack),
            Covered::Not => {
                let end = match located {
                    None => StackEnd::NO_MODULE,
                    Some(_) if self.lacks_frame_pointer(frame) => StackEnd::REGISTER_UNKNOWN,
                    Some(_) => StackEnd::NO_CFI,
                };
                let stepped = self.by_epilogue(frame, stack).or_else(|| self.by_frame_pointer(frame, stack));
                stepped.unwrap_or(Stepped::ended(end))
            }
        }
    }

    /// Whether the function that `row` is of ends right before pc, where a trampoline without CFI starts. A handler
    /// "returns" to the trampoline's first instruction, so what lies before it was never called.
    fn is_trampoline_after(&self, row: &Row, frame: &Frame, located: Option<(ModuleId, Svma)>) -> bool {
        let at_end = located.is_some_and(|(_, svma)| svma.0.checked_add(1) == Some(row.end.0));
        !frame.is_exact() && !row.signal && at_end && self.machine.is_trampoline(frame.pc(), self.memory)
    }

    fn by_cfi(&mut self, row: &Row, frame: &Frame, stack: Option<&Stack>) -> Stepped {
        let cfa = rules::cfa(row, &frame.registers, self.memory);
        let cfa = match cfa.or_else(|failure| self.cfa_by_record(row, frame).ok_or(failure)) {
            Ok(cfa) => cfa,
            Err(failure) => return Stepped::ended(end_of(failure, stack)),
        };
        let found_by = if row.signal { FoundBy::SIGNAL_TRAMPOLINE } else { FoundBy::CFI };
        let caller = rules::caller(row, cfa, &frame.registers, !frame.is_exact(), self.machine, self.memory);
        // A handler may run on a stack of its own, above or below the one it interrupted. Where calls push nothing, a function
        // that has called none may have no frame, and neither has the first of all. glibc's vfork on x86_64 takes its return
        // address off the stack, and waits with nothing there.
        let has_caller = !matches!(&caller, Ok(registers) if registers.get(self.machine.pc()).is_none());
        let pushes_nothing = self.machine.link().is_some() || row.returns_by_register(self.machine);
        let may_be_empty = pushes_nothing && (frame.is_exact() || !has_caller);
        if !row.signal && (cfa < frame.sp().0 || (cfa == frame.sp().0 && !may_be_empty)) {
            return Stepped::ended(StackEnd::STACK_DID_NOT_GROW);
        }
        let caller = match caller {
            Ok(_) if !has_caller => Err(StackEnd::COMPLETE),
            Ok(registers) => self.accept(self.frame(registers, found_by)),
            Err(failure) => Err(end_of(failure, stack)),
        };
        Stepped { cfa: Some(Address(cfa)), trampoline: row.signal, caller }
    }

    fn by_trampoline(&self, frame: &Frame, stack: Option<&Stack>) -> Stepped {
        let registers = match self.machine.interrupted(frame.sp().0, self.memory) {
            Ok(registers) => registers,
            Err(failure) => return Stepped { trampoline: true, ..Stepped::ended(end_of(failure, stack)) },
        };
        let cfa = registers.get(self.machine.sp()).map(Address);
        let caller = Ok(self.frame(registers, FoundBy::SIGNAL_TRAMPOLINE));
        Stepped { cfa, trampoline: true, caller }
    }

    /// Whether pc came from a call through a wild pointer. Its frame has nothing but the return address. Code that is
    /// mapped in no module, as a JIT makes it, is no such thing.
    fn is_bad_call(&self, frame: &Frame) -> bool {
        frame.is_exact() && (frame.pc().is_null() || self.mapped.is_code(frame.pc()) == Some(false))
    }

    fn by_bad_call(&self, frame: &Frame, stack: Option<&Stack>) -> Stepped {
        let sp = frame.sp();
        let link = self.machine.link().and_then(|link| frame.registers.get(link));
        let return_address = match link.map_or_else(|| self.memory.read_u64(sp), Ok) {
            Ok(value) => Address(self.machine.without_signature(value)),
            Err(error) => return Stepped::ended(end_of(error.into(), stack)),
        };
        let pushed = if link.is_some() { 0 } else { 8 };
        let Some(cfa) = sp.checked_add(pushed).filter(|_| self.returns_to(return_address)) else {
            return Stepped::ended(StackEnd::NO_MODULE);
        };
        // The function that was called never ran, so all that it would have kept is there.
        let mut registers = frame.registers.kept_for_caller(self.machine);
        registers.set(self.machine.sp(), Some(cfa.0));
        registers.set(self.machine.pc(), Some(return_address.0));
        let caller = Ok(self.frame(registers, FoundBy::BAD_CALL));
        Stepped { cfa: Some(cfa), trampoline: false, caller }
    }

    /// The caller that the next instructions return to, if they do just that.
    fn by_epilogue(&mut self, frame: &Frame, stack: Option<&Stack>) -> Option<Stepped> {
        let registers = match self.machine.run_epilogue(&frame.registers, self.memory)? {
            Ok(registers) => registers,
            Err(failure) => return Some(Stepped::ended(end_of(failure, stack))),
        };
        let (cfa, return_address) =
            (Address(registers.get(self.machine.sp())?), Address(registers.get(self.machine.pc())?));
        if cfa <= frame.sp() {
            return Some(Stepped::ended(StackEnd::STACK_DID_NOT_GROW));
        }
        // After a call that never returns stands another function, whose first instruction may be a return.
        if !return_address.is_null() && !self.returns_to(return_address) {
            return None;
        }
        let caller = self.accept(self.frame(registers, FoundBy::EPILOGUE));
        Some(Stepped { cfa: Some(cfa), trampoline: false, caller })
    }

    /// The caller by a frame pointer, if all that can be checked speaks for it.
    fn by_frame_pointer(&self, frame: &Frame, stack: Option<&Stack>) -> Option<Stepped> {
        // Where the return address is in a register at first, nobody knows whether a function that has not called yet has made
        // its frame record.
        if self.machine.link().is_some() && frame.is_exact() {
            return None;
        }
        let keeps = self.keeps_frame_pointer(frame);
        if keeps == Some(false) {
            return None;
        }
        let (sp, pointer) = (frame.sp(), Address(frame.registers.get(self.machine.frame_pointer())?));
        let cfa = pointer.checked_add(16)?;
        let bounds = stack.map(|stack| stack.mapping).filter(|mapping| mapping.contains(sp));
        let in_stack = match bounds {
            Some(mapping) => cfa <= mapping.end,
            None => pointer.0.wrapping_sub(sp.0) < MAX_FRAME,
        };
        if pointer < sp || !pointer.0.is_multiple_of(8) || !in_stack {
            return None;
        }
        let saved = self.memory.read_u64(pointer).ok()?;
        let return_address = self.memory.read_u64(pointer.checked_add(8)?).ok()?;
        let return_address = Address(self.machine.without_signature(return_address));
        if !self.returns_to(return_address) {
            return None;
        }
        // What a JIT makes is called through pointers, and nothing tells where it starts.
        let is_in_file = self.modules.locate(frame.lookup()).is_some();
        if keeps.is_none() && is_in_file && !self.is_own_frame(frame, pointer, return_address) {
            return None;
        }
        // The other registers that the function must keep may be anywhere.
        let mut registers = RegisterFile::unknown();
        registers.set(self.machine.frame_pointer(), Some(saved));
        registers.set(self.machine.pc(), Some(return_address.0));
        // A frame record may lie anywhere in its frame.
        if self.machine.link().is_none() {
            registers.set(self.machine.sp(), Some(cfa.0));
        }
        let caller = Ok(Frame { floor: cfa, ..self.frame(registers, FoundBy::FRAME_POINTER) });
        Some(Stepped { cfa: Some(cfa), trampoline: false, caller })
    }

    /// Whether the function may keep a frame pointer, and nobody told it: that of a thread that slept.
    fn lacks_frame_pointer(&self, frame: &Frame) -> bool {
        frame.registers.get(self.machine.frame_pointer()).is_none() && self.keeps_frame_pointer(frame) != Some(false)
    }

    fn keeps_frame_pointer(&self, frame: &Frame) -> Option<bool> {
        let start = self.modules.locate(frame.lookup()).and_then(|(module, svma)| {
            let Answer::Found(symbol) = self.files.symbol(module, svma) else { return None };
            Some(symbol.svma.to_address(self.modules.get(module)?.bias))
        });
        self.machine.keeps_frame_pointer(start, frame.pc(), self.memory)
    }

    /// Whether the frame record at `pointer`, from which its function returns to `return_address`, is of `frame`'s function, of which
    /// nobody knows where it starts, and not of that function's caller. A call that names the function proves it. Otherwise what is
    /// between sp and the record must hold no return address: the caller's record has this function's own below it.
    fn is_own_frame(&self, frame: &Frame, pointer: Address, return_address: Address) -> bool {
        let called = self.machine.called_by(return_address, self.memory);
        match called.and_then(|start| self.machine.is_in_frame_of(start, frame.pc(), self.memory)) {
            Some(is_own) => is_own,
            None => {
                let words = pointer.0.saturating_sub(frame.sp().0) / 8;
                let word = |index: u64| self.memory.read_u64(frame.sp().checked_add(index * 8)?).ok();
                words <= MAX_WORDS && (0..words).filter_map(word).all(|word| !self.is_return_address(Address(word)))
            }
        }
    }

    /// Whether a word is seen to be a return address: one in code of a file, right after a call.
    fn is_return_address(&self, word: Address) -> bool {
        let lookup = Address(word.0.wrapping_sub(1));
        self.modules.locate(lookup).is_some()
            && self.mapped.is_code(lookup) != Some(false)
            && self.machine.follows_call(word, self.memory) != Some(false)
    }

    /// The CFA of a frame whose sp is lost, by its frame record: the frame pointer points to where the CFI says it is saved.
    fn cfa_by_record(&self, row: &Row, frame: &Frame) -> Option<u64> {
        let (pointer, link) = (self.machine.frame_pointer(), self.machine.link()?);
        if frame.is_exact() || self.keeps_frame_pointer(frame) != Some(true) {
            return None;
        }
        let saved_at = |register| {
            row.rules.iter().find_map(|(number, rule)| match rule {
                Rule::AtOffset(offset) if *number == register => Some(*offset),
                _ => None,
            })
        };
        let offset = saved_at(pointer).filter(|offset| saved_at(link) == offset.checked_add(8))?;
        frame.registers.get(pointer)?.checked_add_signed(offset.checked_neg()?)
    }

    /// Whether a value found without CFI is a return address: in code, and after a call as far as one can see. In code that
    /// is in no file one must see it.
    fn returns_to(&self, address: Address) -> bool {
        let lookup = Address(address.0.wrapping_sub(1));
        let in_module = self.modules.locate(lookup).is_some();
        match self.mapped.is_code(lookup) {
            Some(false) => false,
            _ => self.machine.follows_call(address, self.memory).unwrap_or(in_module),
        }
    }

    fn frame(&self, registers: RegisterFile, found_by: FoundBy) -> Frame {
        Frame { machine: self.machine, registers, floor: Address(0), found_by }
    }

    /// A caller that CFI named, unless its pc cannot be code.
    fn accept(&mut self, frame: Frame) -> Result<Frame, StackEnd> {
        let pc = frame.pc();
        // What a signal interrupted may well have jumped to nowhere.
        if frame.found_by == FoundBy::SIGNAL_TRAMPOLINE {
            return Ok(frame);
        }
        if pc.is_null() {
            return Err(StackEnd::ZERO_RETURN_ADDRESS);
        }
        // A trampoline may be the first thing in its mapping.
        let place = self.places.at(frame.lookup());
        if self.places.is_code(place, &self.mapped) == Some(false) && !self.machine.is_trampoline(pc, self.memory) {
            return Err(StackEnd::NO_MODULE);
        }
        Ok(frame)
    }
}

/// Why a stack ends when its caller could not be found so.
fn end_of(failure: Failure, stack: Option<&Stack>) -> StackEnd {
    match failure {
        Failure::UnknownRegister => StackEnd::REGISTER_UNKNOWN,
        Failure::BadCfi | Failure::Memory(ReadError::TooLong { .. }) => StackEnd::BAD_CFI,
        Failure::Memory(ReadError::Unreadable(_)) => StackEnd::UNREADABLE,
        Failure::Memory(ReadError::NotRecorded(range)) => {
            let past_cap =
                |stack: &Stack| stack.truncated && range.end > stack.read.end && stack.mapping.contains(range.start);
            if stack.is_some_and(past_cap) { StackEnd::STACK_TRUNCATED } else { StackEnd::NOT_RECORDED }
        }
    }
}
