//! What was read of a target's pages, each byte as it was then.
//!
//! Pages are read whole, for what lies beside is mostly wanted too, but a look at thousands of threads wants a little of
//! thousands of pages. So there is room for some whole pages, and when that is full what was wanted of them is packed. Where
//! it is known before what will be wanted, only that is read, and packed at once. Both lie in mappings of their own, which take
//! no more memory than was written to them, and which the kernel has back as a whole: a look may need more than all that comes
//! after it.

use super::page::{PAGE, page_of};
use super::part::{GRAIN, Part, bits_of, grains};
use memmap2::{Advice, MmapMut};
use pyst_snapshot::{Address, Range};
use std::collections::HashMap;

/// How many whole pages there is room for, 3 MiB.
pub(crate) const ROOM: usize = 768;

/// How many bytes are packed, more than of twenty thousand threads. Without them the walk is done anew during the stop.
const MAX_PACKED: usize = 128 << 20;

const SIZE: usize = PAGE as usize;

/// For so many bytes the kernel is asked for memory at once.
const TOUCHED_AT_ONCE: usize = 64 << 10;

/// Pages by where they start.
#[derive(Default)]
pub(crate) struct PageCache {
    places: HashMap<u64, Place>,
    whole: Room,
    packed: Room,
    /// Parts that have just been read.
    incoming: Vec<u8>,
}

/// A mapping that is made when it is needed, of which the first bytes are used.
#[derive(Default)]
struct Room {
    mapping: Option<MmapMut>,
    /// How many bytes the kernel has found memory for.
    touched: usize,
    used: usize,
}

/// Where a page lies.
#[derive(Clone, Copy)]
enum Place {
    /// Nowhere: it cannot be read.
    Unreadable,
    /// The whole of it. Of the grains with these bits something was wanted.
    Whole(usize, u64),
    /// One after the other, the grains with these bits.
    Packed(usize, u64),
}

/// What is known of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// They were read.
    Read,
    /// They cannot be read.
    Unreadable,
    /// Nothing: their page has to be read.
    Nothing,
}

impl PageCache {
    /// Makes room for so many whole pages; false if that was to be had by forgetting all only.
    pub(crate) fn make_room(&mut self, pages: usize) -> bool {
        if self.whole.used + pages.saturating_mul(SIZE) <= ROOM * SIZE || self.pack().is_some() {
            return true;
        }
        self.places.clear();
        (self.whole.used, self.packed.used) = (0, 0);
        false
    }

    /// Whether anything is known of a page.
    pub(crate) fn knows(&self, page: u64) -> bool {
        self.places.contains_key(&page)
    }

    /// Whether a page was read.
    pub(crate) fn has(&self, page: u64) -> bool {
        matches!(self.places.get(&page), Some(Place::Whole(..) | Place::Packed(..)))
    }

    /// What of a part is not known and can be added.
    pub(crate) fn unknown_of(&self, part: Part) -> Option<Part> {
        let known = match self.places.get(&part.page) {
            None => 0,
            Some(Place::Packed(_, grains)) => *grains,
            Some(Place::Whole(..) | Place::Unreadable) => return None,
        };
        let grains = part.grains & !known;
        (grains != 0).then_some(Part { grains, ..part })
    }

    /// Fills `buffer` with the bytes from `address` on, which are of one page.
    pub(crate) fn read(&mut self, address: u64, buffer: &mut [u8]) -> Known {
        let offset = (address - page_of(address)) as usize;
        let wanted = grains(offset, buffer.len());
        let bytes = match self.places.get_mut(&page_of(address)) {
            None => return Known::Nothing,
            Some(Place::Unreadable) => return Known::Unreadable,
            Some(Place::Whole(at, read)) => {
                *read |= wanted;
                self.whole.get(*at + offset, buffer.len())
            }
            Some(Place::Packed(_, grains)) if wanted & !*grains != 0 => return Known::Nothing,
            Some(Place::Packed(at, grains)) => {
                // All that is wanted is there, so that it is in one piece.
                let before = (*grains & (wanted & wanted.wrapping_neg()).wrapping_sub(1)).count_ones() as usize;
                self.packed.get(*at + before * GRAIN + offset % GRAIN, buffer.len())
            }
        };
        let Some(bytes) = bytes else { return Known::Nothing };
        buffer.copy_from_slice(bytes);
        Known::Read
    }

