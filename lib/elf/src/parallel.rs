//! Work for several processors, where there are several.
//!
//! Threads live no longer than the call, and where none can be made the caller does all by itself.

use std::num::NonZero;
use std::sync::{Mutex, OnceLock};
use std::thread::{Builder, available_parallelism, scope};

/// More threads than this are never made: the debug information of few files is large.
const MAX_THREADS: usize = 8;

/// Something to do, once.
pub(crate) type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Does all of these, at the same time as far as that can be; what takes longest should come first.
pub(crate) fn all(jobs: Vec<Job<'_>>) {
    let jobs: Vec<Mutex<Option<Job<'_>>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    map(&jobs, |job| {
        let job = job.lock().ok().and_then(|mut job| job.take());
        job.into_iter().for_each(|job| job());
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
    fn all_is_done_once_when_it_returns() {
        for _ in 0..100 {
            let mut done = [0; 5];
            all(done.iter_mut().map(|done| Box::new(move || *done += 1) as Job<'_>).collect());
            assert_eq!(done, [1; 5]);
        }
    }
}
