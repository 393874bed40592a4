//! What was measured.

use super::measure::Peak;
use super::statistics::Sample;
use super::tools::{Kind, Mode};
use std::collections::BTreeMap;

/// One tool that did one thing to one target. Times are milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// The longest stop that the probe saw.
    pub(crate) stop: Sample,
    pub(crate) wall: Sample,
    pub(crate) processor: Sample,
    /// How many bytes it printed.
    pub(crate) printed: u64,
    /// Each process of the pipeline, with the most that it had in any run.
    pub(crate) peaks: Vec<Peak>,
    /// What it did not show.
    pub(crate) missing: Option<String>,
    /// Why runs failed, as the first one that did says, and how many.
    pub(crate) failures: Option<(String, usize)>,
}

/// What a snapshot says of the stop, and the floor of that stop. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// The whole stop, by pyst-grab's own clock.
    pub(crate) own: Sample,
    pub(crate) read: Sample,
    pub(crate) kept: Sample,
    pub(crate) size: Sample,
    /// The floor, as the probe saw it.
    pub(crate) floor: Sample,
    /// The whole of it, by its own clock.
    pub(crate) floor_own: Sample,
}

/// All about one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) interpreter: String,
    pub(crate) target: String,
    pub(crate) threads: usize,
    pub(crate) cells: BTreeMap<(Mode, Kind), Cell>,
    pub(crate) stops: BTreeMap<Mode, Stop>,
    /// What the probe saw while nothing looked at the target.
    pub(crate) noise: Sample,
    /// Which tool left the target stopped.
    pub(crate) left_stopped: Vec<String>,
}

impl Cell {
    pub(crate) fn fail(&mut self, failure: Option<String>) {
        if let Some(failure) = failure {
            self.failures.get_or_insert((failure, 0)).1 += 1;
        }
    }

    /// Whether nothing came of it.
    pub(crate) fn is_useless(&self) -> bool {
        self.failures.is_some() && self.missing.is_some()
    }
}
