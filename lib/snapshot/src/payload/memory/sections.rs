//! A memory as sections: which ranges go into which, and their bytes, each read right into its place.
//!
//! A target may have more of it than is good to have twice. So the sections are made one after the other, and each byte is
//! asked for once, the lowest first.

use super::{ENTRY, HEADER, MAX_MEMORY_SECTION, Memory, table};
use crate::address::{Address, Range};
use crate::format::{SectionFlags, SectionKind};
use crate::payload::Payload;
use crate::snapshot::RawSection;
use crate::wire::WireError;

/// The first sections are as large as what a pipe holds, so that one is read while the next is made. Of a large memory the others
/// are so large that the C library gives each back to the kernel as soon as it is let go of.
const FIRST_SECTIONS: (usize, usize) = (16, 64 << 10);

/// The longest range that is not cut: it fits any section.
const LONGEST: usize = FIRST_SECTIONS.1 - HEADER - ENTRY;

/// What a section holds beside its header, when so many come before it.
fn capacity(before: usize) -> usize {
    let (first, small) = FIRST_SECTIONS;
    if before < first { small - HEADER } else { MAX_MEMORY_SECTION - HEADER }
}

/// What is to go into one section.
#[derive(Default)]
struct Content {
    read: Vec<Range>,
    unreadable: Vec<Range>,
    used: usize,
}

/// Makes `memory` sections of at most [`MAX_MEMORY_SECTION`] bytes each, at least one, and hands each to `take`: the bytes of
/// `read`, as `fill` puts them into their place, and `unreadable`; both are ascending and disjoint. A range of which `fill` says
/// that there are no bytes is left out. The ranges whose bytes are in the sections come back, ascending and disjoint.
///
/// # Errors
/// Something is too large for a section.
pub fn memory_sections(
    read: &[Range],
    unreadable: &[Range],
    fill: &mut dyn FnMut(Address, &mut [u8]) -> bool,
    take: &mut dyn FnMut(RawSection),
) -> Result<Vec<Range>, WireError> {
    let mut there = Vec::new();
    for content in distribute(read, unreadable) {
        let payload = content.encode(&mut there, fill)?;
        let (kind, flags) = (SectionKind::MEMORY, SectionFlags::default());
        take(RawSection { kind, flags, version: Memory::VERSION, payload });
    }
    Ok(there)
}

/// Fills one section after the other.
fn distribute(read: &[Range], unreadable: &[Range]) -> Vec<Content> {
    let mut full = Vec::new();
    let mut content = Content::default();
    let mut room_for = |content: &mut Content, cost: usize| {
        if content.used + cost > capacity(full.len()) {
            full.push(std::mem::take(content));
        }
        content.used += cost;
    };
    for range in unreadable {
        room_for(&mut content, ENTRY);
        content.unreadable.push(*range);
    }
    for range in read {
        let mut start = range.start;
        while start < range.end {
            let length = range.end.0.saturating_sub(start.0).min(LONGEST as u64);
            let end = Address(start.0.saturating_add(length));
            room_for(&mut content, ENTRY + length as usize);
            content.read.push(Range { start, end });
            start = end;
        }
    }
    full.push(content);
    full
}

impl Content {
    /// The payload. The ranges whose bytes are in it are added to `there`.
    fn encode(
        self,
        there: &mut Vec<Range>,
        fill: &mut dyn FnMut(Address, &mut [u8]) -> bool,
    ) -> Result<Vec<u8>, WireError> {
        let entry = |range: &Range| (range.start, range.len());
        let mut payload = table(self.read.iter().map(entry), &self.unreadable)?;
        let head = payload.len();
        payload.reserve_exact((HEADER + self.used).saturating_sub(head));
        let first = there.len();
        for range in &self.read {
            let at = payload.len();
            payload.resize(at + usize::try_from(range.len()).unwrap_or(0), 0);
            if fill(range.start, payload.get_mut(at..).unwrap_or_default()) {
                there.push(*range);
            } else {
                payload.truncate(at);
            }
        }
        let there = there.get(first..).unwrap_or_default();
        if there.len() < self.read.len() {
            payload.splice(..head, table(there.iter().map(entry), &self.unreadable)?);
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, length: u64) -> Range {
        Range::sized(Address(start), length).unwrap()
    }

    /// Some byte for each address.
    fn byte(address: u64) -> u8 {
        (address % 251) as u8
    }

    fn fill(start: Address, place: &mut [u8]) -> bool {
        place.iter_mut().zip(start.0..).for_each(|(place, address)| *place = byte(address));
        true
    }

    fn sections_of(
        read: &[Range],
        unreadable: &[Range],
        mut fill: impl FnMut(Address, &mut [u8]) -> bool,
    ) -> (Vec<RawSection>, Vec<Range>) {
        let mut sections = Vec::new();
        let there = memory_sections(read, unreadable, &mut fill, &mut |section| sections.push(section)).unwrap();
        (sections, there)
    }

    fn bytes_of(sections: &[RawSection]) -> Vec<(u64, u8)> {
        let parsed = sections.iter().flat_map(|section| Memory::parse(&section.payload).unwrap());
        let pieces = parsed.filter_map(|(range, bytes)| Some((range.start.0, bytes?)));
        pieces.flat_map(|(start, bytes)| (start..).zip(bytes.iter().copied())).collect()
    }

    #[test]
    fn large_content_is_split_and_comes_back_whole() {
        let read = [range(0x1000, 4 * MAX_MEMORY_SECTION as u64 + 5), range(0x9999_9999, 2)];
        let unreadable = [range(1, 8)];
        let (sections, there) = sections_of(&read, &unreadable, fill);
        assert!(sections.len() >= 3);
        assert!(sections.iter().all(|section| section.payload.len() <= MAX_MEMORY_SECTION));
        let sizes: Vec<usize> = sections.iter().map(|section| section.payload.len()).collect();
        assert!(
            sizes.iter().take(16).all(|size| *size <= 64 << 10) && sizes.iter().skip(16).any(|size| *size > 256 << 10)
        );
        let expected = read.iter().flat_map(|range| range.start.0..range.end.0).map(|at| (at, byte(at)));
        assert!(expected.eq(bytes_of(&sections)));
        let first = Memory::parse(&sections[0].payload).unwrap();
        assert!(first.contains(&(unreadable[0], None)));
        assert_eq!(there.last(), read.last());
    }

    #[test]
    fn each_byte_is_asked_for_once_and_in_order() {
        let read = [range(0x1000, 10), range(0x2000, 2 * MAX_MEMORY_SECTION as u64), range(0x9999_9999, 2)];
        let mut asked = 0;
        let asked_before = |start: Address, place: &mut [u8]| {
            assert!(start.0 >= asked);
            asked = start.0 + place.len() as u64;
            fill(start, place)
        };
        sections_of(&read, &[], asked_before);
        assert_eq!(asked, read[2].end.0);
    }

    #[test]
    fn a_range_without_bytes_is_left_out() {
        let read = [range(0x1000, 10), range(0x2000, 20), range(0x3000, 30)];
        let all = sections_of(&read, &[range(9, 1)], |start, place| start != read[1].start && fill(start, place));
        assert_eq!(all.1, [read[0], read[2]]);
        assert_eq!(all, sections_of(&all.1, &[range(9, 1)], fill));
    }

    #[test]
    fn of_nothing_there_is_a_section_that_says_so() {
        let (sections, _) = sections_of(&[], &[], fill);
        assert_eq!(sections.len(), 1);
        assert_eq!(Memory::parse(&sections[0].payload).unwrap(), []);
    }
}
