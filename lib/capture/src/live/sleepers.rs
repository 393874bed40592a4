//! The stacks of threads that sleep, looked at while the target runs: where each is used, and up to where.
//!
//! A thread that still sleeps in the stop has the same stack, so that its used part can be read with everything else, and
//! nothing beyond it need be: what lies above belongs to the C library, and above the main thread's are its arguments and
//! environment.

use super::LIVE_ARCH;
use super::memory::LiveMemory;
use super::page::{PAGE, page_from};
use super::stack::{MAX_STACK, MAX_STACKS, stack_at};
use crate::registers::{RED_ZONE, layout};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{Arch, Map, Register, Registers, Stack, Thread};
use pyst_snapshot::{Address, Range, Tid};

/// What is kept above the outermost return address. On x86_64 that is the last word of its frame; elsewhere the frame goes on
/// above it, and the one that starts a thread holds little.
const ABOVE: u64 = match LIVE_ARCH {
    Arch::X86_64 => 64,
    _ => 4096,
};

/// A thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sleeper {
    pub(crate) tid: Tid,
    pub(crate) sp: Address,
    pub(crate) pc: Address,
    pub(crate) thread_pointer: Option<Address>,
    /// Its stack, of which `read` is the part that is used.
    pub(crate) stack: Stack,
    /// Whether it ends there however the thread goes on.
    is_bounded: bool,
}

impl Sleeper {
    #[cfg(test)]
    pub(crate) fn at(tid: Tid, sp: Address) -> Sleeper {
        let range = Range { start: sp, end: sp };
        let stack = Stack { mapping: range, read: range, truncated: false };
        Sleeper { tid, sp, pc: sp, thread_pointer: None, stack, is_bounded: false }
    }

    /// What is known of its registers.
    pub(crate) fn registers(&self) -> Registers {
        let layout = layout(LIVE_ARCH);
        let value = |number, value: Address| Register { number, value: value.0 };
        Registers {
            values: vec![value(layout.sp, self.sp), value(layout.pc, self.pc)],
            thread_pointer: self.thread_pointer,
            ..Registers::default()
        }
    }

    /// Whether a thread with these registers sleeps there still.
    pub(crate) fn is(&self, registers: &Registers) -> bool {
        let layout = layout(LIVE_ARCH);
        let is = |number, value: Address| registers.get(number) == Some(value.0);
        let pointer = || self.thread_pointer.is_none() || self.thread_pointer == registers.thread_pointer;
        is(layout.sp, self.sp) && is(layout.pc, self.pc) && pointer()
    }

    /// The stack that is used down to `sp`, if that is this thread's: however far it is used, it ends where it did.
    pub(crate) fn stack_from(&self, sp: Address) -> Option<Stack> {
        let stack = self.stack;
        let start = Address(sp.0.saturating_sub(RED_ZONE)).max(stack.mapping.start);
        let is_same = stack.mapping.contains(sp) && sp < stack.read.end && self.is_bounded;
        is_same.then_some(Stack { read: Range { start, end: stack.read.end }, ..stack })
    }
}

/// What the words of a stack tell.
#[derive(Default)]
struct Words {
    /// Where glibc describes the thread: that description (`struct pthread` of x86_64) holds its own address twice, and the
    /// thread's id, and lies on top of the stack.
    thread_pointer: Option<Address>,
    /// The last word that leads to code: no frame ends above it.
    outermost: Option<Address>,
    /// What is in memory. A large variable may have pages that nobody has written to.
    parts: Vec<Range>,
}

impl Words {
    fn add_part(&mut self, part: Range) {
        match self.parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => self.parts.push(part),
        }
    }
}

/// Looks at the stacks of threads.
pub(crate) struct Bedroom<'a> {
    memory: &'a LiveMemory,
    maps: &'a [Map],
    /// Where the main thread's stack began.
    start_stack: Address,
    /// Where code is, ascending.
    code: Vec<Range>,
    left: u64,
}

