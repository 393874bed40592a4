//! Which pages of a process are in memory, so that reading them cannot block.
//!
//! A page that is not there may have to come from a userfaultfd, a FUSE file system or NFS, and whoever reads it waits for
//! as long as that takes. One that is there is read in no time.

use super::page::PAGE;
use super::procfs::Proc;
use pyst_snapshot::{Address, Range};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bits of an entry of `/proc/PID/pagemap`: the page is in memory, or swapped out.
/// (Linux, Documentation/admin-guide/mm/pagemap.rst)
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// How many pages are asked about at once: a question costs the same for one and for these.
const WINDOW: u64 = 32;

/// How many pages from the first on are asked about with it while a process is stopped, if others of them are wanted.
const NEARBY: u64 = 16;

/// How many entries are read at once where a long range is asked about.
const ENTRIES: usize = 64 << 10;

/// `/proc/PID/pagemap`
#[derive(Clone)]
pub(crate) struct Pagemap {
    /// Not there where the kernel does not tell.
    file: Option<Arc<File>>,
    /// What was asked before: the first page of each window, and a bit for each of its pages.
    windows: RefCell<HashMap<u64, u32>>,
    /// The last of them: who asks about one page asks about its neighbours.
    last: Cell<Option<(u64, u32)>>,
}

impl Pagemap {
    pub(crate) fn of(proc: &Proc) -> Pagemap {
        Pagemap {
            file: File::open(proc.path("pagemap")).ok().map(Arc::new),
            windows: RefCell::default(),
            last: Cell::default(),
        }
    }

    /// Whether the kernel tells.
    pub(crate) fn tells(&self) -> bool {
        self.file.is_some()
    }

    /// Whether the page that `address` is in is in memory or swapped out, or was when it was first asked about; yes where
    /// the kernel does not tell.
    pub(crate) fn has(&self, address: u64) -> bool {
        if !self.tells() {
            return true;
        }
        let (window, page) = (address / PAGE / WINDOW, address / PAGE % WINDOW);
        let found = || *self.windows.borrow_mut().entry(window).or_insert_with(|| self.read_window(window));
        let bits = match self.last.get() {
            Some((last, bits)) if last == window => bits,
            _ => found(),
        };
        self.last.set(Some((window, bits)));
        bits & (1 << page) != 0
    }

    fn read_window(&self, window: u64) -> u32 {
        let mut entries = [0; WINDOW as usize * 8];
        let Some(file) = &self.file else { return u32::MAX };
        let Ok(length) = file.read_at(&mut entries, window.saturating_mul(WINDOW * 8)) else { return 0 };
        let entries = entries.get(..length).unwrap_or_default().as_chunks().0;
        let bit = |entry: &[u8; 8]| u32::from(u64::from_le_bytes(*entry) & (PRESENT | SWAPPED) != 0);
        entries.iter().enumerate().map(|(page, entry)| bit(entry) << page).sum()
    }

    /// What of `ranges`, ascending and disjoint, is in memory right now; all of it where the kernel does not tell.
    pub(crate) fn present(&self, ranges: &[Range]) -> Vec<Range> {
        let Some(file) = &self.file else { return ranges.to_vec() };
        let mut present: Vec<Range> = Vec::with_capacity(ranges.len() + 8);
        let mut entries = [0; NEARBY as usize * 8];
        // The pages that the entries are of.
        let (mut first, mut end) = (0, 0);
        for range in ranges {
            let last = range.end.0.saturating_sub(1) / PAGE;
            for page in range.start.0 / PAGE..=last {
                if !(first..end).contains(&page) {
                    let wanted = pages_nearby(page, ranges, range);
                    let place = entries.get_mut(..wanted * 8).unwrap_or_default();
                    let length = file.read_at(place, page.saturating_mul(8)).unwrap_or(0);
                    (first, end) = (page, page.saturating_add(length as u64 / 8));
                }
                let entry = usize::try_from(page.saturating_sub(first)).ok();
                let entry = entry.and_then(|at| entries.as_chunks::<8>().0.get(at)).filter(|_| page < end);
                if entry.is_none_or(|entry| u64::from_le_bytes(*entry) & PRESENT == 0) {
                    continue;
                }
                let start = Address(page.saturating_mul(PAGE)).max(range.start);
                let part = Range { start, end: Address(page.saturating_add(1).saturating_mul(PAGE)).min(range.end) };
                match present.last_mut() {
                    Some(last) if last.end == part.start && last.start >= range.start => last.end = part.end,
                    _ => present.push(part),
                }
            }
        }
        present
    }

    /// What of `range` is in memory or swapped out now, as whole pages; all of it where the kernel does not tell.
    pub(crate) fn touched(&self, range: Range) -> Vec<Range> {
        self.pages_with(PRESENT | SWAPPED, range)
    }

