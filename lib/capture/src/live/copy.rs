//! The copy of a target's memory: filled in batches while the target is stopped, and shared between the thread that
//! reads and the one that lets go, so that what was read before a read got stuck is not lost.
//!
//! Each byte is stored once, from one instant: what was read first stays, and a later read fills gaps only.

use super::memory::PAGE;
use super::pagemap::Pagemap;
use super::rehearsal::{Checksum, Expected};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_memory::{Image, Memory, ReadError};
use pyst_snapshot::{Address, Range};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Ranges a call reads; more are no faster, and 1024 are the kernel's limit.
const RANGES_PER_CALL: usize = 64;

/// Bytes a call reads at most, so that a deadline is noticed between calls.
const BYTES_PER_CALL: usize = 1 << 20;

/// The longest read that is fetched in the middle of a walk by the thread that lets go.
const FETCHED: u64 = 256 << 10;

/// A copy that is being made.
#[derive(Clone)]
pub(crate) struct Copy {
    pid: Pid,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// Set when the target runs again: nothing that is read from then on may be kept.
    closed: bool,
    /// What is not read though it is missing: pages for which others waited in vain. Ascending and disjoint.
    left_out: Vec<Range>,
    /// Set while what is missing may not be fetched, or only what is in memory: it is noted here.
    missed: Option<Vec<Range>>,
    /// Set when the target was gone while it should have been read.
    vanished: bool,
    /// Buffers made before the stop, for the first batches.
    spare: Vec<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
    /// What is held, by start; disjoint.
    pieces: BTreeMap<u64, Piece>,
    unreadable: Vec<Range>,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Piece {
    end: u64,
    chunk: usize,
    offset: usize,
}

/// The target is gone or runs again, so there is no point in reading on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

impl Copy {
    /// An empty copy whose buffers are made when they are needed.
    pub(crate) fn of(pid: Pid) -> Copy {
        Copy { pid, held: Arc::default() }
    }

