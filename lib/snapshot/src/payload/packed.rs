//! `native`, made and read a stack at a time: the stacks of thousands of threads take several times the room of their bytes.

mod packer;
mod piece;
mod stack;

pub use packer::NativePacker;
pub use stack::{PackedFrame, PackedStack};

use super::{Native, NativeFunctionV1, NativePlaceV1, Payload, PayloadError, newer_version};
use crate::address::Tid;
use piece::{Lists, Piece};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// The `native` payloads of a snapshot that are known to decode, as one.
#[derive(Debug, Default)]
pub struct PackedNative {
    functions: Distinct<NativeFunctionV1>,
    places: Distinct<NativePlaceV1>,
    pieces: Vec<Piece>,
    /// The thread of each stack, the piece that has it, and where it is there.
    stacks: Vec<(Tid, usize, Range<usize>)>,
}

impl PackedNative {
    /// Looks through the payload of a section, and adds what it has.
    ///
    /// # Errors
    /// Those of [`Native::decode`]; nothing of it is added then.
    pub fn add(&mut self, version: u16, payload: Vec<u8>) -> Result<(), PayloadError> {
        if version != 1 {
            return Err(newer_version::<Native>(version));
        }
        let malformed = |source| PayloadError::Malformed { kind: Native::KIND, source };
        let Lists { functions, places, stacks } = piece::split(&payload).map_err(malformed)?;
        let functions: Vec<u32> = functions.into_iter().map(|function| self.functions.index(function)).collect();
        let place = |mut place: NativePlaceV1| {
            place.calls.iter_mut().for_each(|call| call.function = renumbered(call.function, &functions));
            self.places.index(place)
        };
        let places = places.into_iter().map(place).collect();
        let piece = self.pieces.len();
        self.stacks.extend(stacks.into_iter().map(|(tid, range)| (tid, piece, range)));
        self.pieces.push(Piece { payload, places });
        Ok(())
    }

    /// The functions of all of them, named by index in the calls of [`PackedNative::places`].
    #[must_use]
    pub fn functions(&self) -> &[NativeFunctionV1] {
        &self.functions.all
    }

    /// The places of all of them, named by index in frames.
    #[must_use]
    pub fn places(&self) -> &[NativePlaceV1] {
        &self.places.all
    }

    /// The thread of each stack.
    pub fn tids(&self) -> impl Iterator<Item = Tid> {
        self.stacks.iter().map(|(tid, ..)| *tid)
    }

    /// The stack with an index, an empty one where there is none.
    #[must_use]
    pub fn stack(&self, index: usize) -> PackedStack<'_> {
        let stack = self.stacks.get(index).and_then(|(_, piece, range)| self.pieces.get(*piece)?.stack(range.clone()));
        stack.unwrap_or_default()
    }

    /// Each stack in turn.
    pub fn stacks(&self) -> impl Iterator<Item = PackedStack<'_>> {
        (0..self.stacks.len()).map(|index| self.stack(index))
    }
}

/// What an index of a payload is among those of all. One that names nothing there names nothing here.
fn renumbered(index: u32, numbers: &[u32]) -> u32 {
    usize::try_from(index).ok().and_then(|index| numbers.get(index)).copied().unwrap_or(u32::MAX)
}

/// Values, each once.
#[derive(Debug)]
struct Distinct<T> {
    all: Vec<T>,
    indices: HashMap<T, u32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Distinct<T> {
        Distinct { all: Vec::new(), indices: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn index(&mut self, value: T) -> u32 {
        if let Some(index) = self.indices.get(&value) {
            return *index;
        }
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(value.clone());
        self.indices.insert(value, index);
        index
    }
}

#[cfg(test)]
mod tests;
