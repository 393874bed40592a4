//! How much is read on behalf of one batch of questions.
//!
//! Debug information leads to itself: units share abbreviations, entries share ranges, and one abbreviation can state a
//! million attributes that take no bytes. A small file could take hours so.

use std::cell::Cell;

/// The most that is read: attributes, ranges, bytes of abbreviations and of line programs. The largest programs there are
/// need some ten millions for a stack.
const MAX_READ: u64 = 1 << 28;

pub(super) struct Budget {
    left: Cell<u64>,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { left: Cell::new(MAX_READ) }
    }

    /// `None` when it is used up.
    pub(super) fn spend(&self, count: usize) -> Option<()> {
        let left = self.left.get().checked_sub(u64::try_from(count).ok()?);
        self.left.set(left.unwrap_or_default());
        left.map(|_| ())
    }
}
