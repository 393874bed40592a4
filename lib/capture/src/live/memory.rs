//! The memory of a living process, read while it runs: for looking only. Nothing read here enters a snapshot.

use super::cache::{Known, PageCache, ROOM};
use super::maps;
use super::page::{PAGE, page_of};
use super::pagemap::Pagemap;
use super::part::Part;
use super::patience::Patience;
use super::procfs::Proc;
use super::row::Row;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_elf::Reach;
use pyst_memory::{Memory, RangeSet, ReadError};
use pyst_snapshot::payload::Map;
use pyst_snapshot::{Address, Range};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::Instant;

/// Reads as long as this are scans, and are not kept.
const LONG_READ: usize = 64 << 10;

/// How many pages are read with one call where it is known before which are wanted.
const PAGES_PER_CALL: usize = 64;

/// Of how many pages a part is read before it is asked for.
const MOST_PARTS: usize = 16 << 10;

/// How many ranges one call takes (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;

/// Memory by way of `process_vm_readv`, whole pages at a time. Each page is read once, so a look sees one value of each.
pub(crate) struct LiveMemory {
    pid: Pid,
    since: Instant,
    maps: Arc<Vec<Map>>,
    /// The files of local file systems that code is mapped from: they were open when the process started, and come in no time.
    code: HashSet<(u32, u32, u64)>,
    /// What the kernel tells of each page.
    pagemap: Pagemap,
    /// For those that are not in memory.
    patience: Patience,
    /// What was read; a look that reads more than is kept starts anew.
    pages: RefCell<PageCache>,
    /// Whether there were too many to keep.
    started_anew: Cell<bool>,
    /// Whether long reads are scans.
    scans: Cell<bool>,
    /// The pages that were read one by one last.
    row: Cell<Row>,
}

impl LiveMemory {
    pub(crate) fn of(pid: Pid, proc: &Proc, maps: &Arc<Vec<Map>>, reach: &Reach) -> LiveMemory {
        let is_served = |map: &Map| reach.is_served(Some((map.device_major, map.device_minor)));
        let is_code = |map: &&Map| map.is_executable() && map.inode != 0 && !is_served(map);
        LiveMemory {
            pid,
            since: Instant::now(),
            maps: Arc::clone(maps),
            code: maps.iter().filter(is_code).map(file).collect(),
            pagemap: Pagemap::of(proc),
            patience: Patience::with(pid),
            pages: RefCell::default(),
            started_anew: Cell::new(false),
            scans: Cell::new(true),
            row: Cell::default(),
        }
    }

    /// Whether the page that `address` is in comes in no time: it is in memory, swapped out, or of a file that code is mapped
    /// from.
    pub(crate) fn comes_at_once(&self, address: u64) -> bool {
        let is_of_code = || maps::find(&self.maps, Address(address)).is_some_and(|map| self.code.contains(&file(map)));
        self.pagemap.has(address) || is_of_code()
    }

    /// Whether the page that `address` is in comes in no time, or has come since it was first asked about.
    pub(crate) fn is_there(&self, address: u64) -> bool {
        let was_read = || self.pages.borrow().has(page_of(address));
        self.comes_at_once(address) || was_read()
    }

    /// Since when pages are read.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether the page that `address` is in was read, and is of no file.
    pub(crate) fn is_fresh(&self, address: u64) -> bool {
        let is_of_file = || maps::find(&self.maps, Address(address)).is_none_or(|map| file(map) != (0, 0, 0));
        self.pages.borrow().has(page_of(address)) && !is_of_file()
    }

    /// Says that of what was read nothing in `range` is wanted any more: if it is, it may have changed.
    pub(crate) fn unwant(&self, range: Range) {
        self.pages.borrow_mut().unwant(range);
    }

    /// Pages that were wanted, and did not come.
    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Says that nothing is searched for any more: what is read from now on is kept, however long it is.
    pub(crate) fn keep_long_reads(&self) {
        self.scans.set(false);
    }

