//! `native` payloads, made a stack at a time.

use crate::address::Tid;
use crate::format::{MAX_SECTION, SectionFlags};
use crate::payload::{Native, NativeCallV1, NativeFunctionV1, NativePlaceV1, NativeStack, Payload};
use crate::snapshot::RawSection;
use crate::wire::{WireError, encode_onto};
use std::ops::Range;

/// As many bytes of stacks go into one section. The next tool has it while the rest is made.
const FULL: usize = 512 << 10;

/// Makes `native` payloads a stack at a time.
#[derive(Debug, Default)]
pub struct NativePacker {
    stacks: Vec<u8>,
    /// The thread of each, and where it is among those bytes.
    ranges: Vec<(Tid, Range<usize>)>,
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
        self.ranges.push((stack.tid, start..self.stacks.len()));
        fits(self.stacks.len())
    }

    /// Whether there is as much as a section should have.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.stacks.len() >= FULL
    }

    /// The section of these stacks, by ascending tid, and of what they name.
    ///
    /// # Errors
    /// It is too large for a section.
    pub fn finish(self) -> Result<RawSection, WireError> {
        let NativePacker { mut stacks, mut ranges, functions, places } = self;
        if !ranges.is_sorted_by_key(|(tid, _)| *tid) {
            ranges.sort_by_key(|(tid, _)| *tid);
            let parts = ranges.iter().filter_map(|(_, range)| stacks.get(range.clone()));
            stacks = parts.collect::<Vec<_>>().concat();
        }
        let mut head = Vec::new();
        encode_onto(&(functions.named, places.named, ranges.len() as u64), &mut head)?;
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
