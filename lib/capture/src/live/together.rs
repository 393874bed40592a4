//! Much that is read of a target that stands still, by two threads where there are two processors: all others wait meanwhile, and
//! registers are read besides.
//!
//! What must hold: the other one costs no more than [`PATIENCE`]. Where it gets no processor, or is stuck, what it has begun is read
//! anew, and what it reads later does not count.

use super::copy::{Copy, Ended, RANGES_PER_CALL};
use pyst_snapshot::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is less is read by one thread sooner than another is woken.
const MUCH: usize = 8 * RANGES_PER_CALL;

/// How long the other one may take to finish what it has begun: some times of what one call takes.
const PATIENCE: Duration = Duration::from_micros(300);

/// Ranges that are read together: disjoint.
pub(super) struct Together {
    ranges: Vec<Range>,
    /// How many calls' worth of them were begun.
    begun: AtomicUsize,
    /// And are finished.
    finished: AtomicUsize,
}

impl Together {
    /// `ranges`, if they are worth it here.
    pub(super) fn of(ranges: &[Range]) -> Option<Together> {
        let has_two = || std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        (ranges.len() > MUCH && has_two()).then(|| Together::begin(ranges.to_vec()))
    }

    fn begin(ranges: Vec<Range>) -> Together {
        Together { ranges, begun: AtomicUsize::new(0), finished: AtomicUsize::new(0) }
    }

    /// Reads what nobody reads, until nothing is left.
    pub(super) fn help(&self, copy: &Copy, deadline: Instant) -> Result<(), Ended> {
        loop {
            let index = self.begun.fetch_add(1, Ordering::Relaxed);
            let Some(ranges) = self.ranges.chunks(RANGES_PER_CALL).nth(index) else { return Ok(()) };
            copy.read_until(ranges, Some(deadline))?;
            self.finished.fetch_add(1, Ordering::Release);
        }
    }

    /// Reads what nobody reads, and sees to it that all of it was read.
    pub(super) fn finish(&self, copy: &Copy, deadline: Instant) -> Result<(), Ended> {
        self.help(copy, deadline)?;
        let since = Instant::now();
        while self.finished.load(Ordering::Acquire) < self.ranges.len().div_ceil(RANGES_PER_CALL) {
            if since.elapsed() > PATIENCE || Instant::now() >= deadline {
                copy.overtake();
                return copy.read_until(&self.ranges, Some(deadline));
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::MemoryExt;
    use pyst_snapshot::Address;

    const SOON: Duration = Duration::from_secs(100);

    /// Some bytes, and ranges in them that are apart.
    fn bytes_and_ranges() -> (Vec<u8>, Vec<Range>) {
        let bytes: Vec<u8> = (0..100 * MUCH).map(|index| (index / 7) as u8).collect();
        let start = bytes.as_ptr().addr() as u64;
        let range = |index: usize| Range::sized(Address(start + 50 * index as u64), 30).unwrap();
        (bytes, (0..2 * MUCH).map(range).collect())
    }

    fn check(copy: Copy, bytes: &[u8], ranges: &[Range]) {
        copy.close();
        assert_eq!(copy.bytes(), ranges.iter().map(|range| range.len()).sum::<u64>());
        let copied = copy.into_copied();
        for range in ranges {
            let at = (range.start.0 - bytes.as_ptr().addr() as u64) as usize;
            assert_eq!(copied.read_bytes(range.start, 30, 30).unwrap(), &bytes[at..at + 30]);
        }
    }

    #[test]
    fn two_read_each_range_once() {
        let (bytes, ranges) = bytes_and_ranges();
        let deadline = Instant::now() + SOON;
        for _ in 0..20 {
            let copy = Copy::of(nix::unistd::getpid());
            let together = Together::begin(ranges.clone());
            std::thread::scope(|scope| {
                // It may be overtaken.
                scope.spawn(|| together.help(&copy, deadline));
                together.finish(&copy, deadline).unwrap();
            });
            check(copy, &bytes, &ranges);
        }
    }

    #[test]
    fn what_the_other_one_does_not_finish_is_read_all_the_same() {
        let (bytes, ranges) = bytes_and_ranges();
        let copy = Copy::of(nix::unistd::getpid());
        // It has begun two of them, and got no further.
        let together = Together { begun: AtomicUsize::new(2), ..Together::begin(ranges.clone()) };
        together.finish(&copy, Instant::now() + SOON).unwrap();
        check(copy, &bytes, &ranges);
    }

    #[test]
    fn the_deadline_holds_and_little_is_not_worth_it() {
        let (_bytes, ranges) = bytes_and_ranges();
        let copy = Copy::of(nix::unistd::getpid());
        let together = Together::begin(ranges.clone());
        assert!(together.finish(&copy, Instant::now()).is_err());
        assert_eq!(copy.bytes(), 0);
        assert!(Together::of(&ranges[..10]).is_none());
    }
}