    /// Whether all that was read is kept, so that it can be had once more as it was.
    pub(crate) fn kept_all(&self) -> bool {
        !self.started_anew.get()
    }

    /// Reads the pages of `ranges`, which are ascending and disjoint, so that they need not be read one by one.
    pub(crate) fn prefetch(&self, ranges: &[Range]) {
        let mut wanted: Vec<u64> = Vec::new();
        let known = |page: u64| self.pages.borrow().knows(page);
        for range in ranges {
            for page in (page_of(range.start.0)..range.end.0).step_by(PAGE as usize) {
                let is_new = wanted.last() != Some(&page) && !known(page);
                if is_new && wanted.len() < ROOM && self.pagemap.has(page) {
                    wanted.push(page);
                }
            }
        }
        self.make_room(wanted.len());
        for pages in wanted.chunks(PAGES_PER_CALL) {
            let remote = |page: &u64| Some(RemoteIoVec { base: usize::try_from(*page).ok()?, len: PAGE as usize });
            let remote: Vec<RemoteIoVec> = pages.iter().filter_map(remote).collect();
            // What is missing is read one by one when somebody asks.
            let read =
                |place: &mut [u8]| process_vm_readv(self.pid, &mut [IoSliceMut::new(place)], &remote).unwrap_or(0);
            self.pages.borrow_mut().add(pages, read);
        }
    }

    /// Reads of the pages of `ranges`, which are ascending and disjoint, what will be wanted: a little of each of many.
    fn prefetch_parts(&self, ranges: &[Range]) {
        let mut wanted: Vec<Part> = Vec::with_capacity(ranges.len());
        for range in ranges {
            for page in (page_of(range.start.0)..range.end.0).step_by(PAGE as usize) {
                let part = Part::of(page, *range);
                if let Some(last) = wanted.last_mut().filter(|last| last.page == page) {
                    *last = last.and(part);
                    continue;
                }
                let is_new = || self.pages.borrow().unknown_of(part).is_some() && self.pagemap.has(page);
                if wanted.len() < MOST_PARTS && is_new() {
                    wanted.push(part);
                }
            }
        }
        let pages = self.pages.borrow();
        let wanted: Vec<Part> = wanted.into_iter().filter_map(|part| pages.unknown_of(part.filled())).collect();
        drop(pages);
        for parts in wanted.chunks(PAGES_PER_CALL) {
            let remote = |range: Range| {
                let (base, len) = (usize::try_from(range.start.0).ok()?, usize::try_from(range.len()).ok()?);
                Some(RemoteIoVec { base, len })
            };
            let remote: Vec<RemoteIoVec> = parts.iter().flat_map(|part| part.ranges()).filter_map(remote).collect();
            let read =
                |place: &mut [u8]| process_vm_readv(self.pid, &mut [IoSliceMut::new(place)], &remote).unwrap_or(0);
            // What is missing is read, page by page, when somebody asks.
            if remote.len() > MAX_RANGES || !self.pages.borrow_mut().add_parts(parts, read) {
                return;
            }
        }
    }

    /// Makes room for as many pages.
    fn make_room(&self, pages: usize) {
        if !self.pages.borrow_mut().make_room(pages) {
            self.started_anew.set(true);
        }
    }

