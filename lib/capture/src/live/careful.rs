//! A living process's memory, without the pages that reading would have to bring from elsewhere.
//!
//! Locals lead anywhere: to a file mapped over a network, to memory that a userfaultfd is to fill. Whoever reads a page there
//! waits for as long as that takes, which may be for ever. Pages that are in memory or swapped out, and those of files that
//! code is mapped from, come in no time.

use super::maps;
use super::page::PAGE;
use super::procfs::Proc;
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::payload::Map;
use pyst_snapshot::{Address, Range};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bits of an entry of `/proc/PID/pagemap`: the page is in memory, or swapped out.
/// (Linux, Documentation/admin-guide/mm/pagemap.rst)
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// A memory of which only some pages are read.
pub(crate) struct Careful<'a> {
    inner: &'a dyn Memory,
    pages: Rc<Pages<'a>>,
}

/// Which pages of a process are read without waiting for anybody.
pub(crate) struct Pages<'a> {
    maps: &'a [Map],
    /// The files that code is mapped from: device and inode.
    code: HashSet<(u32, u32, u64)>,
    /// Where the kernel does not tell, all is read.
    pagemap: Option<File>,
    known: RefCell<HashMap<u64, bool>>,
}

impl<'a> Careful<'a> {
    pub(crate) fn by(inner: &'a dyn Memory, pages: &Rc<Pages<'a>>) -> Careful<'a> {
        Careful { inner, pages: Rc::clone(pages) }
    }
}

impl<'a> Pages<'a> {
    pub(crate) fn of(maps: &'a [Map], proc: &Proc) -> Pages<'a> {
        let code = maps.iter().filter(|map| map.is_executable() && map.inode != 0).map(file).collect();
        let pagemap = File::open(proc.path("pagemap")).ok();
        Pages { maps, code, pagemap, known: RefCell::default() }
    }

    /// Forgets what it was told: pages come and go.
    pub(crate) fn forget(&self) {
        self.known.borrow_mut().clear();
    }

    /// Whether all of `range` may be read.
    pub(crate) fn may_be_read(&self, range: Range) -> bool {
        let first = range.start.0 & !(PAGE - 1);
        (first..range.end.0).step_by(PAGE as usize).all(|page| self.page_may_be_read(page))
    }

    fn page_may_be_read(&self, page: u64) -> bool {
        let Some(pagemap) = &self.pagemap else { return true };
        *self.known.borrow_mut().entry(page).or_insert_with(|| {
            let mut entry = [0; 8];
            let is_there = pagemap.read_exact_at(&mut entry, page / PAGE * 8).is_ok()
                && u64::from_le_bytes(entry) & (PRESENT | SWAPPED) != 0;
            let is_of_code = || maps::find(self.maps, Address(page)).is_some_and(|map| self.code.contains(&file(map)));
            is_there || is_of_code()
        })
    }
}

fn file(map: &Map) -> (u32, u32, u64) {
    (map.device_major, map.device_minor, map.inode)
}

impl Memory for Careful<'_> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let range = Range { start: address, end: Address(address.0.saturating_add(buffer.len() as u64)) };
        if !self.pages.may_be_read(range) {
            return Err(ReadError::Unreadable(range));
        }
        self.inner.read(address, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::own_memory;
    use super::*;
    use pyst_memory::MemoryExt;

    #[test]
    fn what_was_never_touched_is_not_read_and_what_was_is() {
        const LENGTH: usize = 64 << 20;
        let mut bytes = Vec::<u8>::with_capacity(LENGTH);
        bytes.spare_capacity_mut()[0].write(7);
        let (start, proc) = (bytes.as_ptr().addr() as u64, Proc::of(std::process::id()));
        let text = proc.read("maps").unwrap();
        let (maps, memory) = (maps::parse(&text), own_memory());
        let careful = Careful::by(&memory, &Rc::new(Pages::of(&maps, &proc)));
        assert_eq!(careful.read_array::<1>(Address(start)), Ok([7]));
        // A huge page at most is there with the first byte.
        let last = Address(start + LENGTH as u64 - PAGE);
        assert!(matches!(careful.read_u64(last), Err(ReadError::Unreadable(_))));
        let code = Address(maps::parse as *const () as usize as u64);
        assert!(careful.read_u64(code).is_ok());
    }
}
