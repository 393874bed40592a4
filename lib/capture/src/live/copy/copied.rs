//! What was copied of a target's memory. It does not change any more.

use super::buffer::Buffer;
use super::held::{Held, Piece};
use pyst_memory::{Memory, RangeSet, ReadError};
use pyst_snapshot::{Address, Range};
use std::cell::{Cell, RefCell};

/// Memory that was copied.
pub(crate) struct Copied {
    /// By start; disjoint.
    pieces: Vec<(u64, Piece)>,
    /// What the pieces are of; nothing where it was forgotten.
    buffers: RefCell<Vec<Buffer>>,
    /// Up to where something of each buffer is held, the buffer that is forgotten first at the end.
    ends: RefCell<Vec<(u64, usize)>>,
    /// Ascending and disjoint.
    unreadable: Vec<Range>,
    /// The piece that was read last: the next read is most often near.
    last: Cell<usize>,
}

impl Copied {
    pub(super) fn of(held: Held) -> Copied {
        let mut unreadable: RangeSet = held.unreadable.into_iter().chain(held.left_out).collect();
        let mut ends: Vec<(u64, usize)> = (0..held.buffers.len()).map(|buffer| (0, buffer)).collect();
        for (start, piece) in &held.pieces {
            if let Some((end, _)) = ends.get_mut(piece.buffer()) {
                *end = piece.end(*start).max(*end);
            }
        }
        ends.sort_unstable_by(|one, other| other.cmp(one));
        Copied {
            pieces: held.pieces.into_iter().collect(),
            buffers: RefCell::new(held.buffers),
            ends: RefCell::new(ends),
            unreadable: unreadable.merged().to_vec(),
            last: Cell::default(),
        }
    }

    /// Leaves these ranges out, as if they had never been read.
    pub(crate) fn leave_out(&mut self, mut holes: RangeSet) {
        let holes = holes.merged();
        let mut kept = Vec::with_capacity(self.pieces.len());
        for (start, piece) in std::mem::take(&mut self.pieces) {
            let first = holes.partition_point(|hole| hole.end.0 <= start);
            let mut from = start;
            let mut keep = |from: u64, to: u64| {
                if from < to {
                    kept.extend(piece.part(start, from, to).map(|part| (from, part)));
                }
            };
            for hole in holes.iter().skip(first).take_while(|hole| hole.start.0 < piece.end(start)) {
                keep(from, hole.start.0);
                from = hole.end.0;
            }
            keep(from, piece.end(start));
        }
        self.pieces = kept;
        self.last.set(0);
    }

    /// Copies what is there of the piece with this index from `address` on, and says how much that was.
    fn copy(&self, index: usize, address: u64, place: &mut [u8]) -> Option<usize> {
        let (start, piece) = self.pieces.get(index)?;
        let buffers = self.buffers.borrow();
        let bytes = piece.bytes_at(address, *start, buffers.get(piece.buffer())?)?;
        let length = bytes.len().min(place.len());
        place.get_mut(..length)?.copy_from_slice(bytes.get(..length)?);
        Some(length)
    }
}