    fn read_directly(&self, address: Address, buffer: &mut [u8]) -> Option<()> {
        let (Ok(base), len) = (usize::try_from(address.0), buffer.len()) else { return None };
        let got = process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &[RemoteIoVec { base, len }]);
        got.is_ok_and(|got| got == len).then_some(())
    }

    /// Reads what of a long range can be had at once. What was never written to is zero, most of it.
    fn scan(&self, address: Address, buffer: &mut [u8]) -> Option<()> {
        let is_there = |at: u64| !at.is_multiple_of(PAGE) || self.comes_at_once(at);
        let end = address.0.checked_add(buffer.len() as u64)?;
        let first = page_of(address.0);
        if !self.pagemap.tells() || (first..end).step_by(PAGE as usize).all(is_there) {
            return self.read_directly(address, buffer);
        }
        let mut at = address.0;
        let mut rest = buffer;
        while !rest.is_empty() {
            let in_page = (PAGE - at % PAGE) as usize;
            let (now, later) = rest.split_at_mut(in_page.min(rest.len()));
            match self.comes_at_once(at) {
                true => self.read_directly(Address(at), now)?,
                false if maps::find(&self.maps, Address(at)).is_some() => now.fill(0),
                false => return None,
            }
            at = at.checked_add(now.len() as u64)?;
            rest = later;
        }
        Some(())
    }

    /// Copies from one page.
    fn read_in_page(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let mut known = self.pages.borrow_mut().read(address, buffer);
        if known == Known::Nothing {
            self.read_page(page_of(address));
            known = self.pages.borrow_mut().read(address, buffer);
        }
        (known == Known::Read).then_some(())
    }

    fn read_page(&self, page: u64) {
        let is_mapped = || maps::find(&self.maps, Address(page)).is_some();
        if self.comes_at_once(page) || !is_mapped() {
            let row = if self.pagemap.tells() { self.row.get().going_on_with(page) } else { Row::of(page) };
            self.read_row(row);
        } else if let Some(bytes) = self.patience.read(page) {
            self.make_room(1);
            self.pages.borrow_mut().add(&[page], |place| {
                place.copy_from_slice(&bytes);
                bytes.len()
            });
        }
        let mut pages = self.pages.borrow_mut();
        if !pages.knows(page) {
            pages.add_unreadable(page);
        }
    }

    /// Reads the first page of a row, and those of the others that come in no time.
    fn read_row(&self, row: Row) {
        let comes = |page: &u64| !self.pages.borrow().knows(*page) && self.pagemap.has(*page);
        let mut pages = row.pages();
        let pages: Vec<u64> = pages.next().into_iter().chain(pages.take_while(comes)).collect();
        self.make_room(pages.len());
        let remote = |page: &u64| Some(RemoteIoVec { base: usize::try_from(*page).ok()?, len: PAGE as usize });
        let remote: Vec<RemoteIoVec> = pages.iter().filter_map(remote).collect();
        let read = |place: &mut [u8]| process_vm_readv(self.pid, &mut [IoSliceMut::new(place)], &remote).unwrap_or(0);
        self.pages.borrow_mut().add(&pages, read);
        self.row.set(row.read_up_to(pages.last().copied()));
    }
}

fn file(map: &Map) -> (u32, u32, u64) {
    (map.device_major, map.device_minor, map.inode)
}

impl Memory for LiveMemory {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let range = Range { start: address, end: Address(address.0.saturating_add(buffer.len() as u64)) };
        let unreadable = ReadError::Unreadable(range);
        if buffer.len() >= LONG_READ && self.scans.get() {
            return self.scan(address, buffer).ok_or(unreadable);
        }
        let mut at = address.0;
        let mut rest = buffer;
        while !rest.is_empty() {
            let in_page = (PAGE - at % PAGE) as usize;
            let (now, later) = rest.split_at_mut(in_page.min(rest.len()));
            self.read_in_page(at, now).ok_or(unreadable)?;
            at = at.checked_add(now.len() as u64).ok_or(unreadable)?;
            rest = later;
        }
        Ok(())
    }

    /// Pages that are in memory or swapped out. Others are as they were mapped, and reading them would make the kernel
    /// provide them.
    fn touched(&self, range: Range) -> Vec<Range> {
        self.pagemap.touched(range).into_iter().map(|pages| pages.intersect(range)).collect()
    }

    fn expect(&self, mut ranges: RangeSet) {
        self.prefetch(ranges.merged());
    }

    fn expect_only(&self, mut ranges: RangeSet) {
        self.prefetch_parts(ranges.merged());
    }

    fn reads_ahead(&self) -> bool {
        true
    }
}

