//! How much is read on behalf of one batch of questions.
//!
//! Debug information leads to itself: units share abbreviations, entries share ranges, and one abbreviation can state a
//! million attributes that take no bytes. A small file could take hours so.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most that is read: attributes, ranges, bytes of abbreviations and of line programs. The largest programs there are
/// need some ten millions for a stack.
const MAX_READ: u64 = 1 << 28;

/// What a thread takes at once of what all of them may read, which is more work than to read one attribute.
const PORTION: u64 = 1 << 16;

/// What one thread may read.
pub(super) struct Budget {
    common: Common,
    left: Cell<u64>,
}

/// What all threads together may read.
#[derive(Clone)]
pub(super) struct Common(Arc<AtomicU64>);

impl Budget {
    pub(super) fn new() -> Budget {
        Common(Arc::new(AtomicU64::new(MAX_READ))).budget()
    }

    /// For the budgets of other threads.
    pub(super) fn common(&self) -> Common {
        self.common.clone()
    }

    /// `None` when it is used up.
    pub(super) fn spend(&self, count: usize) -> Option<()> {
        let count = u64::try_from(count).ok()?;
        if self.left.get() < count {
            let missing = count - self.left.get();
            self.left.set(self.left.get().saturating_add(self.common.take(missing.saturating_add(PORTION))));
        }
        let left = self.left.get().checked_sub(count);
        self.left.set(left.unwrap_or_default());
        left.map(|_| ())
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.common.0.fetch_add(self.left.get(), Ordering::Relaxed);
    }
}

impl Common {
    /// A budget of one more thread.
    pub(super) fn budget(&self) -> Budget {
        Budget { common: self.clone(), left: Cell::new(0) }
    }

    /// As much as is asked for, or what is left.
    fn take(&self, count: u64) -> u64 {
        let rest = |left: u64| Some(left.saturating_sub(count));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.map_or(0, |left| left.min(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_together_read_no_more_than_one() {
        let budget = Budget::new();
        let common = budget.common();
        let spent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for step in [1 << 10, 1 << 14, 1 << 20] {
                let (common, spent) = (common.clone(), &spent);
                scope.spawn(move || {
                    let budget = common.budget();
                    for _ in 0..(1 << 28) / step {
                        if budget.spend(step).is_none() {
                            break;
                        }
                        spent.fetch_add(step as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(spent.into_inner() <= MAX_READ);
        assert_eq!(budget.spend(1 << 28), None);
    }

    #[test]
    fn what_a_thread_did_not_need_is_left_for_others() {
        let budget = Budget::new();
        budget.spend(1);
        for _ in 0..2 * MAX_READ / PORTION {
            assert!(budget.common().budget().spend(1).is_some());
        }
        assert_eq!(budget.spend(MAX_READ as usize - 1 - 2 * (MAX_READ / PORTION) as usize), Some(()));
        assert_eq!(budget.spend(1), None);
        assert_eq!(budget.common().budget().spend(1), None);
    }
}
