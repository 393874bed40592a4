//! The memory of a living process, read while it runs: for looking only. Nothing read here enters a snapshot.

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::{Address, Range};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::IoSliceMut;

/// The unit in which memory is readable or not.
pub(crate) const PAGE: u64 = 4096;

/// Reads as long as this are scans, and are not kept.
const LONG_READ: usize = 64 << 10;

/// How many pages are kept; a look that reads more starts anew.
const MAX_PAGES: usize = 64 << 10;

/// Memory by way of `process_vm_readv`, whole pages at a time. Each page is read once, so a look sees one value of each.
pub(crate) struct LiveMemory {
    pid: Pid,
    /// `None` for a page that cannot be read.
    pages: RefCell<HashMap<u64, Option<Box<[u8]>>>>,
}

impl LiveMemory {
    pub(crate) fn of(pid: Pid) -> LiveMemory {
        LiveMemory { pid, pages: RefCell::default() }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::MemoryExt;

    #[test]
    fn this_process_reads_itself_across_pages() {
        let bytes: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        let memory = LiveMemory::of(nix::unistd::getpid());
        let at = Address(bytes.as_ptr().addr() as u64);
        assert_eq!(memory.read_bytes(at, 20_000, 20_000).unwrap(), bytes);
        let mut long = vec![0; 4 * LONG_READ];
        assert!(memory.read(Address(0), &mut long).is_err());
        assert!(matches!(memory.read_u64(Address(8)), Err(ReadError::Unreadable(_))));
        assert!(memory.read_u64(Address(u64::MAX - 3)).is_err());
    }
}