/// What of a memory comes in no time.
pub(crate) struct AtOnce<'a>(pub(crate) &'a LiveMemory);

impl Memory for AtOnce<'_> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let range = Range { start: address, end: Address(address.0.saturating_add(buffer.len() as u64)) };
        let first = page_of(range.start.0);
        if !(first..range.end.0).step_by(PAGE as usize).all(|page| self.0.comes_at_once(page)) {
            return Err(ReadError::Unreadable(range));
        }
        self.0.read(address, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::own_memory;
    use super::*;
    use pyst_memory::MemoryExt;

    #[test]
    fn only_what_was_written_to_is_touched() {
        const LENGTH: u64 = 64 << 20;
        let mut bytes = Vec::<u8>::with_capacity(LENGTH as usize);
        bytes.spare_capacity_mut()[LENGTH as usize / 2].write(1);
        let start = Address(bytes.as_ptr().addr() as u64);
        let touched = own_memory().touched(Range::sized(start, LENGTH).unwrap());
        assert!(touched.iter().any(|range| range.contains(Address(start.0 + LENGTH / 2))));
        // A huge page at most, and the allocator's own words.
        assert!(touched.iter().map(|range| range.len()).sum::<u64>() <= 4 << 20, "{touched:?}");
    }

    #[test]
    fn this_process_reads_itself_across_pages() {
        let bytes: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        let memory = own_memory();
        let at = Address(bytes.as_ptr().addr() as u64);
        assert_eq!(memory.read_bytes(at, 20_000, 20_000).unwrap(), bytes);
        let mut long = vec![0; 4 * LONG_READ];
        assert!(memory.read(Address(0), &mut long).is_err());
        assert!(matches!(memory.read_u64(Address(8)), Err(ReadError::Unreadable(_))));
        assert!(memory.read_u64(Address(u64::MAX - 3)).is_err());
    }

    #[test]
    fn pages_that_were_read_before_are_as_they_were() {
        let mut bytes = vec![7u8; 300 << 10];
        let memory = own_memory();
        let range = Range::sized(Address(bytes.as_ptr().addr() as u64), bytes.len() as u64).unwrap();
        memory.prefetch(&[range]);
        bytes.fill(8);
        std::hint::black_box(&mut bytes);
        assert_eq!(memory.read_array::<2>(Address(range.end.0 - 2)), Ok([7, 7]));
        assert_eq!(memory.read_array::<5000>(range.start), Ok([7; 5000]));
    }

    #[test]
    fn page_after_page_is_read_ahead_of_who_wants_it() {
        let mut bytes = vec![7u8; 64 << 12];
        let memory = own_memory();
        let page = |index: u64| Address(page_of(bytes.as_ptr().addr() as u64) + index * PAGE);
        let read = |index| memory.read_array::<1>(page(index));
        let places = [60, 59, 57, 56, 54, 53].map(page);
        assert_eq!([read(60), read(59), read(57)], [Ok([7]); 3]);
        bytes.fill(8);
        std::hint::black_box(&mut bytes);
        let now = places.map(|place| memory.read_array::<1>(place));
        assert_eq!(now, [Ok([7]), Ok([7]), Ok([7]), Ok([7]), Ok([7]), Ok([8])]);
    }

    #[test]
    fn of_a_long_range_what_was_never_written_is_zero() {
        const LENGTH: usize = 64 << 20;
        let mut bytes = Vec::<u8>::with_capacity(LENGTH);
        bytes.spare_capacity_mut()[0].write(7);
        let memory = own_memory();
        let long = memory.read_bytes(Address(bytes.as_ptr().addr() as u64), 32 << 20, 32 << 20).unwrap();
        assert_eq!((long[0], long[16 << 20]), (7, 0));
        let last = bytes.as_ptr().addr() as u64 + LENGTH as u64 - 1;
        assert!(!memory.comes_at_once(last), "reading it made the kernel provide it");
    }
}
