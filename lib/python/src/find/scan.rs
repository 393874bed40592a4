//! The scan: words that lead where the pointers of a runtime lead.
//!
//! By every layout a runtime holds a pointer to an interpreter, that one a pointer to a thread state, and that one a
//! pointer back. Layouts differ in where those are; few differ in all of it, so a word is held against a handful of
//! shapes. Bytes are read in bulk, and a pointer is followed only when it leads to memory that may hold an interpreter.

use super::depth::is_thread_pointer;
use crate::layout::{self, COOKIE, Field, Table};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::{Address, Range};

/// How many pointers are followed in one scan, from pairs of equal words and from all others. Each may cost a read of a
/// page.
const FOLLOWED_EQUAL: usize = 4 << 20;
const FOLLOWED_OTHERS: usize = 2 << 20;

/// How many places of one scan are looked at closely.
const CLOSELY: usize = 64;

/// How many thread states of an interpreter are looked at for one that a thread has: the newest may be in the making.
const THREADS: usize = 8;

/// How many interpreters lie between the newest and the main one, at most.
const INTERPRETERS: usize = 4096;

/// How far apart the pointers to the newest and to the main interpreter may be.
pub(super) const APART: u64 = 64;

/// Where the aligned cookies are in bytes that were read at `start`.
pub(super) fn cookies(start: Address, bytes: &[u8]) -> Vec<Address> {
    memchr::memmem::find_iter(bytes, COOKIE)
        .filter_map(|offset| start.checked_add(offset as u64))
        .filter(|address| address.0 % 8 == 0)
        .collect()
}

/// What layouts have in common that lead to an interpreter and back in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// From the pointer to the newest interpreter to that to the main one, in words; absent before 3.7.
    main: Option<usize>,
    interpreter_next: Field,
    threads_head: Field,
    thread_next: Field,
    thread_interpreter: Field,
    thread_ident: Field,
}

impl Shape {
    fn of(table: &Table) -> Option<Shape> {
        let offsets = table.offsets;
        let head = offsets.runtime_interpreters_head.get()?;
        let main = match offsets.runtime_interpreters_main.get() {
            Some(main) => Some(main.checked_sub(head).filter(|apart| *apart <= APART)?),
            None => None,
        };
        Some(Shape {
            main: main.and_then(|apart| usize::try_from(apart / 8).ok()),
            interpreter_next: offsets.interpreter_next,
            threads_head: offsets.interpreter_threads_head,
            thread_next: offsets.thread_next,
            thread_interpreter: offsets.thread_interpreter,
            thread_ident: offsets.thread_ident,
        })
    }
}

/// Which words are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Two that are the same: the newest interpreter is the main one. Few other words are like that.
    Equal,
    /// All others.
    Others,
}

/// A word that leads where a runtime's do, and the tables that have it so.
pub(super) struct Hit {
    pub(super) head: Address,
    pub(super) place: usize,
    pub(super) tables: Vec<&'static Table>,
}

/// A search of memory by some layouts.
pub(super) struct Scan<'a> {
    memory: &'a dyn Memory,
    /// What pointers of a runtime may lead to, ascending.
    data: &'a [Range],
    shapes: Vec<(Shape, Vec<&'static Table>)>,
    words: Words,
    /// How many pointers may still be followed.
    left: usize,
    pub(super) hits: Vec<Hit>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(memory: &'a dyn Memory, data: &'a [Range], words: Words) -> Scan<'a> {
        let mut shapes: Vec<(Shape, Vec<&'static Table>)> = Vec::new();
        for table in layout::all() {
            let Some(shape) = Shape::of(table) else { continue };
            match shapes.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, tables)) => tables.push(table),
                None => shapes.push((shape, vec![table])),
            }
        }
        let left = match words {
            Words::Equal => FOLLOWED_EQUAL,
            Words::Others => FOLLOWED_OTHERS,
        };
        Scan { memory, data, shapes, words, left, hits: Vec::new() }
    }

    /// Whether there was too much to look at.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == 0 || self.hits.len() >= CLOSELY
    }

    /// Looks at every word of `bytes`, which were read at `start` in the place of this number.
    pub(super) fn pass(&mut self, start: Address, bytes: &[u8], number: usize) {
        let (Some(first), Some(last)) = (self.data.first(), self.data.last()) else { return };
        if self.is_exhausted() {
            return;
        }
        let (lowest, length) = (first.start.0, last.end.0.saturating_sub(first.start.0));
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| words.get(index).map(|word| u64::from_le_bytes(*word));
        let shapes = std::mem::take(&mut self.shapes);
        let mut apart: Vec<Option<usize>> = shapes.iter().map(|(shape, _)| shape.main).collect();
        apart.dedup();
        for (index, value) in words.iter().enumerate() {
            let value = u64::from_le_bytes(*value);
            // Nearly all words end here.
            if value.wrapping_sub(lowest) >= length || value % 8 != 0 {
                continue;
            }
            let Some(place) = start.checked_add(index as u64 * 8) else { break };
            for apart in &apart {
                let main = apart.map(|apart| word(index.saturating_add(apart)).unwrap_or_default());
                if (main == Some(value)) != (self.words == Words::Equal) {
                    continue;
                }
                let main = Address(main.unwrap_or(value));
                for (shape, tables) in shapes.iter().filter(|(shape, _)| shape.main == *apart) {
                    if self.leads_back(shape, Address(value), main) {
                        self.hits.push(Hit { head: place, place: number, tables: tables.clone() });
                    }
                }
            }
            if self.is_exhausted() {
                break;
            }
        }
        self.shapes = shapes;
    }

    /// Whether there is an interpreter at `main` by this shape, and `head` leads on to it.
    fn leads_back(&mut self, shape: &Shape, head: Address, main: Address) -> bool {
        self.has_thread(shape, main).is_some() && (head == main || self.leads_to(shape, head, main).is_some())
    }

    /// Whether a thread state of the interpreter is a thread's.
    fn has_thread(&mut self, shape: &Shape, interpreter: Address) -> Option<()> {
        let mut thread = self.follow(interpreter, shape.threads_head)?;
        for _ in 0..THREADS {
            let back = self.follow(thread, shape.thread_interpreter).filter(|back| *back == interpreter)?;
            if back == thread {
                return None;
            }
            let ident = self.follow(thread, shape.thread_ident);
            if ident.is_some_and(|ident| is_thread_pointer(ident, self.memory)) {
                return Some(());
            }
            thread = self.follow(thread, shape.thread_next)?;
        }
        None
    }

    fn leads_to(&mut self, shape: &Shape, head: Address, main: Address) -> Option<()> {
        let mut interpreter = head;
        for _ in 0..INTERPRETERS {
            if interpreter == main {
                return Some(());
            }
            interpreter = self.follow(interpreter, shape.interpreter_next)?;
        }
        None
    }

    /// The pointer in a field of what is at `base`, if both can be.
    fn follow(&mut self, base: Address, field: Field) -> Option<Address> {
        if !base.0.is_multiple_of(8) || !self.is_data(base) {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.memory.read_address(field.of(base)?).ok().filter(|pointer| !pointer.is_null())
    }

    fn is_data(&self, address: Address) -> bool {
        let after = self.data.partition_point(|range| range.start <= address);
        after.checked_sub(1).and_then(|index| self.data.get(index)).is_some_and(|range| range.contains(address))
    }
}
