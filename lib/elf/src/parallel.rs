//! Work for several processors, where there are several.
//!
//! Threads live no longer than the call, and where none can be made the caller does all by itself.

use std::num::NonZero;
use std::sync::{Mutex, OnceLock};
use std::thread::{Builder, available_parallelism, scope};

/// More threads than this are never made: the debug information of few files is large.
const MAX_THREADS: usize = 8;

/// Does two things, at the same time if that can be.
pub(crate) fn both(one: impl FnOnce() + Send, other: impl FnOnce()) {
    let one = Mutex::new(Some(one));
    let run_one = || {
        let one = one.lock().ok().and_then(|mut one| one.take());
        if let Some(one) = one {
            one();
        }
    };
    scope(|scope| {
        if threads() > 1 {
            let _ = Builder::new().spawn_scoped(scope, run_one);
        }
        other();
        // The thread may not have come to it yet.
        run_one();
    });
}

/// What `work` makes of each item, in their order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let item = next.lock().ok().and_then(|mut next| next.next());
            let Some((index, item)) = item else { break };
            let result = work(item);
            if let Ok(mut done) = done.lock() {
                done.push((index, result));
            }
        }
    };
    scope(|scope| {
        for _ in 1..threads().min(items.len()) {
            let _ = Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn threads() -> usize {
    // To find out takes a dozen system calls.
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_their_items() {
        for count in [0, 1, 2, 100] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = items.iter().map(|item| item * 3).collect();
            assert_eq!(map(&items, |item| item * 3), expected);
        }
    }

    #[test]
    fn both_are_done_when_it_returns() {
        for _ in 0..100 {
            let (mut one, mut other) = (false, false);
            both(|| one = true, || other = true);
            assert!(one && other);
        }
    }
}