    /// Adds these pages, for which there is room, as `read` puts them into their places one after the other, and says how many
    /// bytes that were: as many as are whole. What was wanted of a page before stays as it was.
    pub(crate) fn add(&mut self, pages: &[u64], read: impl FnOnce(&mut [u8]) -> usize) {
        let first = self.whole.used;
        let Some(place) = self.whole.next(pages.len().saturating_mul(SIZE), ROOM * SIZE) else { return };
        let got = read(place) / SIZE;
        for (page, at) in pages.iter().take(got).zip((first..).step_by(SIZE)) {
            let (packed, before) = match self.places.get(page) {
                Some(Place::Packed(packed, grains)) => (*packed, *grains),
                _ => (0, 0),
            };
            for (index, grain) in bits_of(before).enumerate() {
                let from = self.packed.get(packed + index * GRAIN, GRAIN);
                let to = self.whole.get_mut(at + grain * GRAIN, GRAIN);
                from.zip(to).into_iter().for_each(|(from, to)| to.copy_from_slice(from));
            }
            self.places.insert(*page, Place::Whole(at, before));
        }
        self.whole.used = first + got.min(pages.len()) * SIZE;
    }

    /// Adds of pages what was [unknown](PageCache::unknown_of) of them, as `read` puts it into its place one after the other,
    /// and says how many bytes that were: as many parts as are whole. False if there is no room.
    pub(crate) fn add_parts(&mut self, parts: &[Part], read: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let mut bytes = std::mem::take(&mut self.incoming);
        bytes.resize(parts.iter().map(Part::len).sum(), 0);
        let got = read(&mut bytes);
        let mut rest = bytes.get(..got).unwrap_or(&bytes);
        let has_room = parts.iter().map_while(|part| Some((part, rest.split_off(..part.len())?)));
        let has_room = has_room.fold(true, |has_room, (part, new)| has_room && self.add_part(*part, new).is_some());
        self.incoming = bytes;
        has_room
    }

    /// Packs a part together with what is packed of its page: where that lay is lost room, a little of a page.
    fn add_part(&mut self, part: Part, new: &[u8]) -> Option<()> {
        let (old, known) = match self.places.get(&part.page) {
            None => (0, 0),
            Some(Place::Packed(at, grains)) => (*at, *grains),
            Some(Place::Whole(..) | Place::Unreadable) => return Some(()),
        };
        let grains = known | part.grains;
        let (at, length) = (self.packed.used, grains.count_ones() as usize * GRAIN);
        let (before, place) = self.packed.before_and_next(length, MAX_PACKED)?;
        let mut old = before.get(old..)?.chunks_exact(GRAIN);
        let mut new = new.chunks_exact(GRAIN);
        for (grain, to) in bits_of(grains).zip(place.chunks_exact_mut(GRAIN)) {
            let from = if known & (1 << grain) != 0 { old.next() } else { new.next() };
            to.copy_from_slice(from?);
        }
        self.places.insert(part.page, Place::Packed(at, grains));
        Some(())
    }

    /// Says that of what was read nothing in `range` is wanted any more.
    pub(crate) fn unwant(&mut self, range: Range) {
        for page in (page_of(range.start.0)..range.end.0).step_by(SIZE) {
            if let Some(Place::Whole(_, read)) = self.places.get_mut(&page) {
                let part = range.intersect(Range { start: Address(page), end: Address(page.saturating_add(PAGE)) });
                // A grain of which another part is wanted stays.
                let start = (part.start.0 - page).div_ceil(GRAIN as u64) as usize * GRAIN;
                let end = (part.end.0.saturating_sub(page) as usize) / GRAIN * GRAIN;
                *read &= !grains(start, end.saturating_sub(start));
            }
        }
    }

    /// Notes that this page cannot be read.
    pub(crate) fn add_unreadable(&mut self, page: u64) {
        self.places.insert(page, Place::Unreadable);
    }

    /// Packs what was wanted of the whole pages, and forgets the rest; `None` if there is too much.
    fn pack(&mut self) -> Option<()> {
        let PageCache { places, whole, packed, .. } = self;
        places.retain(|_, place| !matches!(place, Place::Whole(_, 0)));
        for place in places.values_mut() {
            if let Place::Whole(at, read) = *place {
                let start = packed.used;
                for grain in bits_of(read) {
                    let bytes = whole.get(at + grain * GRAIN, GRAIN)?;
                    packed.next(GRAIN, MAX_PACKED)?.copy_from_slice(bytes);
                }
                *place = Place::Packed(start, read);
            }
        }
        whole.used = 0;
        Some(())
    }
}

impl Room {
    fn get(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.mapping.as_ref()?.get(at..at.checked_add(length)?)
    }

    fn get_mut(&mut self, at: usize, length: usize) -> Option<&mut [u8]> {
        self.mapping.as_mut()?.get_mut(at..at.checked_add(length)?)
    }

    /// The next so many bytes of at most `size`, from now on used.
    fn next(&mut self, length: usize, size: usize) -> Option<&mut [u8]> {
        self.before_and_next(length, size).map(|(_, next)| next)
    }

