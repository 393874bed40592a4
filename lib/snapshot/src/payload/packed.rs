//! `native`, read a stack at a time: the stacks of thousands of threads take several times the room of their bytes.

mod stack;

pub use stack::{PackedCall, PackedFrame, PackedStack};

use super::{Native, NativeFunctionV1, NativeStack, Payload, PayloadError, newer_version};
use crate::address::Tid;
use crate::format::{MAX_SECTION, SectionFlags};
use crate::snapshot::RawSection;
use crate::wire::{WireError, decode_start, encode_onto};
use std::ops::Range;

/// A `native` payload that is known to decode.
#[derive(Debug, Default)]
pub struct PackedNative {
    /// Functions, named by index in calls.
    pub functions: Vec<NativeFunctionV1>,
    payload: Vec<u8>,
    stacks: Vec<(Tid, Range<usize>)>,
}

impl PackedNative {
    /// Looks through the payload of a section.
    ///
    /// # Errors
    /// Those of [`Native::decode`].
    pub fn decode(version: u16, payload: Vec<u8>) -> Result<PackedNative, PayloadError> {
        match version {
            1 => {
                let malformed = |source| PayloadError::Malformed { kind: Native::KIND, source };
                let (functions, stacks) = split(&payload).map_err(malformed)?;
                Ok(PackedNative { functions, payload, stacks })
            }
            found => Err(newer_version::<Native>(found)),
        }
    }

    /// The thread of each stack.
    pub fn tids(&self) -> impl Iterator<Item = Tid> {
        self.stacks.iter().map(|(tid, _)| *tid)
    }

    /// The stack with an index, an empty one where there is none.
    #[must_use]
    pub fn stack(&self, index: usize) -> PackedStack<'_> {
        let bytes = self.stacks.get(index).and_then(|(_, range)| self.payload.get(range.clone()));
        bytes.and_then(PackedStack::read).unwrap_or_default()
    }

    /// Each stack in turn.
    pub fn stacks(&self) -> impl Iterator<Item = PackedStack<'_>> {
        (0..self.stacks.len()).map(|index| self.stack(index))
    }
}

/// Makes a `native` payload a stack at a time.
#[derive(Debug, Default)]
pub struct NativePacker {
    stacks: Vec<u8>,
    /// The thread of each, and where it is.
    pieces: Vec<(Tid, Range<usize>)>,
}

impl NativePacker {
    /// Adds a stack.
    ///
    /// # Errors
    /// It is too large for a section, with those before it.
    pub fn add(&mut self, stack: &NativeStack) -> Result<(), WireError> {
        let start = self.stacks.len();
        encode_onto(stack, &mut self.stacks)?;
        self.pieces.push((stack.tid, start..self.stacks.len()));
        fits(self.stacks.len())
    }

