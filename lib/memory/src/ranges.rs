//! Sets of addresses.

use pyst_snapshot::{Address, Range};

/// A set of addresses as disjoint ranges. Cheap to add to; sorted and merged when it is read.
#[derive(Clone, Debug, Default)]
pub struct RangeSet {
    ranges: Vec<Range>,
    /// How many leading ranges are known to be ascending, disjoint and apart.
    merged: usize,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> RangeSet {
        RangeSet::default()
    }

    /// Adds a range; an empty one changes nothing.
    pub fn insert(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        // A walk reads the same structure many times over, and stacks word by word: most ranges lie in or at the one added last.
        // A merged one is the highest then, which may grow upwards only.
        let may_grow_down = self.ranges.len() > self.merged;
        if let Some(last) = self.ranges.last_mut()
            && range.start <= last.end
            && (last.start <= range.start || may_grow_down && last.start <= range.end)
        {
            last.start = last.start.min(range.start);
            last.end = last.end.max(range.end);
            return;
        }
        self.ranges.push(range);
        // Bounds the memory of a walk that reads the same bytes again and again.
        if self.ranges.len() > 2 * self.merged + 4096 {
            self.merge();
        }
    }

    /// The set as ascending, disjoint ranges that do not touch.
    pub fn merged(&mut self) -> &[Range] {
        self.merge();
        &self.ranges
    }

    /// The same, of a set that is not needed any more.
    #[must_use]
    pub fn into_merged(mut self) -> Vec<Range> {
        self.merge();
        self.ranges
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn merge(&mut self) {
        if self.merged == self.ranges.len() {
            return;
        }
        self.ranges.sort_unstable();
        let mut merged: Vec<Range> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.ranges = merged;
        self.merged = self.ranges.len();
    }
}

impl FromIterator<Range> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

impl RangeSet {
    /// The set with each range widened to whole multiples of `unit`, a power of two.
    #[must_use]
    pub fn rounded(&self, unit: u64) -> RangeSet {
        let mask = unit.saturating_sub(1);
        self.ranges
            .iter()
            .map(|range| Range {
                start: Address(range.start.0 & !mask),
                end: Address(range.end.0.checked_add(mask).map_or(u64::MAX, |end| end & !mask)),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start: Address(start), end: Address(end) }
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let mut set: RangeSet =
            [range(10, 20), range(30, 40), range(20, 25), range(5, 11), range(7, 7)].into_iter().collect();
        assert_eq!(set.merged(), [range(5, 25), range(30, 40)]);
    }

    #[test]
    fn adding_the_same_range_again_and_again_stays_small() {
        let mut set = RangeSet::new();
        for i in 0..100_000u64 {
            set.insert(range(i % 7 * 100, i % 7 * 100 + 8));
        }
        assert!(set.ranges.len() < 10_000);
        assert_eq!(set.merged().len(), 7);
    }

    #[test]
    fn words_that_lie_next_to_each_other_are_one_range_at_once() {
        let mut set = RangeSet::new();
        for start in [108, 100, 116, 104, 116, 92, 124] {
            set.insert(range(start, start + 8));
        }
        assert_eq!(set.ranges, [range(92, 132)]);
        set.insert(range(50, 60));
        assert_eq!(set.merged(), [range(50, 60), range(92, 132)]);
        // The highest goes on; what lies below it touches the one before.
        set.insert(range(132, 140));
        assert_eq!(set.ranges, [range(50, 60), range(92, 140)]);
        set.insert(range(55, 95));
        assert_eq!(set.merged(), [range(50, 140)]);
    }

    #[test]
    fn any_order_of_ranges_makes_the_same_set() {
        let seed = std::process::id();
        let mut state = u64::from(seed);
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for round in 0..200 {
            let mut set = RangeSet::new();
            let mut expected = [false; 200];
            for _ in 0..100 {
                let start = below(180);
                let end = start + below(20);
                set.insert(range(start, end));
                expected[start as usize..end as usize].fill(true);
                if below(10) == 0 {
                    set.merged();
                }
            }
            let ranges = set.merged();
            assert!(
                ranges.windows(2).all(|pair| pair[0].end < pair[1].start),
                "seed {seed}, round {round}: {ranges:?}"
            );
            let mut found = [false; 200];
            for Range { start, end } in ranges {
                found[start.0 as usize..end.0 as usize].fill(true);
            }
            assert_eq!(found, expected, "seed {seed}, round {round}");
        }
    }

    #[test]
    fn rounding_never_leaves_the_address_space() {
        let mut set: RangeSet =
            [range(1, 2), range(u64::MAX - 1, u64::MAX)].into_iter().collect::<RangeSet>().rounded(16);
        assert_eq!(set.merged().first(), Some(&range(0, 16)));
    }
}
