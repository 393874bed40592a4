//! The copy of a target's memory: filled in batches while the target is stopped, and shared between the thread that
//! reads and the one that lets go, so that what was read before a read got stuck is not lost.
//!
//! Each byte is stored once, from one instant: what was read first stays, and a later read fills gaps only.

mod buffer;
mod copied;
mod held;
mod present;

use super::page::{page_from, page_of};
use super::pagemap::Pagemap;
use super::rehearsal::{Checksum, Expected};
use buffer::{Buffer, Ready};
pub(crate) use copied::Copied;
use held::{Held, Piece};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use present::Present;
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::{Address, Range};
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Ranges a call reads; more are no faster, and 1024 are the kernel's limit.
pub(super) const RANGES_PER_CALL: usize = 64;

/// Bytes a call reads at most, so that a deadline is noticed between calls.
const BYTES_PER_CALL: usize = 1 << 20;

/// A copy that is being made.
#[derive(Clone)]
pub(crate) struct Copy {
    pid: Pid,
    held: Arc<Mutex<Held>>,
}

/// The target is gone or runs again, so there is no point in reading on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

impl Copy {
    /// An empty copy whose buffers are made when they are needed.
    pub(crate) fn of(pid: Pid) -> Copy {
        Copy { pid, held: Arc::default() }
    }

    /// An empty copy with buffers for reading `expected`, ascending and disjoint, and about `more` bytes. Their pages are
    /// touched now, so that the kernel need not find memory for them while the target waits.
    pub(crate) fn expecting(pid: Pid, expected: &[Range], more: u64) -> Copy {
        let ready = Ready::for_reading(expected, more);
        Copy { pid, held: Arc::new(Mutex::new(Held { ready, ..Held::default() })) }
    }

    /// The same, without ever reading these ranges, which are ascending and disjoint.
    pub(crate) fn leaving_out(self, ranges: Vec<Range>) -> Copy {
        self.lock().left_out = ranges;
        self
    }

    /// Reads what of `ranges`, which are disjoint, is not held yet, the first first.
    pub(crate) fn read_ranges(&self, ranges: &[Range]) -> Result<(), Ended> {
        self.read_until(ranges, None)
    }

