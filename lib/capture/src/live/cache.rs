//! Pages of a target that were read, each as it was then.
//!
//! They lie in a mapping of their own, which takes no more memory than was written to it, and which the kernel has back as a
//! whole: a look may read more than all that comes after it needs.

use super::page::PAGE;
use memmap2::MmapMut;
use std::collections::HashMap;

/// How many pages are kept, 24 MiB.
pub(crate) const MAX_PAGES: usize = 6 << 10;

/// Pages by where they start.
#[derive(Default)]
pub(crate) struct PageCache {
    /// Made with the first page.
    room: Option<MmapMut>,
    /// How many pages of it are used.
    used: usize,
    /// Where in the room each page lies; `None` for one that cannot be read.
    places: HashMap<u64, Option<usize>>,
}

impl PageCache {
    /// How many pages more may be kept.
    pub(crate) fn left(&self) -> usize {
        MAX_PAGES.saturating_sub(self.places.len())
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.used = 0;
    }

    /// Whether this page was read, or could not be.
    pub(crate) fn knows(&self, page: u64) -> bool {
        self.places.contains_key(&page)
    }

    /// The bytes of a page, if it was read.
    pub(crate) fn get(&self, page: u64) -> Option<&[u8]> {
        let at = (*self.places.get(&page)?)?;
        self.room.as_ref()?.get(at..at.checked_add(PAGE as usize)?)
    }

    /// Adds these pages as `read` puts them into their places, one after the other, and says how many bytes that were: as many
    /// as are whole. There is to be room for them.
    pub(crate) fn add(&mut self, pages: &[u64], read: impl FnOnce(&mut [u8]) -> usize) {
        const SIZE: usize = PAGE as usize;
        if self.room.is_none() {
            self.room = MmapMut::map_anon(MAX_PAGES * SIZE).ok();
        }
        let first = self.used * SIZE;
        let end = first.saturating_add(pages.len().saturating_mul(SIZE));
        let place = self.room.as_mut().and_then(|room| room.get_mut(first..end));
        let got = place.map_or(0, read) / SIZE;
        self.places.extend(pages.iter().take(got).zip(0..).map(|(page, index)| (*page, Some(first + index * SIZE))));
        self.used += got.min(pages.len());
    }

    /// Notes that this page cannot be read.
    pub(crate) fn add_unreadable(&mut self, page: u64) {
        self.places.insert(page, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_as_they_were_and_those_that_were_cut_off_are_unknown() {
        let mut cache = PageCache::default();
        let size = PAGE as usize;
        cache.add(&[0x5000, 0x1000, 0x9000], |place| {
            assert_eq!(place.len(), 3 * size);
            place[..size].fill(5);
            place[size..2 * size].fill(1);
            2 * size + 100
        });
        cache.add_unreadable(0x7000);
        cache.add(&[0x2000], |place| {
            place.fill(2);
            place.len()
        });
        assert_eq!(cache.get(0x5000), Some(vec![5; size].as_slice()));
        assert_eq!(cache.get(0x1000), Some(vec![1; size].as_slice()));
        assert_eq!(cache.get(0x2000), Some(vec![2; size].as_slice()));
        assert!(!cache.knows(0x9000) && cache.knows(0x7000));
        assert_eq!((cache.get(0x9000), cache.get(0x7000)), (None, None));
        assert_eq!(cache.left(), MAX_PAGES - 4);
        cache.clear();
        assert_eq!((cache.left(), cache.get(0x2000)), (MAX_PAGES, None));
    }

    #[test]
    fn more_than_there_is_room_for_is_not_kept() {
        let mut cache = PageCache::default();
        let pages: Vec<u64> = (0..=MAX_PAGES as u64).map(|page| page * PAGE).collect();
        cache.add(&pages, |place| place.len());
        assert_eq!(cache.left(), MAX_PAGES);
    }
}