    /// The section of these stacks, by ascending tid, and of the functions that they name.
    ///
    /// # Errors
    /// It is too large for a section.
    pub fn finish(self, functions: &[NativeFunctionV1]) -> Result<RawSection, WireError> {
        let NativePacker { mut stacks, mut pieces } = self;
        if !pieces.is_sorted_by_key(|(tid, _)| *tid) {
            pieces.sort_by_key(|(tid, _)| *tid);
            let parts = pieces.iter().filter_map(|(_, range)| stacks.get(range.clone()));
            stacks = parts.collect::<Vec<_>>().concat();
        }
        let mut head = Vec::new();
        encode_onto(&functions, &mut head)?;
        encode_onto(&(pieces.len() as u64), &mut head)?;
        fits(head.len().saturating_add(stacks.len()))?;
        // In place: there may be many megabytes of them.
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

type Parts = (Vec<NativeFunctionV1>, Vec<(Tid, Range<usize>)>);

/// The functions, and where each stack is. Both are lists: a count, and that many of them.
fn split(payload: &[u8]) -> Result<Parts, WireError> {
    let mut at = 0usize;
    let rest = |at: usize| payload.get(at..).unwrap_or_default();
    let (functions, length) = decode_start(payload)?;
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
        0 => Ok((functions, stacks)),
        left => Err(WireError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::payload::{NativeCallV1, NativeFrame, RegisterV1, StackEnd};
    use crate::text::Text;

    fn unpacked(stack: PackedStack) -> NativeStack {
        let call = |call: PackedCall| NativeCallV1 {
            function: call.function,
            file: call.file.map(|file| Text(file.to_vec())),
            line: call.line,
            inlined: call.inlined,
        };
        let frame = |frame: &PackedFrame| NativeFrame {
            pc: frame.pc,
            sp: frame.sp,
            cfa: frame.cfa,
            found_by: frame.found_by,
            module: frame.module,
            registers: frame.registers().map(|(number, value)| RegisterV1 { number, value }).collect(),
            calls: frame.calls().map(call).collect(),
        };
        assert!(stack.frames.iter().all(|frame| frame.is_nameless() == (frame.calls().count() == 0)));
        NativeStack { tid: stack.tid, frames: stack.frames.iter().map(frame).collect(), end: stack.end }
    }

    fn unpacked_all(packed: &PackedNative) -> Native {
        Native { functions: packed.functions.clone(), stacks: packed.stacks().map(unpacked).collect() }
    }

    fn native() -> Native {
        let call = NativeCallV1 { function: 1, file: Some("a.c".into()), line: Some(7), inlined: true };
        let frame = |pc| NativeFrame {
            pc: Address(pc),
            cfa: Some(Address(9)),
            registers: vec![RegisterV1 { number: 3, value: 4 }],
            calls: vec![call.clone(), NativeCallV1::default()],
            ..NativeFrame::default()
        };
        let stack = |tid, frames: &[u64]| NativeStack {
            tid: Tid(tid),
            frames: frames.iter().copied().map(frame).collect(),
            end: StackEnd::COMPLETE,
        };
        let function = NativeFunctionV1 { function: "f".into(), raw_symbol: "_f".into() };
        let functions = vec![function, NativeFunctionV1::default()];
        Native { functions, stacks: vec![stack(5, &[1, 2]), stack(3, &[]), stack(9, &[8])] }
    }

    #[test]
    fn stacks_come_out_as_they_do_all_at_once() {
        for native in [native(), Native::default()] {
            let packed = PackedNative::decode(1, native.encode().unwrap()).unwrap();
            assert_eq!(unpacked_all(&packed), native);
            assert!(packed.tids().eq(native.stacks.iter().map(|stack| stack.tid)));
            assert_eq!(unpacked(packed.stack(native.stacks.len())), NativeStack::default());
        }
    }

    /// Every byte is once an absent option, a present one, what is neither, and the end of a number that is too large.
    #[test]
    fn what_is_damaged_is_read_as_it_is_all_at_once_or_refused_with_the_same_words() {
        let payload = native().encode().unwrap();
        let (mut read, mut refused) = (0, 0);
        for at in 0..payload.len() {
            for byte in [0, 1, 2, 3, 0x7f, 0xff] {
                let mut damaged = payload.clone();
                damaged[at] = byte;
                match (Native::decode(1, &damaged), PackedNative::decode(1, damaged)) {
                    (Ok(native), Ok(packed)) => {
                        read += 1;
                        assert_eq!(unpacked_all(&packed), native, "{byte} at {at}");
                    }
                    (Err(expected), Err(found)) => {
                        refused += 1;
                        let words = [expected.to_string(), found.to_string()];
                        assert_eq!(words[0], words[1], "{byte} at {at}");
                    }
                    (at_once, in_parts) => panic!("{byte} at {at}: {at_once:?} and {in_parts:?}"),
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} {refused}");
    }

    #[test]
    fn stacks_that_are_packed_one_by_one_give_the_same_bytes() {
        for mut native in [native(), Native::default()] {
            let mut packer = NativePacker::default();
            native.stacks.iter().for_each(|stack| packer.add(stack).unwrap());
            let section = packer.finish(&native.functions).unwrap();
            native.stacks.sort_by_key(|stack| stack.tid);
            let expected = RawSection {
                kind: Native::KIND,
                flags: SectionFlags::default(),
                version: Native::VERSION,
                payload: native.encode().unwrap(),
            };
            assert_eq!(section, expected);
        }
    }

    #[test]
    fn what_does_not_decode_at_once_does_not_in_parts() {
        let payload = native().encode().unwrap();
        let message = |error: PayloadError| error.to_string();
        for end in 0..payload.len() {
            let part = &payload[..end];
            let both = (Native::decode(1, part).unwrap_err(), PackedNative::decode(1, part.to_vec()).unwrap_err());
            assert!(matches!(both, (PayloadError::Malformed { .. }, PayloadError::Malformed { .. })), "{both:?}");
        }
        let longer = [&payload[..], &[0]].concat();
        let expected = message(Native::decode(1, &longer).unwrap_err());
        assert_eq!(message(PackedNative::decode(1, longer).unwrap_err()), expected);
        let expected = message(Native::decode(2, &payload).unwrap_err());
        assert_eq!(message(PackedNative::decode(2, payload.clone()).unwrap_err()), expected);
        let mut endless = payload;
        let functions = Native { stacks: vec![], ..native() }.encode().unwrap();
        endless[functions.len() - 8..functions.len()].fill(0xff);
        assert!(PackedNative::decode(1, endless).is_err());
    }
}
