//! The C library's descriptor of a thread, on top of the thread's stack: its address is the thread pointer, which otherwise
//! only a stop tells.
//!
//! It ends the stack. What lies behind it in the same mapping is other threads' memory, and must not be taken for this one's.

use super::super::LIVE_ARCH;
use super::attempt::Pieces;
use pyst_snapshot::payload::{Arch, Stack};
use pyst_snapshot::{Address, Range};

/// glibc's `struct pthread` of x86_64: it has its own address as its first word and its third, and the thread's id.
const ITSELF: [usize; 2] = [0, 16];
const TID: usize = 720;

/// How much of it is kept: what tells whose it is.
const KEPT: u64 = 1024;

/// Descriptors lie at multiples of this.
const ALIGNMENT: u64 = 16;

/// Where among `pieces`, the bytes of a stack, the descriptor is of the thread with this id in its own namespace.
pub(super) fn find(pieces: &Pieces, tid: u32) -> Option<Address> {
    if LIVE_ARCH != Arch::X86_64 {
        return None;
    }
    pieces.iter().find_map(|(range, bytes)| {
        let first = range.start.0.checked_next_multiple_of(ALIGNMENT)?;
        let mut places = (first..range.end.0).step_by(ALIGNMENT as usize);
        places
            .find(|at| is_one(*at, bytes.get(usize::try_from(at - range.start.0).unwrap_or(usize::MAX)..), tid))
            .map(Address)
    })
}

fn is_one(at: u64, bytes: Option<&[u8]>, tid: u32) -> bool {
    let Some(bytes) = bytes else { return false };
    let word = |offset: usize| bytes.get(offset..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
    let named = || bytes.get(TID..)?.first_chunk().map(|word| u32::from_le_bytes(*word));
    ITSELF.iter().all(|offset| word(*offset) == Some(at)) && named() == Some(tid)
}

/// The part of a stack that is its thread's, whose thread pointer is known or not.
pub(super) fn own_part(stack: Stack, thread_pointer: Option<Address>) -> Range {
    let top = thread_pointer.filter(|pointer| stack.read.contains(*pointer));
    let end = top.and_then(|top| top.checked_add(KEPT)).unwrap_or(stack.read.end);
    Range { start: stack.read.start, end: end.min(stack.read.end) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn this_threads_descriptor_is_where_its_pointer_points() {
        if LIVE_ARCH != Arch::X86_64 || cfg!(not(target_env = "gnu")) {
            return;
        }
        let check = || {
            let here = 0_u8;
            let tid = nix::unistd::gettid().as_raw().cast_unsigned();
            let start = Address(std::ptr::from_ref(&here).addr() as u64);
            let maps = crate::live::maps::parse(&std::fs::read("/proc/self/maps").unwrap());
            let range = Range { start, end: crate::live::maps::find(&maps, start).unwrap().range.end };
            let bytes = super::super::at_once::read(nix::unistd::getpid(), &[range]).unwrap();
            let bytes = Arc::new(bytes);
            let found = find(&vec![(range, Arc::clone(&bytes))], tid).unwrap();
            assert_eq!(find(&vec![(range, bytes)], tid + 1), None);
            found.0
        };
        let thread = std::thread::spawn(check);
        // What `pthread_self()` is there.
        let pointer = std::os::unix::thread::JoinHandleExt::as_pthread_t(&thread) as u64;
        assert_eq!(thread.join().unwrap(), pointer);
    }

    #[test]
    fn a_stack_ends_where_its_thread_is_described() {
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        let stack = Stack { mapping: range(0x1000, 0x9000), read: range(0x2000, 0x9000), truncated: false };
        assert_eq!(own_part(stack, None), stack.read);
        assert_eq!(own_part(stack, Some(Address(0x4000))), range(0x2000, 0x4400));
        assert_eq!(own_part(stack, Some(Address(0x8f00))), stack.read);
        assert_eq!(own_part(stack, Some(Address(0xa000))), stack.read);
    }
}
