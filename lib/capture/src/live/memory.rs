//! The memory of a living process, read while it runs: for looking only. Nothing read here enters a snapshot.

use super::procfs::Proc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_memory::{Memory, RangeSet, ReadError};
use pyst_snapshot::{Address, Range};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;

/// The unit in which memory is readable or not.
pub(crate) const PAGE: u64 = 4096;

/// Reads as long as this are scans, and are not kept.
const LONG_READ: usize = 64 << 10;

/// How many pages are kept; a look that reads more starts anew.
const MAX_PAGES: usize = 64 << 10;

/// Bits of an entry of `/proc/PID/pagemap`: the page is in memory, or swapped out.
/// (Linux, Documentation/admin-guide/mm/pagemap.rst)
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// How many of them are read at once.
const ENTRIES: usize = 64 << 10;

/// Memory by way of `process_vm_readv`, whole pages at a time. Each page is read once, so a look sees one value of each.
pub(crate) struct LiveMemory {
    pid: Pid,
    /// What the kernel tells of each page.
    pagemap: Option<File>,
    /// `None` for a page that cannot be read.
    pages: RefCell<HashMap<u64, Option<Box<[u8]>>>>,
}

impl LiveMemory {
    pub(crate) fn of(pid: Pid, proc: &Proc) -> LiveMemory {
        LiveMemory { pid, pagemap: File::open(proc.path("pagemap")).ok(), pages: RefCell::default() }
    }

    fn read_directly(&self, address: Address, buffer: &mut [u8]) -> Option<()> {
        let (Ok(base), len) = (usize::try_from(address.0), buffer.len()) else { return None };
        let got = process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &[RemoteIoVec { base, len }]);
        got.is_ok_and(|got| got == len).then_some(())
    }

    /// Copies from one page.
    fn read_in_page(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let page = address & !(PAGE - 1);
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= MAX_PAGES {
            pages.clear();
        }
        let bytes = pages.entry(page).or_insert_with(|| {
            let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
            self.read_directly(Address(page), &mut bytes).map(|()| bytes)
        });
        let offset = (address - page) as usize;
        buffer.copy_from_slice(bytes.as_ref()?.get(offset..offset.checked_add(buffer.len())?)?);
        Some(())
    }
}

impl Memory for LiveMemory {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let range = Range { start: address, end: Address(address.0.saturating_add(buffer.len() as u64)) };
        let unreadable = ReadError::Unreadable(range);
        if buffer.len() >= LONG_READ {
            return self.read_directly(address, buffer).ok_or(unreadable);
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
        let mut touched = RangeSet::new();
        let Some(pagemap) = &self.pagemap else { return vec![range] };
        let mut entries = vec![0; ENTRIES * 8];
        let mut start = range.start.0 & !(PAGE - 1);
        while start < range.end.0 {
            let pages = (range.end.0 - start).div_ceil(PAGE).min(ENTRIES as u64);
            let end = start.saturating_add(pages * PAGE);
            let place = entries.get_mut(..usize::try_from(pages * 8).unwrap_or(0)).unwrap_or_default();
            if pagemap.read_exact_at(place, start / PAGE * 8).is_err() {
                touched.insert(Range { start: Address(start), end: Address(end) }.intersect(range));
            } else {
                let (entries, _) = place.as_chunks();
                for (page, entry) in (start..end).step_by(PAGE as usize).zip(entries) {
                    if u64::from_le_bytes(*entry) & (PRESENT | SWAPPED) != 0 {
                        touched.insert(Range { start: Address(page), end: Address(page + PAGE) }.intersect(range));
                    }
                }
            }
            start = end;
        }
        touched.merged().to_vec()
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
}
