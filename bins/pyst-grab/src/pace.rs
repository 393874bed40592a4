//! When captures are made: how often, and how long after one another; until somebody asks for an end.

use pyst_cli::{Interrupt, Progress};
use std::time::{Duration, Instant};

/// How long it is from one beginning to the next, unless it is said.
const INTERVAL: Duration = Duration::from_secs(1);

/// The rounds of a run, each of which captures all processes.
pub(crate) struct Pace {
    count: u64,
    begun: u64,
    interval: Duration,
    next: Instant,
    /// A lone capture is ended by a signal at once, like any program.
    interrupt: Option<Interrupt>,
}

impl Pace {
    /// `count` rounds; between two processes of one, too, an end may be asked for if there are `several`.
    pub(crate) fn new(count: u64, interval: Option<Duration>, several: bool) -> Pace {
        let interrupt = (count > 1 || several).then(Interrupt::watch);
        Pace { count, begun: 0, interval: interval.unwrap_or(INTERVAL), next: Instant::now(), interrupt }
    }

    /// Waits for the next round. A round that took longer than the interval is followed by the next at once, and costs none.
    pub(crate) fn next_round(&mut self, progress: &Progress) -> bool {
        if self.begun == self.count {
            return false;
        }
        progress.say_until(self.next, || format!("capture {} of {} is made", self.begun, self.count));
        let wait = self.next.saturating_duration_since(Instant::now());
        if self.interrupt.as_mut().is_some_and(|interrupt| interrupt.wait(wait).is_some()) {
            return false;
        }
        self.next = Instant::now() + self.interval;
        self.begun += 1;
        true
    }

    /// How many rounds were asked for.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many rounds have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The signal that asked for an end.
    pub(crate) fn interrupted(&mut self) -> Option<&'static str> {
        self.interrupt.as_mut()?.caught()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rounds_as_were_asked_for_and_not_before_their_time() {
        let started = Instant::now();
        let mut pace = Pace::new(3, Some(Duration::from_millis(20)), false);
        let mut rounds = 0;
        while pace.next_round(&Progress::of("pyst-grab")) {
            rounds += 1;
        }
        assert_eq!((rounds, pace.begun()), (3, 3));
        assert!(started.elapsed() >= Duration::from_millis(40));
        assert!(pace.interrupted().is_none());
    }
}
