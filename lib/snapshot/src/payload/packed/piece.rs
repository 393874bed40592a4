//! One `native` payload among those of a snapshot.

use super::stack::PackedStack;
use crate::address::Tid;
use crate::payload::{NativeFunctionV1, NativePlaceV1, NativeStack};
use crate::wire::{WireError, decode_start};
use std::ops::Range;

/// A payload, its stacks undecoded.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) payload: Vec<u8>,
    /// By index in this payload, the index among the places of all.
    pub(super) places: Vec<u32>,
}

impl Piece {
    /// The stack that is at a place of the payload; `None` where none is.
    pub(super) fn stack(&self, range: Range<usize>) -> Option<PackedStack<'_>> {
        PackedStack::read(self.payload.get(range)?, &self.places)
    }
}

/// The three lists of a payload, the last undecoded.
pub(super) struct Lists {
    pub(super) functions: Vec<NativeFunctionV1>,
    pub(super) places: Vec<NativePlaceV1>,
    /// The thread of each stack, and where it is.
    pub(super) stacks: Vec<(Tid, Range<usize>)>,
}

/// What a payload holds. A list is a count, and that many values.
pub(super) fn split(payload: &[u8]) -> Result<Lists, WireError> {
    let mut at = 0usize;
    let rest = |at: usize| payload.get(at..).unwrap_or_default();
    let (functions, length) = decode_start(payload)?;
    at += length;
    let (places, length) = decode_start(rest(at))?;
    at += length;
    let (count, length) = decode_start::<u64>(rest(at))?;
    at += length;
    let mut stacks = Vec::new();
    for _ in 0..count {
        let (tid, length) = match PackedStack::skip(rest(at)) {
            Some(found) => found,
            // What is wrong with it, the other decoder has the words for.
            None => decode_start::<NativeStack>(rest(at)).map(|(stack, length)| (stack.tid, length))?,
        };
        stacks.push((tid, at..at + length));
        at += length;
    }
    match payload.len() - at {
        0 => Ok(Lists { functions, places, stacks }),
        left => Err(WireError::Trailing(left)),
    }
}
