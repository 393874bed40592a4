//! What frames hold: exceptions, arguments and locals. Objects that several threads have may change while they are read.
//!
//! They are read twice. A word that may be a pointer, or text, and was not the same both times, is left out, so that a value
//! that depends on it is absent. Small numbers are those of the first reading: reference counts, which change all the time and
//! which nothing shown depends on, and lengths, which were right then.

use super::attempt::{Pieces, held, without};
use super::{Target, at_once};
use crate::live::careful::Careful;
use crate::live::copy::Copy;
use pyst_memory::{Memory, Recorder};
use pyst_python::Alone;
use pyst_snapshot::payload::Python;
use pyst_snapshot::{Address, Range};

/// Numbers below this are no pointers.
const SMALL: u64 = 1 << 32;

/// What the values of a thread are made of.
#[derive(Default)]
pub(super) struct Values {
    pub(super) pieces: Pieces,
    /// The words that changed.
    pub(super) changed: Vec<Range>,
}

impl Values {
    /// Reads what the frames of these states hold, beside what is read already.
    pub(super) fn read(target: &Target<'_>, told: &[Alone], own: &Pieces, shared: &Pieces, copy: &Copy) -> Values {
        let careful = Careful::by(copy, &target.pages);
        let pieces = pieces(target, told, own, shared, &careful);
        let ranges: Vec<Range> = pieces.iter().map(|(range, _)| *range).collect();
        let changed = match at_once::read(target.pid, &ranges) {
            Some(again) => changes(&pieces, &again),
            None => ranges,
        };
        Values { pieces, changed }
    }

    /// What was read of them while their thread was stopped.
    pub(super) fn of_stopped(
        target: &Target<'_>,
        told: &[Alone],
        own: &Pieces,
        shared: &Pieces,
        copy: &Copy,
    ) -> Values {
        Values { pieces: pieces(target, told, own, shared, copy), changed: Vec::new() }
    }
}

fn pieces(target: &Target<'_>, told: &[Alone], own: &Pieces, shared: &Pieces, memory: &dyn Memory) -> Pieces {
    let Some(found) = target.found else { return Pieces::new() };
    let recorder = Recorder::new(memory);
    for alone in told {
        let python = Python {
            interpreters: target.interpreters.clone(),
            codes: alone.codes.clone(),
            states: vec![alone.state.clone()],
            ..Python::default()
        };
        let _ = pyst_python::exceptions(found, &python, &recorder);
        if let Some(limit) = target.locals {
            let _ = pyst_python::variables(found, &python, &recorder, limit);
        }
    }
    let known = own.iter().chain(shared).map(|(range, _)| *range);
    held(memory, &without(&recorder.ranges(), known))
}

/// The words of `pieces` that are others in `again`, the same ranges one after the other.
fn changes(pieces: &Pieces, again: &[u8]) -> Vec<Range> {
    let mut changed = Vec::new();
    let mut rest = again;
    for (range, bytes) in pieces {
        let (now, later) = rest.split_at_checked(bytes.len()).unwrap_or((rest, &[]));
        rest = later;
        if now != bytes.as_slice() {
            changed.extend(changed_words(range.start, bytes, now));
        }
    }
    changed
}

/// The words in which two readings from `start` on differ, and that may be pointers.
pub(super) fn changed_words(start: Address, before: &[u8], after: &[u8]) -> Vec<Range> {
    let mut changed = Vec::new();
    let mut at = 0;
    while at < before.len() {
        let here = start.0.saturating_add(at as u64);
        let length = usize::try_from(8 - here % 8).unwrap_or(8).min(before.len() - at);
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            let bytes = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        };
        let (then, now) = (word(before), word(after));
        if then != now && (then.max(now) >= SMALL || length < 8) {
            changed.push(Range { start: Address(here), end: Address(here.saturating_add(length as u64)) });
        }
        at = at.saturating_add(length);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_change_and_pointers_may_not() {
        let words = |words: [u64; 3]| words.map(u64::to_le_bytes).concat();
        let before = words([7, 0x7f00_0000_1000, 0x7f00_0000_2000]);
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        let changed = |after: [u64; 3]| changed_words(Address(0x1000), &before, &words(after));
        assert_eq!(changed([8, 0x7f00_0000_1000, 0x7f00_0000_2000]), []);
        assert_eq!(changed([8, 0x7f00_0000_1010, 0x7f00_0000_2000]), [range(0x1008, 0x1010)]);
        assert_eq!(changed([7, 0x7f00_0000_1000, 5]), [range(0x1010, 0x1018)]);
        // What does not start with a word ends with it.
        let odd = changed_words(Address(0x1004), &before[4..], &words([0, 0, 0])[4..]);
        assert_eq!(odd, [range(0x1008, 0x1010), range(0x1010, 0x1018)]);
    }
}
