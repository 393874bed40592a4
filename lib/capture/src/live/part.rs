//! Parts of a page, by grains: what is wanted of it, or known, as a mask with a bit for each.

use super::page::PAGE;
use pyst_snapshot::{Address, Range};

/// Holes of so many grains are read with what is around them: another range costs as much.
const SMALL_HOLE: u32 = 4;

/// As many bytes as a page has for each bit of a mask.
pub(crate) const GRAIN: usize = PAGE as usize / u64::BITS as usize;

/// What is wanted of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where the page starts.
    pub(crate) page: u64,
    /// The grains, one bit each.
    pub(crate) grains: u64,
}

impl Part {
    /// The part of a page, the one that starts there, that `range` is in.
    pub(crate) fn of(page: u64, range: Range) -> Part {
        let page_range = Range { start: Address(page), end: Address(page.saturating_add(PAGE)) };
        let range = page_range.intersect(range);
        Part { page, grains: grains(range.start.0.saturating_sub(page) as usize, range.len() as usize) }
    }

    /// Both parts of the same page.
    pub(crate) fn and(self, other: Part) -> Part {
        Part { grains: self.grains | other.grains, ..self }
    }

    /// The same without holes that cost more to leave out than to read.
    pub(crate) fn filled(self) -> Part {
        let mut filled = self.grains;
        let mut end_of_last: Option<u32> = None;
        for (start, end) in runs_of(self.grains) {
            if let Some(last) = end_of_last.filter(|last| start - last <= SMALL_HOLE) {
                filled |= grains(last as usize * GRAIN, (start - last) as usize * GRAIN);
            }
            end_of_last = Some(end);
        }
        Part { grains: filled, ..self }
    }

    /// The ranges that it is made of, ascending.
    pub(crate) fn ranges(self) -> impl Iterator<Item = Range> {
        let at = move |grain: u32| Address(self.page.saturating_add(u64::from(grain) * GRAIN as u64));
        runs_of(self.grains).map(move |(start, end)| Range { start: at(start), end: at(end) })
    }

    /// How many bytes that are.
    pub(crate) fn len(&self) -> usize {
        self.grains.count_ones() as usize * GRAIN
    }
}

/// The bits of the grains that so many bytes from `offset` on are in.
pub(crate) fn grains(offset: usize, length: usize) -> u64 {
    let (first, end) = (offset / GRAIN, offset.saturating_add(length).div_ceil(GRAIN));
    let below = |grain: usize| if grain < u64::BITS as usize { (1 << grain) - 1 } else { u64::MAX };
    below(end) & !below(first)
}

/// Where bits are set one after the other: the first, and the one after the last.
fn runs_of(mask: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + mask.checked_shr(at)?.trailing_zeros();
        let length = mask.checked_shr(start)?.trailing_ones();
        at = start + length;
        Some((start, at))
    })
}

/// The numbers of the bits that are set.
pub(crate) fn bits_of(mask: u64) -> impl Iterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |bit| mask & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_of_a_page_is_what_is_read_of_it() {
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        let parts = |part: Part| part.ranges().collect::<Vec<Range>>();
        let part = Part::of(0x1000, range(0xf00, 0x1001)).and(Part::of(0x1000, range(0x10ff, 0x1101)));
        assert_eq!(parts(part), [range(0x1000, 0x1040), range(0x10c0, 0x1140)]);
        assert_eq!(parts(part.filled()), [range(0x1000, 0x1140)]);
        let ends = Part::of(0x1000, range(0x1000, 0x1008)).and(Part::of(0x1000, range(0x1ff8, 0x3000)));
        assert_eq!(parts(ends.filled()), [range(0x1000, 0x1040), range(0x1fc0, 0x2000)]);
        assert_eq!(parts(Part::of(0x1000, range(0, 0x8000))), [range(0x1000, 0x2000)]);
        assert_eq!(parts(Part::of(0x1000, range(0x2000, 0x2008))), []);
    }
}
