//! The data stack: where a thread's frames lie one after the other, read by the chunk.
//!
//! A chunk holds a hundred frames and more, so this is what makes a walk over a deep stack cheap, and it keeps locals and
//! evaluation stacks for later versions without a read of their own. Frames elsewhere (of generators, on the C stack)
//! and chunks that can't be read cost a read each.

use crate::layout::Offsets;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::{Address, Range};

/// The largest chunk that is read at once. CPython's have 16 KiB; one frame with a huge stack gets a larger one.
const LARGEST: u64 = 1 << 20;

/// How much of chunks a walk reads in all; what lies beyond is read by the frame.
const IN_ALL: u64 = 512 << 20;

/// The chunks of one thread after the other.
pub(crate) struct Chunks<'a> {
    offsets: &'a Offsets,
    memory: &'a dyn Memory,
    left: u64,
    /// The chunk whose bytes are here.
    held: Range,
    bytes: Vec<u8>,
    /// The next older chunk, its used part.
    older: Option<Range>,
    /// The free part of the newest chunk.
    free: Range,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(offsets: &'a Offsets, memory: &'a dyn Memory) -> Chunks<'a> {
        Chunks {
            offsets,
            memory,
            left: IN_ALL,
            held: Range::default(),
            bytes: Vec::new(),
            older: None,
            free: Range::default(),
        }
    }

    /// Starts with the chunks of a thread: those of `thread`, the bytes of its state.
    pub(crate) fn start(&mut self, thread: &[u8]) {
        self.held = Range::default();
        self.older = self.newest(thread);
        // Also when no frame lies in it: the newest chunk is where a later version's walk would look.
        self.advance();
        let size = self.offsets.chunk_size.u64(&self.bytes).filter(|_| !self.held.is_empty());
        let end = size.and_then(|size| self.held.start.checked_add(size));
        self.free = Range { start: self.held.end, end: end.unwrap_or(self.held.end) };
    }

    /// The used part of the newest chunk of a thread whose state has these bytes, if that is not too large to be read at once.
    pub(crate) fn newest(&self, thread: &[u8]) -> Option<Range> {
        let start = self.offsets.thread_chunk.address(thread).filter(|chunk| !chunk.is_null())?;
        let end = self.offsets.thread_chunk_top.address(thread)?;
        Some(Range { start, end }).filter(|range| range.start <= range.end && range.len() <= LARGEST)
    }

    /// Whether `address` is where frames have been and are no more.
    pub(crate) fn is_free(&self, address: Address) -> bool {
        self.free.contains(address)
    }

    /// The `length` bytes at `address`, if they lie in a chunk. Frames come newest first, so chunks are only ever left
    /// for older ones.
    pub(crate) fn get(&mut self, address: Address, length: u64) -> Option<&[u8]> {
        let range = Range::sized(address, length)?;
        let within = |outer: Range| outer.contains(range.start) && range.end <= outer.end;
        if !within(self.held) {
            if !self.older.is_some_and(within) {
                return None;
            }
            self.advance();
            if !within(self.held) {
                return None;
            }
        }
        let start = usize::try_from(range.start.0.checked_sub(self.held.start.0)?).ok()?;
        self.bytes.get(start..)?.get(..usize::try_from(length).ok()?)
    }

    /// Goes on to the next older chunk.
    fn advance(&mut self) {
        self.held = Range::default();
        let Some(range) = self.older.take() else { return };
        let Some(length) = usize::try_from(range.len()).ok().filter(|_| range.len() <= LARGEST.min(self.left)) else {
            return;
        };
        self.left = self.left.saturating_sub(range.len());
        self.bytes.resize(length, 0);
        if self.memory.read(range.start, &mut self.bytes).is_err() {
            return;
        }
        self.held = range;
        self.older = self.offsets.chunk_previous.address(&self.bytes).and_then(|chunk| self.used(chunk));
    }

    /// The used part of a chunk that is not the newest.
    fn used(&self, chunk: Address) -> Option<Range> {
        if chunk.is_null() {
            return None;
        }
        let data = self.offsets.chunk_data.get()?;
        let header = self.memory.read_bytes(chunk, data, LARGEST).ok()?;
        let top = self.offsets.chunk_top.u64(&header)?.checked_mul(8)?;
        Range::sized(chunk, data.checked_add(top)?)
    }
}