    /// The same with those that were used before.
    fn before_and_next(&mut self, length: usize, size: usize) -> Option<(&[u8], &mut [u8])> {
        if self.mapping.is_none() {
            // Somebody may have limited what there is of addresses.
            let sizes = std::iter::successors(Some(size), |size| Some(size / 2)).take(4);
            self.mapping = { sizes }.find_map(|size| MmapMut::map_anon(size).ok());
        }
        let at = self.used;
        let end = at.checked_add(length)?;
        let mapping = self.mapping.as_mut().filter(|mapping| end <= mapping.len())?;
        if end > self.touched {
            // One call for many pages, for to be interrupted for each of them takes longer. An older kernel does that.
            let more = end.saturating_sub(self.touched).next_multiple_of(TOUCHED_AT_ONCE);
            let more = more.min(mapping.len() - self.touched);
            let _ = mapping.advise_range(Advice::PopulateWrite, self.touched, more);
            self.touched += more;
        }
        self.used = end;
        let (before, next) = mapping.get_mut(..end)?.split_at_mut_checked(at)?;
        Some((before, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some byte for each address, which is another at another time.
    fn byte(address: u64, time: u8) -> u8 {
        (address / 8).wrapping_mul(31).wrapping_add(address) as u8 ^ time
    }

    fn add(cache: &mut PageCache, pages: &[u64], time: u8) {
        cache.add(pages, |place| {
            let addresses = pages.iter().flat_map(|page| *page..page + PAGE);
            place.iter_mut().zip(addresses).for_each(|(place, address)| *place = byte(address, time));
            place.len()
        });
    }

    fn read(cache: &mut PageCache, address: u64, length: usize) -> Result<Vec<u8>, Known> {
        let mut bytes = vec![0; length];
        match cache.read(address, &mut bytes) {
            Known::Read => Ok(bytes),
            other => Err(other),
        }
    }

    fn as_of(address: u64, length: u64, time: u8) -> Result<Vec<u8>, Known> {
        Ok((address..address + length).map(|address| byte(address, time)).collect())
    }

    #[test]
    fn pages_come_back_as_they_were_and_those_that_were_cut_off_are_unknown() {
        let mut cache = PageCache::default();
        cache.add(&[0x5000, 0x1000, 0x9000], |place| {
            assert_eq!(place.len(), 3 * SIZE);
            place[..SIZE].fill(5);
            place[SIZE..2 * SIZE].fill(1);
            2 * SIZE + 100
        });
        cache.add_unreadable(0x7000);
        add(&mut cache, &[0x2000], 0);
        assert_eq!(read(&mut cache, 0x5000, SIZE), Ok(vec![5; SIZE]));
        assert_eq!(read(&mut cache, 0x1fff, 1), Ok(vec![1]));
        assert_eq!(read(&mut cache, 0x2000, SIZE), as_of(0x2000, PAGE, 0));
        assert_eq!(read(&mut cache, 0x9000, 1), Err(Known::Nothing));
        assert_eq!(read(&mut cache, 0x7000, 1), Err(Known::Unreadable));
        assert!(cache.knows(0x7000) && !cache.knows(0x9000) && !cache.has(0x7000) && cache.has(0x1000));
    }

    #[test]
    fn what_was_wanted_stays_as_it_was_when_there_is_no_room_for_whole_pages() {
        let mut cache = PageCache::default();
        let wanted = [(0x1000, 8), (0x1fc0, 64), (0x13f8, 16), (0x1800, 200)];
        add(&mut cache, &[0x1000, 0x2000], 1);
        for (address, length) in wanted {
            assert_eq!(read(&mut cache, address, length), as_of(address, length as u64, 1));
        }
        assert!(cache.make_room(ROOM));
        assert!(cache.has(0x1000) && !cache.knows(0x2000), "nothing of it was wanted");
        let stays = |cache: &mut PageCache| {
            for (address, length) in wanted {
                assert_eq!(read(cache, address, length), as_of(address, length as u64, 1));
            }
        };
        stays(&mut cache);
        assert_eq!(read(&mut cache, 0x1040, 1), Err(Known::Nothing));
        assert_eq!(read(&mut cache, 0x17f8, 16), Err(Known::Nothing));
        // Its page is read once more, at another time.
        add(&mut cache, &[0x3000, 0x1000], 2);
        stays(&mut cache);
        assert_eq!(read(&mut cache, 0x1040, 8), as_of(0x1040, 8, 2));
        assert!(cache.make_room(ROOM));
        stays(&mut cache);
        assert_eq!(read(&mut cache, 0x1040, 8), as_of(0x1040, 8, 2));
    }

    #[test]
    fn parts_that_were_cut_off_are_unknown_and_the_rest_of_a_page_can_be_read_later() {
        let mut cache = PageCache::default();
        let part = |page: u64, from: u64, to: u64| Part::of(page, Range { start: Address(from), end: Address(to) });
        let parts = [part(0x1000, 0x1080, 0x1100).and(part(0x1000, 0x1400, 0x1440)), part(0x2000, 0x2000, 0x2080)];
        assert!(cache.add_parts(&parts, |place| {
            let addresses = parts.iter().flat_map(|part| part.ranges()).flat_map(|range| range.start.0..range.end.0);
            place.iter_mut().zip(addresses).for_each(|(place, address)| *place = byte(address, 1));
            place.len() - 1
        }));
        assert!(cache.has(0x1000) && !cache.knows(0x2000));
        assert_eq!(cache.packed.used, 0xc0);
        assert_eq!(read(&mut cache, 0x1081, 0x7f), as_of(0x1081, 0x7f, 1));
        assert_eq!(read(&mut cache, 0x1400, 0x40), as_of(0x1400, 0x40, 1));
        assert_eq!(read(&mut cache, 0x1100, 1), Err(Known::Nothing));
        // More of the same page, at another time.
        let more = part(0x1000, 0x1000, 0x1180);
        let unknown = cache.unknown_of(more).unwrap();
        assert_eq!(unknown, part(0x1000, 0x1000, 0x1080).and(part(0x1000, 0x1100, 0x1180)));
        assert!(cache.add_parts(&[unknown], |place| {
            let addresses = (0x1000..0x1080).chain(0x1100..0x1180);
            place.iter_mut().zip(addresses).for_each(|(place, address)| *place = byte(address, 2));
            place.len()
        }));
        assert_eq!(read(&mut cache, 0x1108, 0x70), as_of(0x1108, 0x70, 2));
        assert_eq!(read(&mut cache, 0x1081, 0x7f), as_of(0x1081, 0x7f, 1));
        assert_eq!(read(&mut cache, 0x10f8, 8), as_of(0x10f8, 8, 1));
        // And more.
        let last = cache.unknown_of(part(0x1000, 0x1100, 0x1240)).unwrap();
        assert_eq!(last, part(0x1000, 0x1180, 0x1240));
        assert!(cache.add_parts(&[last], |place| {
            place.iter_mut().zip(0x1180..).for_each(|(place, address)| *place = byte(address, 3));
            place.len()
        }));
        assert_eq!(read(&mut cache, 0x1100, 0x80), as_of(0x1100, 0x80, 2));
        assert_eq!(read(&mut cache, 0x1180, 0xc0), as_of(0x1180, 0xc0, 3));
        assert_eq!(read(&mut cache, 0x1240, 8), Err(Known::Nothing));
        add(&mut cache, &[0x1000], 3);
        assert_eq!(read(&mut cache, 0x1081, 0x7f), as_of(0x1081, 0x7f, 1));
        assert_eq!(read(&mut cache, 0x1100, 0x80), as_of(0x1100, 0x80, 2));
        assert_eq!(read(&mut cache, 0x1180, 0x280), as_of(0x1180, 0x280, 3));
        assert_eq!(read(&mut cache, 0x1400, 0x40), as_of(0x1400, 0x40, 1));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_packed() {
        let mut cache = PageCache::default();
        add(&mut cache, &[0x1000, 0x2000], 1);
        assert_eq!(read(&mut cache, 0x1000, SIZE), as_of(0x1000, PAGE, 1));
        assert_eq!(read(&mut cache, 0x2000, SIZE), as_of(0x2000, PAGE, 1));
        cache.unwant(Range { start: Address(0x1108), end: Address(0x2044) });
        assert!(cache.make_room(ROOM));
        assert_eq!(cache.packed.used, 0x140 + SIZE - GRAIN);
        assert_eq!(read(&mut cache, 0x1000, 0x140), as_of(0x1000, 0x140, 1));
        assert_eq!(read(&mut cache, 0x2040, 0x100), as_of(0x2040, 0x100, 1));
        assert_eq!(read(&mut cache, 0x1140, 8), Err(Known::Nothing));
        assert_eq!(read(&mut cache, 0x2000, 8), Err(Known::Nothing));
    }

    #[test]
    fn all_is_forgotten_when_even_what_was_wanted_is_too_much() {
        let mut cache = PageCache::default();
        let mut page = 0;
        let forgot = loop {
            if !cache.make_room(1) {
                break page;
            }
            add(&mut cache, &[page], 0);
            assert_eq!(read(&mut cache, page, SIZE), as_of(page, PAGE, 0));
            page += PAGE;
        };
        assert!(forgot as usize > MAX_PACKED && (forgot as usize) < MAX_PACKED + (2 * ROOM * SIZE));
        assert!(!cache.knows(0));
        add(&mut cache, &[0], 1);
        assert_eq!(read(&mut cache, 0, SIZE), as_of(0, PAGE, 1));
    }
}