impl Memory for Copied {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let end = address.checked_add(buffer.len() as u64).unwrap_or(Address(u64::MAX));
        let asked = Range { start: address, end };
        let missing = || {
            let first = self.unreadable.partition_point(|range| range.end <= address);
            let is_unreadable = self.unreadable.get(first).is_some_and(|range| range.start < end);
            if is_unreadable { ReadError::Unreadable(asked) } else { ReadError::NotRecorded(asked) }
        };
        let mut index = self.last.get();
        let holds = |(start, piece): &(u64, Piece)| *start <= address.0 && address.0 < piece.end(*start);
        if !self.pieces.get(index).is_some_and(holds) {
            // Who reads all of it, reads one after the other.
            index += 1;
            if !self.pieces.get(index).is_some_and(holds) {
                index = self.pieces.partition_point(|(start, piece)| piece.end(*start) <= address.0);
            }
            self.last.set(index);
        }
        let (mut at, mut rest) = (address.0, buffer);
        // A range may span pieces that touch.
        while !rest.is_empty() {
            let copied = self.copy(index, at, rest).filter(|copied| *copied > 0).ok_or_else(missing)?;
            at = at.checked_add(copied as u64).ok_or_else(missing)?;
            rest = rest.get_mut(copied..).unwrap_or_default();
            index += 1;
        }
        Ok(())
    }

    fn forget_below(&self, address: Address) {
        let mut ends = self.ends.borrow_mut();
        while let Some((_, buffer)) = ends.pop_if(|(end, _)| *end <= address.0) {
            if let Some(buffer) = self.buffers.borrow_mut().get_mut(buffer) {
                *buffer = Buffer::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Copy;
    use super::*;
    use pyst_memory::MemoryExt;
    use std::sync::Arc;

    fn range(start: u64, end: u64) -> Range {
        Range { start: Address(start), end: Address(end) }
    }

    /// What was held of other addresses than this process's own.
    fn copied(pieces: &[(u64, &[u8])]) -> Copied {
        let copy = Copy::of(nix::unistd::getpid());
        let of = |(start, bytes): &(u64, &[u8])| (range(*start, *start + bytes.len() as u64), Arc::new(bytes.to_vec()));
        copy.hold(&pieces.iter().map(of).collect::<Vec<_>>());
        copy.into_copied()
    }

    fn some() -> Copied {
        copied(&[(100, &[1, 2, 3, 4]), (104, &[5, 6]), (200, &[7])])
    }

    #[test]
    fn reads_cross_pieces_that_touch_and_stop_at_gaps() {
        assert_eq!(some().read_array::<4>(Address(102)), Ok([3, 4, 5, 6]));
        assert_eq!(some().read_array::<2>(Address(105)), Err(ReadError::NotRecorded(range(105, 107))));
        assert!(some().read_array::<1>(Address(u64::MAX)).is_err());
        assert_eq!(some().read_array::<0>(Address(0)), Ok([]));
    }

    #[test]
    fn of_bytes_held_twice_the_first_count() {
        let twice = copied(&[(100, &[1, 2]), (98, &[9; 6])]);
        assert_eq!(twice.read_array::<6>(Address(98)), Ok([9, 9, 1, 2, 9, 9]));
    }

    #[test]
    fn a_read_after_one_elsewhere_gets_its_own_bytes() {
        let copied = some();
        assert_eq!(copied.read_array::<1>(Address(200)), Ok([7]));
        assert_eq!(copied.read_array::<2>(Address(100)), Ok([1, 2]));
        assert_eq!(copied.read_array::<2>(Address(101)), Ok([2, 3]));
        assert!(copied.read_array::<2>(Address(99)).is_err());
        assert_eq!(copied.read_array::<2>(Address(104)), Ok([5, 6]));
    }

    #[test]
    fn what_is_left_out_was_never_recorded() {
        let mut copied = some();
        let holes = [range(90, 101), range(102, 103), range(105, 150), range(200, 201)];
        copied.leave_out(holes.into_iter().collect());
        let left: Vec<u64> = (90..210).filter(|at| copied.read_array::<1>(Address(*at)).is_ok()).collect();
        assert_eq!(left, [101, 103, 104]);
        assert!(matches!(copied.read_array::<3>(Address(101)), Err(ReadError::NotRecorded(_))));
        assert_eq!(copied.read_array::<2>(Address(103)), Ok([4, 5]));
    }

    #[test]
    fn what_is_forgotten_is_gone_and_what_is_above_stays() {
        let copied = copied(&[(300, &[3]), (100, &[1, 2]), (200, &[4, 5])]);
        let held = |copied: &Copied| copied.buffers.borrow().iter().map(|buffer| buffer.bytes().len()).sum::<usize>();
        copied.forget_below(Address(101));
        assert_eq!(held(&copied), 5);
        assert_eq!(copied.read_array::<2>(Address(100)), Ok([1, 2]));
        copied.forget_below(Address(202));
        assert_eq!(held(&copied), 1);
        assert!(copied.read_array::<2>(Address(200)).is_err());
        assert_eq!(copied.read_array::<1>(Address(300)), Ok([3]));
    }
}
