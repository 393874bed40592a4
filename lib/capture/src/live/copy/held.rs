//! What is held of a target's memory so far.

use super::buffer::{Buffer, Ready};
use pyst_snapshot::{Address, Range};
use std::cell::Cell;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Held {
    /// Set when the target runs again: nothing that is read from then on may be kept.
    pub(super) closed: bool,
    /// How often what was being read stopped to count.
    pub(super) epoch: u32,
    /// What is not read though it is missing: pages for which others waited in vain. Ascending and disjoint.
    pub(super) left_out: Vec<Range>,
    /// Set while what is missing may not be fetched, or only what is in memory: it is noted here.
    pub(super) missed: Option<Vec<Range>>,
    /// Set when the target was gone while it should have been read.
    pub(super) vanished: bool,
    /// Buffers made before the stop.
    pub(super) ready: Ready,
    pub(super) buffers: Vec<Buffer>,
    /// What is held, by start; disjoint.
    pub(super) pieces: BTreeMap<u64, Piece>,
    /// The piece that was met last, with its start: the next read is most often in it. A piece stays as it is.
    pub(super) last: Cell<Option<(u64, Piece)>>,
    pub(super) unreadable: Vec<Range>,
    pub(super) bytes: u64,
}

/// Where a range lies that is held. Of thousands of threads there are a hundred thousand.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    length: u32,
    buffer: u32,
    offset: u32,
}

impl Piece {
    /// The piece that holds a range at `offset` in a buffer, if they are no larger than any that is read.
    pub(super) fn of(range: Range, buffer: usize, offset: usize) -> Option<Piece> {
        let number = |number: usize| u32::try_from(number).ok();
        Some(Piece { length: u32::try_from(range.len()).ok()?, buffer: number(buffer)?, offset: number(offset)? })
    }

    /// Where it ends, if it starts at `start`.
    pub(super) fn end(self, start: u64) -> u64 {
        start.saturating_add(self.length.into())
    }

    /// The buffer it lies in.
    pub(super) fn buffer(self) -> usize {
        index(self.buffer)
    }

    /// What lies in its buffer from `at` on, if it starts at `start`.
    pub(super) fn bytes_at(self, at: u64, start: u64, buffer: &Buffer) -> Option<&[u8]> {
        let before = usize::try_from(at.checked_sub(start)?).ok()?;
        let (from, length) = (index(self.offset).checked_add(before)?, index(self.length).checked_sub(before)?);
        buffer.bytes().get(from..from.checked_add(length)?)
    }

    /// What of it lies from `from` up to `to`, if it starts at `start`.
    pub(super) fn part(self, start: u64, from: u64, to: u64) -> Option<Piece> {
        let before = usize::try_from(from.checked_sub(start)?).ok()?;
        let range = Range { start: Address(from), end: Address(to) };
        Piece::of(range, self.buffer(), index(self.offset).checked_add(before)?)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Held {
    /// Adds to `gaps` what of `range` is not held.
    pub(super) fn gaps(&self, range: Range, gaps: &mut Vec<Range>) {
        let mut at = range.start.0;
        while at < range.end.0 {
            if let Some(end) = self.piece_at(at).map(|(start, piece)| piece.end(start)).or_else(|| self.left_out_to(at))
            {
                at = end;
                continue;
            }
            let next = self.pieces.range(at..).next().map_or(u64::MAX, |(start, _)| *start);
            let after = self.left_out.partition_point(|left_out| left_out.start.0 <= at);
            let next_left_out = self.left_out.get(after).map_or(u64::MAX, |left_out| left_out.start.0);
            let end = next.min(next_left_out).min(range.end.0);
            gaps.push(Range { start: Address(at), end: Address(end) });
            at = end;
        }
    }

    /// Where the range that `at` is in and that is left out ends.
    pub(super) fn left_out_to(&self, at: u64) -> Option<u64> {
        let after = self.left_out.partition_point(|range| range.start.0 <= at);
        let range = self.left_out.get(after.checked_sub(1)?)?;
        range.contains(Address(at)).then_some(range.end.0)
    }

    /// The piece that holds `at`, with its start.
    pub(super) fn piece_at(&self, at: u64) -> Option<(u64, Piece)> {
        let holds = |(start, piece): &(u64, Piece)| *start <= at && at < piece.end(*start);
        if let Some(last) = self.last.get().filter(holds) {
            return Some(last);
        }
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        let met = Some((*start, *piece)).filter(holds)?;
        self.last.set(Some(met));
        Some(met)
    }

    /// Notes that `buffer` holds the first `got` bytes of `gaps`, and cuts those off.
    pub(super) fn take(&mut self, buffer: Buffer, gaps: &mut [Range], got: usize) {
        let index = self.buffers.len();
        let mut offset = 0;
        for gap in gaps {
            if offset == got {
                break;
            }
            let length = usize::try_from(gap.len()).unwrap_or(usize::MAX).min(got - offset);
            let Some(end) = gap.start.checked_add(length as u64) else { break };
            let Some(piece) = Piece::of(Range { start: gap.start, end }, index, offset) else { break };
            self.pieces.insert(gap.start.0, piece);
            gap.start = end;
            offset += length;
        }
        self.bytes += got as u64;
        self.buffers.push(buffer);
    }

    /// What is held from `at` on, as far as it is one piece.
    pub(super) fn bytes_at(&self, at: u64) -> Option<&[u8]> {
        let (start, piece) = self.piece_at(at)?;
        piece.bytes_at(at, start, self.buffers.get(piece.buffer())?)
    }

    /// Copies what is held from `at` on, and says how much that was.
    pub(super) fn copy(&self, at: u64, buffer: &mut [u8]) -> usize {
        let Some(held) = self.bytes_at(at) else { return 0 };
        let length = held.len().min(buffer.len());
        match (held.get(..length), buffer.get_mut(..length)) {
            (Some(bytes), Some(to)) => {
                to.copy_from_slice(bytes);
                length
            }
            _ => 0,
        }
    }
}