    /// The same until a time, if it takes that long: then some are missing.
    pub(crate) fn read_until(&self, ranges: &[Range], deadline: Option<Instant>) -> Result<(), Ended> {
        let mut gaps = self.missing(ranges);
        let mut rest = gaps.as_mut_slice();
        while let Some(first) = rest.first() {
            if first.is_empty() {
                rest = rest.get_mut(1..).unwrap_or_default();
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Ended);
            }
            self.read_batch(rest)?;
        }
        Ok(())
    }

    /// Has what other threads read right now not count: it will be read anew.
    pub(crate) fn overtake(&self) {
        self.lock().epoch += 1;
    }

    /// Reads some of the first ranges of `gaps` and cuts off what is done with.
    fn read_batch(&self, gaps: &mut [Range]) -> Result<(), Ended> {
        let mut remote = [RemoteIoVec { base: 0, len: 0 }; RANGES_PER_CALL];
        let mut count = 0;
        let mut wanted = 0usize;
        for (slot, gap) in remote.iter_mut().zip(gaps.iter()) {
            let Ok(base) = usize::try_from(gap.start.0) else { break };
            let length = usize::try_from(gap.len()).unwrap_or(usize::MAX).min(BYTES_PER_CALL - wanted);
            *slot = RemoteIoVec { base, len: length };
            count += 1;
            wanted += length;
            if wanted == BYTES_PER_CALL {
                break;
            }
        }
        let remote = remote.get(..count).unwrap_or_default();
        let (mut buffer, epoch) = {
            let mut held = self.lock();
            (held.ready.take(wanted), held.epoch)
        };
        let got = match process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer.bytes_mut())], remote) {
            Ok(got) => got,
            Err(Errno::EFAULT | Errno::EIO | Errno::EINVAL) => 0,
            Err(_) => {
                let mut held = self.lock();
                held.vanished |= !held.closed;
                return Err(Ended);
            }
        };
        let mut held = self.lock();
        if held.closed || held.epoch != epoch {
            return Err(Ended);
        }
        match got {
            0 => held.ready.give_back(buffer),
            _ => held.take(buffer, gaps, got),
        }
        if got < wanted {
            // The first byte that is missing could not be read: it, and with it its page.
            if let Some(gap) = gaps.iter_mut().find(|gap| !gap.is_empty()) {
                let end = Address(page_from(gap.start.0.saturating_add(1)).min(gap.end.0));
                held.unreadable.push(Range { start: gap.start, end });
                gap.start = end;
            }
        }
        Ok(())
    }

    /// Does `work`, which reads from this copy, without fetching what is missing, and says what was.
    pub(crate) fn without_fetching<R>(&self, work: impl FnOnce() -> R) -> (R, Vec<Range>) {
        self.lock().missed = Some(Vec::new());
        let result = work();
        (result, self.lock().missed.take().unwrap_or_default())
    }

    /// Does `work`, which reads from this copy, fetching what is missing if it is in memory by `pagemap`, and says what was
    /// not.
    pub(crate) fn fetching_what_is_there<R>(
        &self,
        pagemap: &Pagemap,
        work: impl FnOnce(&dyn Memory) -> R,
    ) -> (R, Vec<Range>) {
        self.without_fetching(|| work(&Present { copy: self, pagemap }))
    }

    /// Holds what was read elsewhere, as far as nothing else is held there.
    pub(crate) fn hold(&self, read: &[(Range, Arc<Vec<u8>>)]) {
        let mut held = self.lock();
        for (range, bytes) in read {
            let mut gaps = Vec::new();
            held.gaps(*range, &mut gaps);
            let buffer = held.buffers.len();
            for gap in gaps {
                let offset = usize::try_from(gap.start.0 - range.start.0).unwrap_or(usize::MAX);
                held.pieces.extend(Piece::of(gap, buffer, offset).map(|piece| (gap.start.0, piece)));
            }
            held.buffers.push(Buffer::Shared(Arc::clone(bytes)));
        }
    }

    /// Whether none of `read` is held with other bytes.
    pub(crate) fn agrees_with(&self, read: &[(Range, Arc<Vec<u8>>)]) -> bool {
        let held = self.lock();
        read.iter().all(|(range, bytes)| {
            let before = held.piece_at(range.start.0).map(|(start, _)| start);
            let first = before.unwrap_or(range.start.0);
            held.pieces.range(first..range.end.0).all(|(start, piece)| {
                let common = Range { start: Address(*start), end: Address(piece.end(*start)) }.intersect(*range);
                let from = usize::try_from(common.start.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
                let length = usize::try_from(common.len()).unwrap_or(usize::MAX);
                let wanted = from.checked_add(length).and_then(|end| bytes.get(from..end));
                let there = held.bytes_at(common.start.0).and_then(|there| there.get(..length));
                common.is_empty() || wanted == there
            })
        })
    }

    /// What of `ranges` is not held.
    pub(crate) fn missing(&self, ranges: &[Range]) -> Vec<Range> {
        let held = self.lock();
        let mut gaps = Vec::with_capacity(ranges.len() + 8);
        ranges.iter().for_each(|range| held.gaps(*range, &mut gaps));
        gaps
    }

    /// Whether all that was expected is held, and is that.
    pub(crate) fn is(&self, expected: &Expected) -> bool {
        let held = self.lock();
        let mut checksum = Checksum::default();
        for range in &expected.ranges {
            let mut at = range.start.0;
            while at < range.end.0 {
                let here = held.bytes_at(at).unwrap_or_default();
                let left = usize::try_from(range.end.0 - at).unwrap_or(usize::MAX);
                let here = here.get(..here.len().min(left)).filter(|here| !here.is_empty());
                let Some(here) = here else { return false };
                checksum.add(here);
                at = at.saturating_add(here.len() as u64);
            }
        }
        checksum.value() == expected.checksum
    }

    /// The bytes held so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Whether the target was gone before all was read.
    pub(crate) fn vanished(&self) -> bool {
        self.lock().vanished
    }

    /// Ends the copy: the target is about to run again.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// What was copied. The copy is empty, and closed, from then on.
    pub(crate) fn into_copied(self) -> Copied {
        let mut held = self.lock();
        held.closed = true;
        Copied::of(std::mem::take(&mut *held))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Whoever panicked with the lock left every piece it had added whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what is missing from the target, together with the rest of its page: a walk that strays off the prediction
/// mostly needs more from there.
impl Memory for Copy {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let unreadable = ReadError::Unreadable(Range {
            start: address,
            end: Address(address.0.saturating_add(buffer.len() as u64)),
        });
        let mut at = address.0;
        let mut rest = buffer;
        while !rest.is_empty() {
            let copied = self.lock().copy(at, rest);
            if copied == 0 {
                let mut held = self.lock();
                if let Some(missed) = &mut held.missed {
                    if let ReadError::Unreadable(range) = unreadable {
                        missed.push(range);
                    }
                    return Err(unreadable);
                }
                drop(held);
                let start = Address(page_of(at));
                let needed = at.checked_add(rest.len() as u64).ok_or(unreadable)?;
                let end = Address(page_from(needed));
                self.read_ranges(&[Range { start, end }]).map_err(|_| unreadable)?;
                if self.lock().piece_at(at).is_none() {
                    return Err(unreadable);
                }
                continue;
            }
            at = at.checked_add(copied as u64).ok_or(unreadable)?;
            rest = rest.get_mut(copied..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::PAGE;
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
    use pyst_memory::MemoryExt;
    use std::num::NonZeroUsize;

    /// Three pages, the middle one unreadable.
    #[expect(unsafe_code, reason = "pages with a hole cannot be had from safe code")]
    fn pages_with_a_hole() -> Address {
        let size = NonZeroUsize::new(3 * PAGE as usize).unwrap();
        // SAFETY: a new private mapping; its first and last page are written, then its middle page made unreadable, and
        // it stays mapped until the process ends.
        unsafe {
            let start = mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
                .unwrap();
            start.cast::<u8>().as_ptr().write_bytes(1, PAGE as usize);
            start.cast::<u8>().as_ptr().add(2 * PAGE as usize).write_bytes(3, PAGE as usize);
            let middle = std::ptr::NonNull::new(start.as_ptr().cast::<u8>().add(PAGE as usize).cast()).unwrap();
            mprotect(middle, PAGE as usize, ProtFlags::PROT_NONE).unwrap();
            Address(start.as_ptr().addr() as u64)
        }
    }

    fn range(start: Address, offset: u64, length: u64) -> Range {
        Range::sized(start.checked_add(offset).unwrap(), length).unwrap()
    }

    #[test]
    fn a_bad_page_costs_itself_only() {
        let start = pages_with_a_hole();
        let copy = Copy::of(nix::unistd::getpid());
        let ranges = [range(start, 8, 8), range(start, 100, 2 * PAGE), range(start, 2 * PAGE + 200, 50)];
        copy.read_ranges(&ranges).unwrap();
        assert_eq!(copy.bytes(), 8 + (PAGE - 100) + 100 + 50);
        copy.close();
        let copied = copy.into_copied();
        assert_eq!(copied.read_array::<100>(Address(start.0 + 2 * PAGE)), Ok([3; 100]));
        assert_eq!(copied.read_u64(Address(start.0 + 8)), Ok(0x0101_0101_0101_0101));
        assert!(matches!(copied.read_u64(Address(start.0 + PAGE)), Err(ReadError::Unreadable(_))));
        assert!(matches!(copied.read_u64(Address(start.0 + 16)), Err(ReadError::NotRecorded(_))));
    }

    #[test]
    fn more_ranges_than_a_call_takes_are_all_read() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let at = Address(bytes.as_ptr().addr() as u64);
        let copy = Copy::of(nix::unistd::getpid());
        let ranges: Vec<Range> = (0..1000).map(|i| range(at, i * 100, 50)).collect();
        copy.read_ranges(&ranges).unwrap();
        assert_eq!(copy.bytes(), 50_000);
        for i in (0..1000).step_by(37) {
            assert_eq!(copy.read_bytes(range(at, i * 100, 0).start, 50, 50).unwrap(), &bytes[i as usize * 100..][..50]);
        }
        assert_eq!(copy.bytes(), 50_000);
    }

    #[test]
    fn a_miss_is_fetched_and_what_was_held_stays() {
        let mut bytes = vec![5u8; 3 * PAGE as usize];
        let at = Address(bytes.as_ptr().addr() as u64 + 10);
        let copy = Copy::of(nix::unistd::getpid());
        copy.read_ranges(&[range(at, 0, 10)]).unwrap();
        bytes.fill(6);
        std::hint::black_box(&mut bytes);
        let mut expected = vec![6u8; 20];
        expected[..10].fill(5);
        assert_eq!(copy.read_bytes(at, 20, 20).unwrap(), expected);
        copy.close();
        assert!(copy.read_bytes(range(at, 2 * PAGE, 0).start, 500, 500).is_err());
    }
}