    /// The pages of `range` whose entry has one of these bits.
    fn pages_with(&self, bits: u64, range: Range) -> Vec<Range> {
        let Some(file) = &self.file else { return vec![range] };
        let mut touched: Vec<Range> = Vec::new();
        let mut add = |start: u64, end: u64| match touched.last_mut() {
            Some(last) if last.end.0 == start => last.end = Address(end),
            _ => touched.push(Range { start: Address(start), end: Address(end) }),
        };
        let mut entries = vec![0; usize::try_from(range.len() / PAGE + 2).unwrap_or(ENTRIES).min(ENTRIES) * 8];
        let mut start = range.start.0 & !(PAGE - 1);
        while start < range.end.0 {
            let pages = (range.end.0 - start).div_ceil(PAGE).min(entries.len() as u64 / 8);
            let end = start.saturating_add(pages.saturating_mul(PAGE));
            let place = entries.get_mut(..usize::try_from(pages * 8).unwrap_or(0)).unwrap_or_default();
            if file.read_exact_at(place, start / PAGE * 8).is_err() {
                add(start, end);
            } else {
                for (page, entry) in (start..end).step_by(PAGE as usize).zip(place.as_chunks().0) {
                    if u64::from_le_bytes(*entry) & bits != 0 {
                        add(page, page.saturating_add(PAGE));
                    }
                }
            }
            start = end;
        }
        touched
    }
}

/// How many pages to ask about from `page` on, which is one of `range` of `ranges`: up to the last that is wanted nearby.
fn pages_nearby(page: u64, ranges: &[Range], range: &Range) -> usize {
    let limit = page.saturating_add(NEARBY);
    let at = ranges.partition_point(|other| other.start < range.start);
    let wanted = ranges.iter().skip(at).take_while(|other| other.start.0 / PAGE < limit);
    let last = wanted.map(|other| other.end.0.saturating_sub(1) / PAGE).last().unwrap_or(page);
    usize::try_from(last.saturating_add(1).min(limit).saturating_sub(page)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_written_are_there_and_others_are_not() {
        let length = 16_384 * PAGE as usize;
        // So much comes fresh from the kernel, and is touched in one place only, which may bring a huge page.
        let mut bytes = Vec::<u8>::with_capacity(length);
        bytes.spare_capacity_mut()[length / 2].write(1);
        let start = bytes.as_ptr().addr() as u64;
        let pagemap = Pagemap::of(&Proc::of(std::process::id()));
        let touched = start + length as u64 / 2;
        assert!(pagemap.has(touched));
        let there = pagemap.touched(Range { start: Address(start), end: Address(start + length as u64) });
        assert!(there.iter().any(|range| range.contains(Address(touched))));
        let count: u64 = there.iter().map(|range| range.len() / PAGE).sum();
        assert!(count <= 1024, "{count} pages");
        let parts = pagemap.present(&[Range { start: Address(touched + 1), end: Address(touched + 3) }]);
        assert_eq!(parts, [Range { start: Address(touched + 1), end: Address(touched + 3) }]);
        let last = start + length as u64 - 1;
        assert!(!pagemap.has(last));
        bytes.spare_capacity_mut()[length - 1].write(1);
        assert!(!pagemap.has(last), "as it was");
    }

    #[test]
    fn of_many_ranges_the_parts_are_told_that_are_there() {
        let pages = 64;
        let mut bytes = Vec::<u8>::with_capacity((pages + 1) * PAGE as usize * 512);
        // Every other page of some, where no huge page can be.
        let start = bytes.as_ptr().addr().next_multiple_of(PAGE as usize);
        let offset = start - bytes.as_ptr().addr();
        let written = |page: usize| !page.is_multiple_of(3);
        for page in (0..pages).filter(|page| written(*page)) {
            bytes.spare_capacity_mut()[offset + page * PAGE as usize].write(1);
        }
        let pagemap = Pagemap::of(&Proc::of(std::process::id()));
        let range = |from: u64, to: u64| Range { start: Address(start as u64 + from), end: Address(start as u64 + to) };
        let ranges: Vec<Range> = (0..pages as u64).map(|page| range(page * PAGE + 8, page * PAGE + 100)).collect();
        let one_by_one =
            ranges.iter().filter(|range| pagemap.touched(**range).iter().any(|pages| pages.contains(range.start)));
        assert_eq!(pagemap.present(&ranges), one_by_one.copied().collect::<Vec<Range>>());
        let across = range(3 * PAGE + 5, 9 * PAGE - 5);
        let parts: Vec<Range> = pagemap.touched(across).iter().map(|pages| pages.intersect(across)).collect();
        assert_eq!(pagemap.present(&[across]), parts);
    }

    #[test]
    fn nothing_is_there_where_nothing_can_be() {
        let pagemap = Pagemap::of(&Proc::of(std::process::id()));
        assert!(!pagemap.has(0) && !pagemap.has(u64::MAX));
    }
}
