//! What the words on a stack lead to, so far as an unwinder will want it and nothing else names it: the stack that a signal
//! interrupted when its handler runs on another one, and code that lies in no file.

use super::LIVE_ARCH;
use super::maps;
use crate::registers::{self, RED_ZONE};
use pyst_memory::{Memory, RangeSet};
use pyst_snapshot::payload::{Map, Thread};
use pyst_snapshot::{Address, Range};

/// How much of each stack is searched, from sp on. Handlers' frames are few.
const SEARCHED: u64 = 128 << 10;

/// How much code is kept at most, in bytes.
const MAX_CODE: u64 = 256 << 10;

/// What is kept around a return address: the call before it, and what a function does after its last call.
const BEFORE: u64 = 32;
const AFTER: u64 = 64;

/// From a signal frame's `ucontext` on: `uc_link`, `uc_stack` (`ss_sp`, flags, `ss_size`), then the registers. Words.
#[cfg(target_arch = "x86_64")]
const SAVED_SP: usize = 5 + 15;
/// The same on aarch64, where the signal mask comes in between: `uc_sigmask`, the fault's address, x0 to x30, sp.
#[cfg(target_arch = "aarch64")]
const SAVED_SP: usize = (176 + 8 + 31 * 8) / 8;

/// The smallest signal stack that the kernel accepts is larger, and the largest that anybody makes is smaller.
const SIGNAL_STACK: std::ops::Range<u64> = 1 << 10..64 << 20;

/// The flags that a signal stack may have: `SS_ONSTACK`, `SS_DISABLE`, `SS_AUTODISARM`.
const SIGNAL_STACK_FLAGS: u32 = 1 | 2 | 1 << 31;

/// What the stacks held in `memory` lead to; `limit` bounds the bytes of stacks.
pub(super) fn leads(memory: &dyn Memory, threads: &[&Thread], maps: &[Map], limit: u64) -> RangeSet {
    let code = Code::of(maps);
    let mut found = RangeSet::new();
    let (mut stacks_left, mut code_left) = (limit, MAX_CODE);
    let mut bytes = Vec::new();
    for thread in threads {
        let Some(stack) = thread.stack else { continue };
        let pc = thread.registers.as_ref().and_then(|registers| registers.get(registers::layout(LIVE_ARCH).pc));
        if let Some(at) = pc.filter(|pc| code.contains(*pc)) {
            code_left = code_left.saturating_sub(keep_code(at, maps, &mut found));
        }
        let is_main = maps::find(maps, stack.mapping.start).is_some_and(|map| map.path.0 == b"[stack]");
        if is_main && code.mappings.is_empty() {
            continue;
        }
        bytes.resize(usize::try_from(stack.read.len().min(SEARCHED)).unwrap_or(0) & !7, 0);
        if memory.read(stack.read.start, &mut bytes).is_err() {
            continue;
        }
        let words = bytes.as_chunks::<8>().0;
        let first = stack.read.start.0;
        for (index, word) in words.iter().enumerate() {
            let value = u64::from_le_bytes(*word);
            if code_left > 0 && code.contains(value) {
                code_left = code_left.saturating_sub(keep_code(value, maps, &mut found));
            }
            let here = first.saturating_add(index as u64 * 8);
            let interrupted = interrupted_sp(words.get(index..).unwrap_or_default(), here, maps);
            if let Some(range) = interrupted.and_then(|sp| rest_of_stack(sp, maps, stacks_left)) {
                stacks_left = stacks_left.saturating_sub(range.len());
                found.insert(range);
            }
        }
    }
    found
}

/// The sp that a signal interrupted, if these words, which lie at `here`, are the `ucontext` of a handler that runs on a signal
/// stack around them.
fn interrupted_sp(words: &[[u8; 8]], here: u64, maps: &[Map]) -> Option<u64> {
    let word = |index: usize| words.get(index).map(|word| u64::from_le_bytes(*word));
    let (link, start, flags, size) = (word(0)?, word(1)?, word(2)? as u32, word(3)?);
    let is_stack = SIGNAL_STACK.contains(&size) && here.wrapping_sub(start) < size && flags & !SIGNAL_STACK_FLAGS == 0;
    if link != 0 || !is_stack || !is_of_user_code(words) {
        return None;
    }
    let sp = word(SAVED_SP - 1).filter(|sp| sp.wrapping_sub(start) >= size)?;
    // A zero before any number and a pointer looks the same, but for where the stack would begin.
    maps::find(maps, Address(start)).filter(|map| map.is_writable()).map(|_| sp)
}

/// Whether the registers that a signal frame keeps are those of code in user mode, by its segment.
#[cfg(target_arch = "x86_64")]
fn is_of_user_code(words: &[[u8; 8]]) -> bool {
    // The kernel's own number, and that of a guest of Xen. It is kept three words after sp, with the others.
    const SEGMENTS: [u16; 2] = [0x33, 0xe033];
    let segment = words.get(SAVED_SP + 2).map(|word| u64::from_le_bytes(*word) as u16);
    segment.is_some_and(|segment| SEGMENTS.contains(&segment))
}

