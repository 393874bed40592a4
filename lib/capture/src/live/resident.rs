//! Which pages are in memory, so that reading them cannot block.
//!
//! A page that is not there may have to come from a userfaultfd, a FUSE file system or NFS, and whoever reads it waits for
//! as long as that takes. One that is there is read in no time. So what was there right before the stop may be read by the
//! very thread that lets the target go, without handing over to another, which costs more than the reading itself.

use super::procfs::Proc;
use pyst_memory::RangeSet;
use pyst_snapshot::{Address, Range};
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

/// How many pages are asked about at most.
const MAX_PAGES: u64 = 1 << 16;

/// Bit 63 of an entry of `/proc/PID/pagemap`: the page is in memory. (Linux, Documentation/admin-guide/mm/pagemap.rst)
const PRESENT: u64 = 1 << 63;

/// Ranges that were in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resident {
    /// Ascending and disjoint.
    ranges: Vec<Range>,
}

impl Resident {
    /// What of `ranges` is in memory now; nothing where the kernel does not tell.
    pub(crate) fn among(ranges: impl IntoIterator<Item = Range>, proc: &Proc) -> Resident {
        match File::open(proc.path("pagemap")) {
            Ok(pagemap) => Resident::by(&pagemap, ranges),
            Err(_) => Resident::default(),
        }
    }

    /// The same by a pagemap that is open.
    pub(crate) fn by(pagemap: &File, ranges: impl IntoIterator<Item = Range>) -> Resident {
        let mut present = RangeSet::new();
        let mut left = MAX_PAGES;
        for range in ranges.into_iter().collect::<RangeSet>().rounded(PAGE).merged() {
            let pages = (range.len() / PAGE).min(left);
            left -= pages;
            let mut entries = vec![0; usize::try_from(pages * 8).unwrap_or(0)];
            if pagemap.read_exact_at(&mut entries, range.start.0 / PAGE * 8).is_err() {
                continue;
            }
            let mut start = range.start.0;
            for entry in entries.chunks_exact(8) {
                let entry = entry.first_chunk().map_or(0, |entry| u64::from_le_bytes(*entry));
                let end = start.saturating_add(PAGE);
                if entry & PRESENT != 0 {
                    present.insert(Range { start: Address(start), end: Address(end) });
                }
                start = end;
            }
        }
        Resident { ranges: present.merged().to_vec() }
    }

    /// What of `ranges`, ascending and disjoint, was in memory.
    pub(crate) fn part_of(&self, ranges: &[Range]) -> Vec<Range> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let first = self.ranges.partition_point(|resident| resident.end <= range.start);
            let met = self.ranges.iter().skip(first).take_while(|resident| resident.start < range.end);
            parts.extend(met.map(|resident| resident.intersect(*range)));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start: Address(start), end: Address(end) }
    }

    #[test]
    fn parts_are_what_both_hold() {
        let resident = Resident { ranges: vec![range(0x1000, 0x3000), range(0x5000, 0x6000)] };
        let ranges = [range(0x500, 0x1800), range(0x2800, 0x5800), range(0x7000, 0x8000)];
        let expected = [range(0x1000, 0x1800), range(0x2800, 0x3000), range(0x5000, 0x5800)];
        assert_eq!(resident.part_of(&ranges), expected);
    }

    #[test]
    fn pages_that_were_written_are_there_and_others_are_not() {
        let length = 16_384 * PAGE as usize;
        // So much comes fresh from the kernel, and is touched in one place only, which may bring a huge page.
        let mut bytes = Vec::<u8>::with_capacity(length);
        bytes.spare_capacity_mut()[length / 2].write(1);
        let start = bytes.as_ptr().addr() as u64;
        let resident = Resident::among([range(start, start + length as u64)], &Proc::of(std::process::id()));
        let touched = start + length as u64 / 2;
        assert_eq!(resident.part_of(&[range(touched, touched + 1)]), [range(touched, touched + 1)]);
        let count: u64 = resident.ranges.iter().map(|range| range.len() / PAGE).sum();
        assert!(count <= 1024, "{count} pages");
    }
}
