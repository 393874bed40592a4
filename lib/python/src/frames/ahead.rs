//! What the walk over the frames of many threads will read, said before it, so that a memory of which every read costs a call
//! can bring it with few. Nothing that is shown depends on it.

use super::{BEYOND_CFRAME, WORDS_OF_A_FRAME};
use crate::chunks::Chunks;
use crate::layout::Layout;
use pyst_memory::{Memory, MemoryExt, RangeSet};
use pyst_snapshot::{Address, Range};

/// How many calls from C code are followed.
const ENTRIES: usize = 4;

/// How many frames between two of them are gone through.
const FRAMES: usize = 1000;

/// What looks ahead of a walk.
pub(crate) struct Ahead<'a> {
    layout: &'a Layout,
    memory: &'a dyn Memory,
    /// Apart from those of the walk: how much of them is read in all is bounded.
    chunks: Chunks<'a>,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(layout: &'a Layout, memory: &'a dyn Memory) -> Ahead<'a> {
        Ahead { layout, memory, chunks: Chunks::new(&layout.offsets, memory) }
    }

    /// Says what of the frames of the threads whose states have these bytes will be read: first what the states lead to, then,
    /// a few times, the frames on the C stack that these lead to. Every call from C code has one; that of `Thread.run` is the
    /// second of a thread of 3.14.
    pub(crate) fn expect<'b>(&mut self, threads: impl Iterator<Item = &'b [u8]>) {
        if !self.memory.reads_ahead() {
            return;
        }
        let mut followed: Vec<(&[u8], Option<Address>)> = threads.map(|thread| (thread, None)).collect();
        self.memory.expect_only(followed.iter().flat_map(|(thread, _)| self.of_state(thread)).collect());
        for _ in 0..ENTRIES {
            let mut entries = RangeSet::new();
            followed.retain_mut(|(thread, entry)| {
                let next = self.entry(thread, *entry);
                next.into_iter().for_each(|range| entries.insert(range));
                *entry = next.map(|range| range.start);
                next.is_some()
            });
            if followed.is_empty() {
                return;
            }
            self.memory.expect_only(entries);
        }
    }

    /// What the state of a thread leads to.
    fn of_state(&self, thread: &[u8]) -> impl Iterator<Item = Range> + use<> {
        let offsets = &self.layout.offsets;
        let frame = offsets.frame_locals.get().unwrap_or(0);
        let cframe = || {
            // The frame that the loop was entered with lies right behind it on the C stack.
            Range::sized(offsets.thread_cframe.address(thread)?, offsets.cframe_size.get()?.checked_add(BEYOND_CFRAME)?)
        };
        let frames = [offsets.thread_current_frame, offsets.thread_frame];
        let frames = frames.map(|field| Range::sized(field.address(thread)?, frame.min(WORDS_OF_A_FRAME)));
        frames.into_iter().flatten().chain(cframe()).chain(self.chunks.newest(thread))
    }

    /// The frame that the frames of a thread lead to out of its newest chunk, from `inner` on or from the innermost: one on the
    /// C stack, if there is no `_PyCFrame` beside it that told of it.
    fn entry(&mut self, thread: &[u8], inner: Option<Address>) -> Option<Range> {
        let offsets = &self.layout.offsets;
        if offsets.thread_cframe.get().is_some() {
            return None;
        }
        let size = offsets.frame_locals.get()?.min(WORDS_OF_A_FRAME);
        let mut next = match inner {
            Some(inner) => self.memory.read_address(offsets.frame_previous.of(inner)?).ok()?,
            None => offsets.thread_current_frame.address(thread)?,
        };
        self.chunks.start(thread);
        for _ in 0..FRAMES {
            match self.chunks.get(next, size) {
                Some(frame) => next = offsets.frame_previous.address(frame)?,
                None => return Range::sized(next, size).filter(|range| !range.start.is_null()),
            }
        }
        None
    }
}