    /// An empty copy with buffers for about `expected` bytes, whose pages are touched now, so that the kernel need not
    /// find memory for them while the target waits.
    pub(crate) fn expecting(pid: Pid, expected: u64) -> Copy {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX).clamp(64 << 10, 32 << 20);
        let spare = (0..expected.div_ceil(BYTES_PER_CALL)).map(|_| vec![0xff; expected.min(BYTES_PER_CALL)]).collect();
        Copy { pid, held: Arc::new(Mutex::new(Held { spare, ..Held::default() })) }
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
        let mut chunk = self.buffer(wanted);
        let got = match process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut chunk)], remote) {
            Ok(got) => got,
            Err(Errno::EFAULT | Errno::EIO | Errno::EINVAL) => 0,
            Err(_) => {
                let mut held = self.lock();
                held.vanished |= !held.closed;
                return Err(Ended);
            }
        };
        chunk.truncate(got);
        let mut held = self.lock();
        if held.closed {
            return Err(Ended);
        }
        held.take(chunk, gaps, got);
        if got < wanted {
            // The first byte that is missing could not be read: it, and with it its page.
            if let Some(gap) = gaps.iter_mut().find(|gap| !gap.is_empty()) {
                let page_end = gap.start.0.checked_add(PAGE).map_or(u64::MAX, |next| next & !(PAGE - 1));
                let end = Address(page_end.min(gap.end.0));
                held.unreadable.push(Range { start: gap.start, end });
                gap.start = end;
            }
        }
        Ok(())
    }

    /// A buffer of `length` bytes.
    fn buffer(&self, length: usize) -> Vec<u8> {
        let spare = self.lock().spare.pop();
        match spare {
            Some(mut spare) if spare.len() >= length => {
                spare.truncate(length);
                spare
            }
            _ => vec![0; length],
        }
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
    pub(crate) fn hold(&self, read: &[(Range, Vec<u8>)]) {
        let mut held = self.lock();
        for (range, bytes) in read {
            let mut gaps = Vec::new();
            held.gaps(*range, &mut gaps);
            let chunk = held.chunks.len();
            for gap in gaps {
                let offset = usize::try_from(gap.start.0 - range.start.0).unwrap_or(usize::MAX);
                held.pieces.insert(gap.start.0, Piece { end: gap.end.0, chunk, offset });
            }
            held.chunks.push(bytes.clone());
        }
    }

    /// Whether none of `read` is held with other bytes.
    pub(crate) fn agrees_with(&self, read: &[(Range, Vec<u8>)]) -> bool {
        let held = self.lock();
        read.iter().all(|(range, bytes)| {
            let before = held.piece_at(range.start.0).map(|(start, _)| start);
            let first = before.unwrap_or(range.start.0);
            held.pieces.range(first..range.end.0).all(|(start, piece)| {
                let common = Range { start: Address(*start), end: Address(piece.end) }.intersect(*range);
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
    pub(crate) fn into_image(self) -> Image<'static> {
        let mut held = self.lock();
        held.closed = true;
        let held = std::mem::take(&mut *held);
        let mut image = Image::new();
        image.extend(held.pieces.iter().filter_map(|(start, piece)| {
            let length = usize::try_from(piece.end.checked_sub(*start)?).ok()?;
            let bytes = held.chunks.get(piece.chunk)?.get(piece.offset..piece.offset.checked_add(length)?)?;
            Some((Address(*start), bytes.to_vec().into()))
        }));
        image.extend_unreadable(held.unreadable.into_iter().chain(held.left_out));
        image
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Whoever panicked with the lock left every piece it had added whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Adds to `gaps` what of `range` is not held.
    fn gaps(&self, range: Range, gaps: &mut Vec<Range>) {
        let mut at = range.start.0;
        while at < range.end.0 {
            if let Some(end) = self.piece_at(at).map(|(_, piece)| piece.end).or_else(|| self.left_out_to(at)) {
                at = end;
                continue;
            }
            let next = self.pieces.range(at..).next().map_or(u64::MAX, |(start, _)| *start);
            let after = self.left_out.partition_point(|left_out| left_out.start.0 <= at);
            let next_left_out = self.left_out.get(after).map_or(u64::MAX, |left_out| left_out.start.0);
            let end = next.min(next_left_out).min(range.end.0);
            gaps.push(Range { start: Address(at), end: Address(end) });
            at = end;
        }
    }

    /// Where the range that `at` is in and that is left out ends.
    fn left_out_to(&self, at: u64) -> Option<u64> {
        let after = self.left_out.partition_point(|range| range.start.0 <= at);
        let range = self.left_out.get(after.checked_sub(1)?)?;
        range.contains(Address(at)).then_some(range.end.0)
    }

    /// The piece that holds `at`, with its start.
    fn piece_at(&self, at: u64) -> Option<(u64, Piece)> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        (at < piece.end).then_some((*start, *piece))
    }

    /// Notes that `chunk` holds the first `got` bytes of `gaps`, and cuts those off.
    fn take(&mut self, chunk: Vec<u8>, gaps: &mut [Range], got: usize) {
        let index = self.chunks.len();
        let mut offset = 0;
        for gap in gaps {
            if offset == got {
                break;
            }
            let length = usize::try_from(gap.len()).unwrap_or(usize::MAX).min(got - offset);
            let Some(end) = gap.start.checked_add(length as u64) else { break };
            self.pieces.insert(gap.start.0, Piece { end: end.0, chunk: index, offset });
            gap.start = end;
            offset += length;
        }
        self.bytes += got as u64;
        self.chunks.push(chunk);
    }

    /// What is held from `at` on, as far as it is one piece.
    fn bytes_at(&self, at: u64) -> Option<&[u8]> {
        let (start, piece) = self.piece_at(at)?;
        let length = usize::try_from(piece.end - at).ok()?;
        let offset = piece.offset.checked_add(usize::try_from(at - start).ok()?)?;
        self.chunks.get(piece.chunk)?.get(offset..offset.checked_add(length)?)
    }

    /// Copies what is held from `at` on, and says how much that was.
    fn copy(&self, at: u64, buffer: &mut [u8]) -> usize {
        let Some(held) = self.bytes_at(at) else { return 0 };
        let length = held.len().min(buffer.len());
        match (held.get(..length), buffer.get_mut(..length)) {
            (Some(bytes), Some(to)) => {
                to.copy_from_slice(bytes);
                length
            }
            _ => 0,
        }
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
                let start = Address(at & !(PAGE - 1));
                let needed = at.checked_add(rest.len() as u64).ok_or(unreadable)?;
                let end = needed.checked_add(PAGE - 1).ok_or(unreadable)? & !(PAGE - 1);
                self.read_ranges(&[Range { start, end: Address(end) }]).map_err(|_| unreadable)?;
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

/// A copy that may be completed from what is in memory.
struct Present<'a> {
    copy: &'a Copy,
    pagemap: &'a Pagemap,
}

impl Memory for Present<'_> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let Present { copy, pagemap } = self;
        let before = copy.lock().missed.as_ref().map_or(0, Vec::len);
        copy.read(address, buffer).or_else(|error| {
            let page = |at: u64| Address(at & !(PAGE - 1));
            let start = page(address.0);
            let end = page(address.0.saturating_add(buffer.len() as u64).saturating_add(PAGE - 1));
            let range = Range { start, end };
            if range.len() > FETCHED || pagemap.present(&[range]) != [range] {
                return Err(error);
            }
            copy.read_ranges(&[range]).map_err(|_| error)?;
            if let Some(missed) = &mut copy.lock().missed {
                missed.truncate(before);
            }
            copy.read(address, buffer)
        })
    }
}

#[cfg(test)]
mod tests {
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
        let copy = Copy::expecting(nix::unistd::getpid(), 0);
        let ranges = [range(start, 8, 8), range(start, 100, 2 * PAGE), range(start, 2 * PAGE + 200, 50)];
        copy.read_ranges(&ranges).unwrap();
        assert_eq!(copy.bytes(), 8 + (PAGE - 100) + 100 + 50);
        copy.close();
        let image = copy.into_image();
        assert_eq!(image.read_array::<100>(Address(start.0 + 2 * PAGE)), Ok([3; 100]));
        assert_eq!(image.read_u64(Address(start.0 + 8)), Ok(0x0101_0101_0101_0101));
        assert!(matches!(image.read_u64(Address(start.0 + PAGE)), Err(ReadError::Unreadable(_))));
        assert!(matches!(image.read_u64(Address(start.0 + 16)), Err(ReadError::NotRecorded(_))));
    }

    #[test]
    fn more_ranges_than_a_call_takes_are_all_read() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let at = Address(bytes.as_ptr().addr() as u64);
        let copy = Copy::expecting(nix::unistd::getpid(), 0);
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
        let copy = Copy::expecting(nix::unistd::getpid(), 0);
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