#[cfg(not(target_arch = "x86_64"))]
fn is_of_user_code(_: &[[u8; 8]]) -> bool {
    true
}

/// The stack that is used down to `sp`.
fn rest_of_stack(sp: u64, maps: &[Map], limit: u64) -> Option<Range> {
    // Words that look like a signal frame by chance lead anywhere; megabytes of code would be read while the target is stopped.
    let map = maps::find(maps, Address(sp)).filter(|map| map.is_writable())?;
    let start = Address(sp.saturating_sub(RED_ZONE)).max(map.range.start);
    let end = Address(start.0.saturating_add(limit)).min(map.range.end);
    (start < end).then_some(Range { start, end })
}

/// Wants the code around `address`; how many bytes that is.
fn keep_code(address: u64, maps: &[Map], found: &mut RangeSet) -> u64 {
    let Some(map) = maps::find(maps, Address(address)) else { return 0 };
    let around = Range {
        start: Address(address.saturating_sub(BEFORE) & !63),
        end: Address(address.saturating_add(AFTER + 63) & !63),
    };
    let around = map.range.intersect(around);
    found.insert(around);
    around.len()
}

/// Readable mappings of code that no file has.
struct Code {
    mappings: Vec<Range>,
}

impl Code {
    fn of(maps: &[Map]) -> Code {
        // A memfd, or shared memory, is what a JIT maps twice: to write it and to run it.
        let is_generated = |map: &&Map| {
            let path = &map.path.0;
            let kernels = path == b"[vdso]" || path == b"[vsyscall]";
            (map.inode == 0 && !kernels) || path.starts_with(b"/memfd:") || path.starts_with(b"/dev/zero")
        };
        let code = maps.iter().filter(|map| map.is_executable() && map.is_readable());
        Code { mappings: code.filter(is_generated).map(|map| map.range).collect() }
    }

    fn contains(&self, address: u64) -> bool {
        let after = self.mappings.partition_point(|range| range.start.0 <= address);
        let range = after.checked_sub(1).and_then(|index| self.mappings.get(index));
        range.is_some_and(|range| range.contains(Address(address)))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_that_can_be_written_is_a_stack() {
        let maps = maps::parse(
            b"1000-9000 r-xp 00000000 fe:00 7 /usr/bin/python3\n9000-a000 r--p 00000000 00:00 0 \na000-c000 rw-p 00000000 00:00 0 \n",
        );
        let range = |start, end| Some(Range { start: Address(start), end: Address(end) });
        assert_eq!(rest_of_stack(0x1800, &maps, 1 << 20), None);
        assert_eq!(rest_of_stack(0x9800, &maps, 1 << 20), None);
        assert_eq!(rest_of_stack(0xd000, &maps, 1 << 20), None);
        assert_eq!(rest_of_stack(0xa800, &maps, 1 << 20), range(0xa780, 0xc000));
        assert_eq!(rest_of_stack(0xa800, &maps, 0x100), range(0xa780, 0xa880));
    }

    #[test]
    fn a_signal_stack_begins_in_memory_that_can_be_written() {
        let maps = maps::parse(
            b"1000-9000 r-xp 00000000 fe:00 7 /usr/bin/python3\na000-c000 rw-p 00000000 00:00 0 \nd000-e000 rw-p 00000000 00:00 0 \n",
        );
        // uc_link; ss_sp, ss_flags, ss_size; the registers.
        let context = |link: u64, start: u64, size: u64, sp: u64| {
            let mut words = vec![[0; 8]; SAVED_SP + 3];
            if cfg!(target_arch = "x86_64") {
                words[SAVED_SP + 2] = 0x002b_0000_0000_0033_u64.to_le_bytes();
            }
            for (index, value) in [(0, link), (1, start), (3, size), (SAVED_SP - 1, sp)] {
                words[index] = value.to_le_bytes();
            }
            interrupted_sp(&words, 0xa800, &maps)
        };
        assert_eq!(context(0, 0xa000, 0x2000, 0xd800), Some(0xd800));
        assert_eq!(context(0, 0, 0x2_0000, 0xd_8000), None, "a zero, and what is larger than any address here");
        assert_eq!(context(0, 0x1000, 0xa000, 0xd800), None, "code");
        assert_eq!(context(1, 0xa000, 0x2000, 0xd800), None, "a link");
        assert_eq!(context(0, 0xa000, 0x2000, 0xb800), None, "the same stack");
        assert_eq!(context(0, 0xb000, 0x1000, 0xd800), None, "a stack that is elsewhere");
        assert_eq!(context(0, 0xa000, 0x2000 << 32, 0xd800), None, "a pointer");
        assert_eq!(interrupted_sp(&[], 0xa800, &maps), None);
    }
}
