//! One native stack as its bytes have it. Reports look at each of thousands of stacks several times, so nothing is copied:
//! a frame knows where its registers are, and reads them when it is asked.
//!
//! The values come one by one from [`wire`](crate::wire), in the order in which the structs have them. That it reads what
//! [`NativeStack`](super::NativeStack) says, no less and no more, is what the tests of [`packed`](super) compare.

use super::renumbered;
use crate::address::{Address, Tid};
use crate::payload::{FoundBy, StackEnd};
use crate::wire::Cursor;

/// How many bytes a register takes: its number and its value.
const REGISTER: usize = 10;

/// The fewest bytes that a frame takes.
const SHORTEST: usize = 31;

/// A [`NativeStack`](crate::payload::NativeStack) in the bytes of its payload.
#[derive(Clone, Debug, Default)]
pub struct PackedStack<'a> {
    /// The thread.
    pub tid: Tid,
    /// The frames, innermost first.
    pub frames: Vec<PackedFrame<'a>>,
    /// Why it ends after the last frame.
    pub end: StackEnd,
}

/// A [`NativeFrame`](crate::payload::NativeFrame) in the bytes of its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedFrame<'a> {
    /// The program counter, as [`NativeFrameV1::pc`](crate::payload::NativeFrameV1::pc) has it.
    pub pc: Address,
    /// The stack pointer in this frame.
    pub sp: Address,
    /// The canonical frame address; absent where the frame could not be unwound further.
    pub cfa: Option<Address>,
    /// How it was found.
    pub found_by: FoundBy,
    /// Index into [`PackedNative::places`](super::PackedNative::places); of nothing there, where the payload names nothing.
    pub place: u32,
    registers: &'a [u8],
}

impl<'a> PackedStack<'a> {
    /// The stack that `bytes` start with; `None` where there is none. `places` has a new number for each of its places.
    pub(super) fn read(bytes: &'a [u8], places: &[u32]) -> Option<PackedStack<'a>> {
        let mut cursor = Cursor(bytes);
        let mut frames = Vec::new();
        let (tid, end) = stack(&mut cursor, |frame: PackedFrame<'a>, count| {
            if frames.is_empty() {
                // A count that lies gets no more than as many as could be there.
                frames.reserve_exact(count.min(bytes.len() / SHORTEST));
            }
            frames.push(PackedFrame { place: renumbered(frame.place, places), ..frame });
        })?;
        Some(PackedStack { tid, frames, end })
    }

    /// The thread of the stack that `bytes` start with, and how many bytes it takes; `None` where there is none.
    pub(super) fn skip(bytes: &[u8]) -> Option<(Tid, usize)> {
        let mut cursor = Cursor(bytes);
        let (tid, _) = stack(&mut cursor, |_, _| ())?;
        Some((tid, bytes.len().saturating_sub(cursor.0.len())))
    }
}

impl<'a> PackedFrame<'a> {
    /// The callee-saved registers as they are in this frame: DWARF number and value.
    pub fn registers(&self) -> impl Iterator<Item = (u16, u64)> + use<'a> {
        self.registers.chunks_exact(REGISTER).filter_map(|bytes| {
            let mut cursor = Cursor(bytes);
            Some((cursor.u16()?, cursor.u64()?))
        })
    }
}

/// Thread and end of a stack; its frames go to `each`, with their number.
fn stack<'a>(cursor: &mut Cursor<'a>, mut each: impl FnMut(PackedFrame<'a>, usize)) -> Option<(Tid, StackEnd)> {
    let tid = Tid(cursor.u32()?);
    let count = cursor.length()?;
    for _ in 0..count {
        each(frame(cursor)?, count);
    }
    Some((tid, StackEnd(cursor.u16()?)))
}

fn frame<'a>(cursor: &mut Cursor<'a>) -> Option<PackedFrame<'a>> {
    let (pc, sp) = (Address(cursor.u64()?), Address(cursor.u64()?));
    let cfa = cursor.option(Cursor::u64)?.map(Address);
    let found_by = FoundBy(cursor.u16()?);
    let place = cursor.u32()?;
    let registers = cursor.length()?.checked_mul(REGISTER)?;
    let registers = cursor.bytes(registers)?;
    Some(PackedFrame { pc, sp, cfa, found_by, place, registers })
}
