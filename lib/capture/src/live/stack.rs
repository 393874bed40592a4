//! Where the stack of a thread lies, how far it reaches, and which stacks frames lead to.

use super::maps;
use crate::registers::RED_ZONE;
use pyst_snapshot::payload::{Map, Python, Stack, Thread};
use pyst_snapshot::{Address, Range};
use std::collections::BTreeMap;

/// What of a stack is read first where it is not known how much of it is used.
pub(crate) const FIRST_OF_STACK: u64 = 64 << 10;

/// What of a stack is read at most.
pub(crate) const MAX_STACK: u64 = 8 << 20;

/// What of all stacks is read at most.
pub(crate) const MAX_STACKS: u64 = 256 << 20;

/// What the C library keeps of a thread where the thread pointer points, in whole pages: 2,304 bytes in glibc.
const SIZE_OF_THREAD: u64 = 4096;

/// How far the kernel may have grown the main thread's stack downwards since the maps were read.
const MAX_STACK_GROWTH: u64 = 8 << 20;

/// The stack that `sp` points into, as far as it is used and at most `limit` bytes of it.
pub(crate) fn stack_at(sp: Address, thread_pointer: Option<Address>, maps: &[Map], limit: u64) -> Stack {
    let below = Address(sp.0.saturating_sub(RED_ZONE));
    let mapping = maps::find(maps, sp).map(|map| map.range).or_else(|| grown_stack(sp, maps));
    // A mapping that is newer than the maps: what is readable shows where it ends.
    let mapping = mapping.unwrap_or(Range { start: below, end: Address(sp.0.saturating_add(FIRST_OF_STACK)) });
    let mapping = up_to_top(mapping, sp, thread_pointer);
    let start = below.max(mapping.start);
    let end = Address(start.0.saturating_add(limit)).min(mapping.end);
    Stack { mapping, read: Range { start, end: end.max(start) }, truncated: end < mapping.end }
}

/// What of a mapping may be the stack of a thread.
///
/// glibc 2.42 and later guard stacks without a mapping of its own for the guard, so that the stacks of several threads may be one
/// mapping. What `thread_pointer` points to lies on top of a thread's stack: behind it another stack begins.
pub(crate) fn up_to_top(mapping: Range, sp: Address, thread_pointer: Option<Address>) -> Range {
    let top = thread_pointer.filter(|top| *top > sp && mapping.contains(*top));
    let top = top.map_or(mapping.end, |top| Address((top.0 | 4095).saturating_add(1 + SIZE_OF_THREAD)));
    Range { start: mapping.start, end: mapping.end.min(top) }
}

fn grown_stack(sp: Address, maps: &[Map]) -> Option<Range> {
    let above = maps.get(maps.partition_point(|map| map.range.start <= sp))?;
    let grown = above.path.0 == b"[stack]" && above.range.start.0 - sp.0 < MAX_STACK_GROWTH;
    grown.then_some(Range { start: Address(sp.0 & !4095), end: above.range.end })
}

/// What of a stack that is used down to `sp` is read at first, if it is that large.
pub(crate) fn top_of_stack(sp: Address) -> Range {
    let start = sp.0.saturating_sub(RED_ZONE);
    Range { start: Address(start), end: Address(sp.0.saturating_add(FIRST_OF_STACK)) }
}

/// A thread whose sp is on a side stack (a signal stack, a greenlet's) left its evaluation loops on its own stack: that
/// stack from the innermost of them on, and some of it below, for that loop may have called further.
///
/// `threads` are ascending.
pub(crate) fn own_stacks(python: &Python, threads: &[Thread], maps: &[Map]) -> Vec<Range> {
    let mut ranges: BTreeMap<Address, Address> = BTreeMap::new();
    let mut left = MAX_STACKS;
    for state in &python.states {
        let at = state.tid.and_then(|tid| threads.binary_search_by_key(&tid, |thread| thread.tid).ok());
        let Some(stack) = at.and_then(|at| threads.get(at)?.stack) else { continue };
        for anchor in state.runs.iter().filter_map(|run| run.anchor) {
            let is_read = |(_, end): (&Address, &Address)| anchor < *end;
            if stack.mapping.contains(anchor) || ranges.range(..=anchor).next_back().is_some_and(is_read) {
                continue;
            }
            let Some(mapping) = maps::find(maps, anchor).map(|map| map.range) else { continue };
            let start = Address(anchor.0.saturating_sub(FIRST_OF_STACK)).max(mapping.start);
            let end = Address(start.0.saturating_add(MAX_STACK.min(left))).min(mapping.end);
            left = left.saturating_sub(end.0.saturating_sub(start.0));
            ranges.insert(start, end);
        }
    }
    ranges.into_iter().map(|(start, end)| Range { start, end }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Two stacks of 8 MiB in one mapping, the guards of which no line shows.
    const TWO_STACKS: &[u8] = b"7f0000000000-7f0001000000 rw-p 00000000 00:00 0\n";

    #[test]
    fn a_stack_ends_where_the_thread_pointer_says_though_its_mapping_goes_on() {
        let maps = maps::parse(TWO_STACKS);
        let (sp, pointer) = (Address(0x7f00_007f_0000), Address(0x7f00_007f_e6c0));
        let stack = stack_at(sp, Some(pointer), &maps, 8 << 20);
        assert_eq!(stack.read, Range { start: Address(sp.0 - RED_ZONE), end: Address(0x7f00_0080_0000) });
        assert_eq!(stack.mapping, Range { start: maps[0].range.start, end: Address(0x7f00_0080_0000) });
        assert!(!stack.truncated);
    }

    #[test]
    fn a_thread_pointer_elsewhere_says_nothing_of_where_a_stack_ends() {
        let maps = maps::parse(TWO_STACKS);
        let sp = Address(0x7f00_007f_0000);
        for pointer in
            [None, Some(Address(0)), Some(Address(sp.0 - 8)), Some(Address(0x7f00_0100_0000)), Some(Address(u64::MAX))]
        {
            let stack = stack_at(sp, pointer, &maps, 64 << 20);
            assert_eq!((stack.mapping, stack.read.end), (maps[0].range, maps[0].range.end), "{pointer:?}");
        }
    }
}