impl<'a> Bedroom<'a> {
    pub(crate) fn of(memory: &'a LiveMemory, maps: &'a [Map], start_stack: u64) -> Bedroom<'a> {
        let mut code: Vec<Range> = Vec::new();
        for map in maps.iter().filter(|map| map.is_executable()) {
            match code.last_mut() {
                Some(last) if last.end == map.range.start => last.end = map.range.end,
                _ => code.push(map.range),
            }
        }
        Bedroom { memory, maps, start_stack: Address(start_stack), code, left: MAX_STACKS }
    }

    /// The thread that sleeps at `sp`, `pc`, and the parts of its stack that are used and in memory.
    pub(crate) fn look(&mut self, thread: &Thread, sp: Address, pc: Address) -> (Sleeper, Vec<Range>) {
        let limit = MAX_STACK.min(self.left);
        let whole = stack_at(sp, None, self.maps, limit);
        let is_main = sp < self.start_stack && self.start_stack < whole.read.end;
        let end = if is_main { self.start_stack } else { whole.read.end };
        let Words { thread_pointer, outermost, parts } = self.words(Range { end, ..whole.read }, thread.namespace_tid);
        let mut stack = stack_at(sp, thread_pointer, self.maps, limit);
        let is_bounded = is_main || thread_pointer.is_some();
        if is_bounded || !stack.truncated {
            let end = outermost.map_or(stack.read.start, |outermost| Address(outermost.0.saturating_add(ABOVE)));
            stack.read.end = end.max(stack.read.start).min(stack.read.end);
            stack.truncated = false;
        }
        if let Some(top) = thread_pointer {
            // Behind it another stack may begin.
            self.memory.unwant(Range { start: stack.read.end, end: Address(page_from(top.0)) });
        }
        self.left = self.left.saturating_sub(stack.read.len());
        let parts = parts.iter().map(|part| part.intersect(stack.read)).filter(|part| !part.is_empty()).collect();
        (Sleeper { tid: thread.tid, sp, pc, thread_pointer, stack, is_bounded }, parts)
    }

    /// Looks through a stack, upwards, to where the C library describes its thread.
    fn words(&self, range: Range, namespace_tid: Option<u32>) -> Words {
        let mut words = Words::default();
        let mut bytes = [0; PAGE as usize];
        // Where the last word was that holds its own address.
        let mut itself = 0;
        let mut start = range.start.0.next_multiple_of(8);
        while start < range.end.0 {
            let end = (start | (PAGE - 1)).saturating_add(1).min(range.end.0);
            let page = bytes.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
            let is_there = self.memory.is_there(start) && self.memory.read(Address(start), page).is_ok();
            if is_there {
                words.add_part(Range { start: Address(start), end: Address(end) });
            }
            for (at, word) in (start..).step_by(8).zip(page.as_chunks().0).filter(|_| is_there) {
                let value = u64::from_le_bytes(*word);
                if value == itself && at == value.saturating_add(16) && self.describes(value, namespace_tid) {
                    words.thread_pointer = Some(Address(value));
                    return words;
                }
                if value == at {
                    itself = value;
                } else if self.is_code(value) {
                    words.outermost = Some(Address(at));
                }
            }
            start = end;
        }
        words
    }

    /// Whether what lies at `address` is glibc's description of the thread with this id in its own namespace.
    fn describes(&self, address: u64, namespace_tid: Option<u32>) -> bool {
        const TID: u64 = 720;
        let at = Address(address.saturating_add(TID));
        let tid = || self.memory.read_array(at).map(u32::from_le_bytes).ok();
        self.memory.is_there(at.0) && namespace_tid.is_some() && tid() == namespace_tid
    }

    fn is_code(&self, value: u64) -> bool {
        let after = self.code.partition_point(|range| range.start.0 <= value);
        let range = after.checked_sub(1).and_then(|index| self.code.get(index));
        range.is_some_and(|range| range.contains(Address(value)))
    }
}
