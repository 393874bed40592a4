//! Whose stack frames are on, where nothing that a thread state says tells it.
//!
//! Before 3.11 nothing of a frame lies on the C stack by design. But the evaluation loop that runs it has the frame's
//! address in a register, and whatever it calls saves that on the stack: so the frames of a state are on its thread's
//! stack in their order, innermost first. On other stacks single ones may have been left behind.

use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::Thread;
use pyst_snapshot::{Address, Tid};
use std::collections::HashMap;

/// How many of a state's innermost frames are looked for.
pub(crate) const FRAMES: usize = 32;

/// How much of a stack is searched, from sp on: the innermost frames are there.
const SEARCHED: u64 = 1 << 20;

/// How much is read at once.
const PIECE: u64 = 64 << 10;

/// What the stacks tell of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its frames are on this thread's stack.
    On(Tid),
    /// None of its frames is on any.
    Nowhere,
    /// Several have frames of it.
    Several,
}

/// Where frames of a state are on one stack: each at a position, in ascending order, with its number in the chain.
type Places = Vec<(u64, usize)>;

/// For each of `chains` (the addresses of a state's innermost frames, innermost first) whose stack it is on.
pub(crate) fn threads_of(chains: &[Vec<Address>], threads: &[Thread], memory: &dyn Memory) -> Vec<Verdict> {
    let wanted: HashMap<u64, (usize, usize)> = (0..)
        .zip(chains)
        .flat_map(|(chain, frames)| (0..).zip(frames).map(move |(number, frame)| (frame.0, (chain, number))))
        .collect();
    let mut verdicts: Vec<Weighed> = chains.iter().map(|frames| Weighed::new(frames.len())).collect();
    for thread in threads {
        let mut places: HashMap<usize, Places> = HashMap::new();
        search(thread, memory, |position, word| {
            if let Some((chain, number)) = wanted.get(&word) {
                places.entry(*chain).or_default().push((position, *number));
            }
        });
        for (chain, places) in places {
            if let Some(verdict) = verdicts.get_mut(chain) {
                verdict.add(thread.tid, in_order(&places, verdict.frames));
            }
        }
    }
    verdicts.iter().map(Weighed::verdict).collect()
}

/// Calls with each register (at position 0) and each word of a thread's stack, from sp on.
fn search(thread: &Thread, memory: &dyn Memory, mut call: impl FnMut(u64, u64)) {
    const STACK_POINTER: u16 = 7;
    let Some(registers) = &thread.registers else { return };
    registers.values.iter().for_each(|register| call(0, register.value));
    let Some((sp, stack)) = registers.get(STACK_POINTER).zip(thread.stack) else { return };
    let mut start = sp.next_multiple_of(8);
    let end = stack.read.end.0.min(start.saturating_add(SEARCHED));
    while start < end {
        let length = PIECE.min(end.saturating_sub(start));
        let Ok(bytes) = memory.read_bytes(Address(start), length, PIECE) else { return };
        for (word, position) in bytes.as_chunks().0.iter().zip((start..).step_by(8)) {
            call(position, u64::from_le_bytes(*word));
        }
        start = start.saturating_add(length);
    }
}

/// How many of a chain's frames are at ascending places.
fn in_order(places: &Places, frames: usize) -> usize {
    let mut reached = 0;
    let mut count = 0;
    for number in 0..frames {
        // A frame may have no evaluation loop: that of a coroutine which an exception is thrown through.
        let next = places.iter().find(|(position, other)| *other == number && *position >= reached);
        if let Some((position, _)) = next {
            reached = *position;
            count += 1;
        }
    }
    count
}

/// How many frames of a state were found on which stacks.
struct Weighed {
    frames: usize,
    best: Option<(Tid, usize)>,
    /// The most on any other.
    second: usize,
}

impl Weighed {
    fn new(frames: usize) -> Weighed {
        Weighed { frames, best: None, second: 0 }
    }

    fn add(&mut self, tid: Tid, count: usize) {
        match self.best {
            Some((_, best)) if best >= count => self.second = self.second.max(count),
            _ => {
                self.second = self.best.map_or(0, |(_, best)| best);
                self.best = Some((tid, count));
            }
        }
    }

    fn verdict(&self) -> Verdict {
        match self.best {
            None | Some((_, 0)) => Verdict::Nowhere,
            Some((tid, best)) if self.second == 0 || (best == self.frames && self.second < best) => Verdict::On(tid),
            Some(_) => Verdict::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::Image;
    use pyst_snapshot::Range;
    use pyst_snapshot::payload::{Register, Registers, StackV1};

    const A: Address = Address(0xa000);
    const B: Address = Address(0xb000);
    const C: Address = Address(0xc000);

    /// A thread whose stack has these words from sp on, and one register.
    fn thread(tid: u32, words: &[u64], register: u64, image: &mut Image<'static>) -> Thread {
        let sp = u64::from(tid) << 16;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let range = Range::sized(Address(sp), bytes.len() as u64).unwrap();
        image.extend([(range.start, bytes.into())]);
        let values = vec![Register { number: 3, value: register }, Register { number: 7, value: sp }];
        Thread {
            tid: Tid(tid),
            registers: Some(Registers { values, ..Registers::default() }),
            stack: Some(StackV1 { mapping: range, read: range, truncated: false }),
            ..Thread::default()
        }
    }

    /// The verdict on frames C (innermost), B, A with two stacks.
    fn verdict(first: (&[u64], u64), second: (&[u64], u64)) -> Verdict {
        let mut image = Image::new();
        let threads = [thread(1, first.0, first.1, &mut image), thread(2, second.0, second.1, &mut image)];
        threads_of(&[vec![C, B, A]], &threads, &image)[0]
    }

    #[test]
    fn frames_are_where_their_addresses_are() {
        assert_eq!(verdict((&[1, 2, 3], 0), (&[0, B.0, 7, A.0], C.0)), Verdict::On(Tid(2)));
        assert_eq!(verdict((&[0, C.0, B.0, A.0], 0), (&[], 0)), Verdict::On(Tid(1)));
        assert_eq!(verdict((&[1, 2, 3], 4), (&[1, 2], 5)), Verdict::Nowhere);
    }

    #[test]
    fn what_was_left_behind_elsewhere_does_not_mislead() {
        assert_eq!(verdict((&[0, B.0], 0), (&[C.0, B.0, A.0], 0)), Verdict::On(Tid(2)));
        // All of them, but in an order in which no stack has them.
        assert_eq!(verdict((&[A.0, B.0, C.0], 0), (&[C.0, B.0, A.0], 0)), Verdict::On(Tid(2)));
    }

    #[test]
    fn where_two_have_the_same_nothing_is_told() {
        assert_eq!(verdict((&[C.0, B.0, A.0], 0), (&[C.0, B.0, A.0], 0)), Verdict::Several);
        assert_eq!(verdict((&[C.0, B.0], 0), (&[A.0], 0)), Verdict::Several);
    }
}
