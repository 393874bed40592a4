//! Where the bytes of a copy lie, and room for them that is made before the target is stopped.

use super::{BYTES_PER_CALL, RANGES_PER_CALL};
use memmap2::{MmapMut, MmapOptions};
use pyst_snapshot::Range;
use std::sync::Arc;

/// The most room that is made before the stop.
const MAX_READY: usize = 32 << 20;

/// Shorter ones lie on the heap. To give pages back interrupts the other threads of this process, for each buffer; and what
/// becomes free on the heap holds the sections that are made of the copy.
const OWN_PAGES: usize = 64 << 10;

/// What was read with one call.
pub(super) enum Buffer {
    /// The first so many bytes of pages of its own, which the kernel has back as soon as it goes.
    Pages(MmapMut, usize),
    /// On the heap.
    Made(Vec<u8>),
    /// What was read elsewhere.
    Shared(Arc<Vec<u8>>),
}

impl Buffer {
    /// One of `length` bytes that are touched now, so that the kernel need not find memory for them while the target waits.
    fn touched(length: usize) -> Buffer {
        if length < OWN_PAGES {
            return Buffer::Made(vec![0xff; length]);
        }
        let pages = MmapOptions::new().len(length).populate().map_anon();
        pages.map_or_else(|_| Buffer::Made(vec![0xff; length]), |pages| Buffer::Pages(pages, length))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Pages(pages, length) => pages.get(..*length).unwrap_or_default(),
            Buffer::Made(bytes) => bytes,
            Buffer::Shared(bytes) => bytes,
        }
    }

    /// Its bytes to be written to, which those of others are not.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Pages(pages, length) => pages.get_mut(..*length).unwrap_or_default(),
            Buffer::Made(bytes) => bytes,
            Buffer::Shared(_) => &mut [],
        }
    }

    /// Keeps the first `length` bytes, or as many as it has room for.
    pub(super) fn set_length(&mut self, length: usize) {
        match self {
            Buffer::Pages(pages, now) => *now = length.min(pages.len()),
            Buffer::Made(bytes) => bytes.truncate(length),
            Buffer::Shared(_) => {}
        }
    }

    /// How much it has room for.
    fn capacity(&self) -> usize {
        match self {
            Buffer::Pages(pages, _) => pages.len(),
            Buffer::Made(bytes) => bytes.len(),
            Buffer::Shared(_) => 0,
        }
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::Made(Vec::new())
    }
}

/// Buffers that nothing has been read into.
#[derive(Default)]
pub(super) struct Ready {
    /// The one that is needed first is the last.
    buffers: Vec<Buffer>,
}

impl Ready {
    /// One for each call that reads some of `ranges`, and others for about `more` bytes.
    pub(super) fn for_reading(ranges: &[Range], more: u64) -> Ready {
        let more = usize::try_from(more).unwrap_or(usize::MAX).min(MAX_READY);
        let others = (0..more.div_ceil(BYTES_PER_CALL)).map(|_| more.min(BYTES_PER_CALL));
        let mut left = MAX_READY;
        let fits = |length: &usize| match left.checked_sub(*length) {
            Some(less) => {
                left = less;
                true
            }
            None => false,
        };
        let mut buffers: Vec<Buffer> =
            calls(ranges).into_iter().chain(others).take_while(fits).map(Buffer::touched).collect();
        buffers.reverse();
        Ready { buffers }
    }

    /// A buffer of `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Buffer {
        // One that is far too large is kept for what is large.
        let fits = |buffer: &Buffer| (length..=length.saturating_mul(4)).contains(&buffer.capacity());
        let Some(at) = self.buffers.iter().rposition(fits) else { return Buffer::Made(vec![0; length]) };
        let mut buffer = self.buffers.remove(at);
        buffer.set_length(length);
        buffer
    }

    /// Takes a buffer back that nothing was read into.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.buffers.push(buffer);
    }
}

/// How many bytes each call reads of `ranges`, as far as room is made for them.
fn calls(ranges: &[Range]) -> Vec<usize> {
    let mut calls = Vec::new();
    let (mut all, mut count, mut bytes) = (0, 0, 0);
    for range in ranges {
        let mut left = usize::try_from(range.len()).unwrap_or(usize::MAX);
        while left > 0 && all < MAX_READY {
            let now = left.min(BYTES_PER_CALL - bytes);
            (all, left, count, bytes) = (all + now, left - now, count + 1, bytes + now);
            if bytes == BYTES_PER_CALL || count == RANGES_PER_CALL {
                calls.push(bytes);
                (count, bytes) = (0, 0);
            }
        }
    }
    calls.extend((bytes > 0).then_some(bytes));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_snapshot::Address;

    fn range(start: u64, length: u64) -> Range {
        Range::sized(Address(start), length).unwrap()
    }

    #[test]
    fn there_is_a_buffer_for_each_call() {
        let mega = BYTES_PER_CALL as u64;
        let long = [range(0, 10), range(mega, 2 * mega + 5), range(9 * mega, 7)];
        assert_eq!(calls(&long), [BYTES_PER_CALL, BYTES_PER_CALL, 10 + 5 + 7]);
        let many: Vec<Range> = (0..150).map(|i| range(i * 100, 10 + i)).collect();
        let of = |ranges: &[Range]| ranges.iter().map(|range| range.len() as usize).sum::<usize>();
        assert_eq!(calls(&many), [of(&many[..64]), of(&many[64..128]), of(&many[128..])]);
        for ranges in [&many[..], &long] {
            let mut ready = Ready::for_reading(ranges, 0);
            let calls = calls(ranges);
            for (left, length) in (0..calls.len()).rev().zip(calls) {
                let buffer = ready.take(length);
                assert_eq!((ready.buffers.len(), buffer.capacity()), (left, length));
                assert_eq!(matches!(buffer, Buffer::Pages(_, _)), length >= OWN_PAGES);
            }
            assert!(matches!(ready.take(10), Buffer::Made(_)));
        }
        assert_eq!(calls(&[]), []);
    }

    #[test]
    fn what_is_made_ready_is_bounded() {
        let endless = [range(0, u64::MAX)];
        let ready = Ready::for_reading(&endless, u64::MAX);
        assert!(ready.buffers.iter().map(Buffer::capacity).sum::<usize>() <= MAX_READY);
    }
}
