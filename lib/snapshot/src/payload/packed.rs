//! `native`, made and read a stack at a time: the stacks of thousands of threads take several times the room of their bytes.

mod piece;
mod stack;

pub use stack::{PackedFrame, PackedStack};

use super::{Native, NativeCallV1, NativeFunctionV1, NativePlaceV1, NativeStack, Payload, PayloadError, newer_version};
use crate::address::Tid;
use crate::format::{MAX_SECTION, SectionFlags};
use crate::snapshot::RawSection;
use crate::wire::{WireError, encode_onto};
use piece::{Lists, Piece};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// As many bytes of stacks go into one section. The next tool has it while the rest is made.
const PIECE: usize = 512 << 10;

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

/// Makes `native` payloads a stack at a time.
#[derive(Debug, Default)]
pub struct NativePacker {
    stacks: Vec<u8>,
    /// The thread of each, and where it is.
    pieces: Vec<(Tid, Range<usize>)>,
    functions: Named<NativeFunctionV1>,
    places: Named<NativePlaceV1>,
}

/// Those of a table that stacks name, in the order in which they were first named.
#[derive(Debug)]
struct Named<T> {
    named: Vec<T>,
    /// By index in the table, that in `named`.
    indices: Vec<Option<u32>>,
}

impl<T> Default for Named<T> {
    fn default() -> Named<T> {
        Named { named: Vec::new(), indices: Vec::new() }
    }
}

impl<T: Clone> Named<T> {
    /// The index here of what has one in `table`; what `table` lacks has none here.
    fn index(&mut self, index: u32, table: &[T], adapt: impl FnOnce(&mut T)) -> u32 {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(Some(known)) = self.indices.get(at) {
            return *known;
        }
        let (Some(value), Ok(new)) = (table.get(at), u32::try_from(self.named.len())) else { return u32::MAX };
        let mut value = value.clone();
        adapt(&mut value);
        self.named.push(value);
        self.indices.resize(self.indices.len().max(at + 1), None);
        if let Some(slot) = self.indices.get_mut(at) {
            *slot = Some(new);
        }
        new
    }
}

impl NativePacker {
    /// Adds a stack. What its indices name is in `known`.
    ///
    /// # Errors
    /// It is too large for a section, with those before it.
    pub fn add(&mut self, mut stack: NativeStack, known: &Native) -> Result<(), WireError> {
        for frame in &mut stack.frames {
            frame.place = self.places.index(frame.place, &known.places, |place| {
                let name = |call: &mut NativeCallV1| {
                    call.function = self.functions.index(call.function, &known.functions, |_| ());
                };
                place.calls.iter_mut().for_each(name);
            });
        }
        let start = self.stacks.len();
        encode_onto(&stack, &mut self.stacks)?;
        self.pieces.push((stack.tid, start..self.stacks.len()));
        fits(self.stacks.len())
    }

    /// Whether there is as much as a section should have.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.stacks.len() >= PIECE
    }

    /// The section of these stacks, by ascending tid, and of what they name.
    ///
    /// # Errors
    /// It is too large for a section.
    pub fn finish(self) -> Result<RawSection, WireError> {
        let NativePacker { mut stacks, mut pieces, functions, places } = self;
        if !pieces.is_sorted_by_key(|(tid, _)| *tid) {
            pieces.sort_by_key(|(tid, _)| *tid);
            let parts = pieces.iter().filter_map(|(_, range)| stacks.get(range.clone()));
            stacks = parts.collect::<Vec<_>>().concat();
        }
        let mut head = Vec::new();
        encode_onto(&(functions.named, places.named, pieces.len() as u64), &mut head)?;
        fits(head.len().saturating_add(stacks.len()))?;
        // In place: there may be megabytes of them.
        stacks.splice(..0, head);
        let (kind, version, flags) = (Native::KIND, Native::VERSION, SectionFlags::default());
        Ok(RawSection { kind, flags, version, payload: stacks })
    }
}

fn fits(length: usize) -> Result<(), WireError> {
    let limit = usize::try_from(MAX_SECTION).unwrap_or(usize::MAX);
    let too_large = || WireError::TooLarge(format!("{length} bytes exceed a section's {limit}"));
    if length > limit { Err(too_large()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
