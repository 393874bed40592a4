//! What pyst is to reach, as ratios within the same run, and whether it does.

use super::measure::Peak;
use super::results::Measured;
use super::statistics::{ratio, short};
use super::tools::{Kind, Mode};

/// One aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aim {
    Floor,
    Read,
    StopOfPyStack,
    StopOfPySpy,
    WallOfPyStack,
    WallOfPySpy,
    Memory,
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) value: f64,
    /// What it has to be; nothing where nothing is asked.
    pub(crate) limit: Option<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// What a tool may have of memory of its own, besides 1.25 times what is captured.
const MEMORY: f64 = 16.0 * 1024.0 * 1024.0;

impl Aim {
    pub(crate) const ALL: [Aim; 7] = [
        Aim::Floor,
        Aim::Read,
        Aim::StopOfPyStack,
        Aim::StopOfPySpy,
        Aim::WallOfPyStack,
        Aim::WallOfPySpy,
        Aim::Memory,
    ];

    /// The head of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Aim::Floor => "stop ÷ floor",
            Aim::Read => "read ÷ used",
            Aim::StopOfPyStack => "PyStack's stop ÷ pyst's",
            Aim::StopOfPySpy => "py-spy's stop ÷ pyst's",
            Aim::WallOfPyStack => "PyStack's time ÷ pyst's",
            Aim::WallOfPySpy => "py-spy's time ÷ pyst's",
            Aim::Memory => "memory ÷ bound",
        }
    }

    /// What it asks.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Aim::Floor => "the longest stop is at most 1.5 times the floor",
            Aim::Read => "bytes read in the stop are at most twice the used stacks and the structures of Python",
            Aim::StopOfPyStack => "PyStack's longest stop is at least 20 times as long",
            Aim::StopOfPySpy => "py-spy's longest stop is at least 3 times as long (not asked at 500 threads)",
            Aim::WallOfPyStack => "PyStack takes at least 10 times as long for Python only, 6 times with native frames",
            Aim::WallOfPySpy => "py-spy takes at least twice as long for Python only and with native frames",
            Aim::Memory => "each tool has at most 16 MiB and 1.25 times the captured bytes of anonymous memory",
        }
    }

    fn limit(self, mode: Mode, threads: usize) -> Option<Limit> {
        match (self, mode) {
            (Aim::Floor, _) => Some(Limit::AtMost(1.5)),
            (Aim::Read, _) => Some(Limit::AtMost(2.0)),
            (Aim::StopOfPyStack, _) => Some(Limit::AtLeast(20.0)),
            (Aim::StopOfPySpy, _) => (threads < 500).then_some(Limit::AtLeast(3.0)),
            (Aim::WallOfPyStack, Mode::Python) => Some(Limit::AtLeast(10.0)),
            (Aim::WallOfPyStack, Mode::Native) => Some(Limit::AtLeast(6.0)),
            (Aim::WallOfPySpy, Mode::Python | Mode::Native) => Some(Limit::AtLeast(2.0)),
            (Aim::WallOfPyStack | Aim::WallOfPySpy, _) => None,
            (Aim::Memory, _) => Some(Limit::AtMost(1.0)),
        }
    }

    /// What came of it; nothing where it was not measured.
    pub(crate) fn judge(self, measured: &Measured, mode: Mode) -> Option<Judged> {
        let cell = |kind| measured.cells.get(&(mode, kind));
        let pyst = cell(Kind::Pyst)?;
        let stop = measured.stops.get(&mode)?;
        let value = match self {
            Aim::Floor => ratio(&pyst.stop, &stop.floor),
            Aim::Read => ratio(&stop.read, &stop.kept),
            Aim::StopOfPyStack => ratio(&cell(Kind::PyStack)?.stop, &pyst.stop),
            Aim::StopOfPySpy => ratio(&cell(Kind::PySpy)?.stop, &pyst.stop),
            Aim::WallOfPyStack => ratio(&cell(Kind::PyStack)?.wall, &pyst.wall),
            Aim::WallOfPySpy => ratio(&cell(Kind::PySpy)?.wall, &pyst.wall),
            Aim::Memory => most_of_bound(&pyst.peaks, stop.kept.median()?),
        }?;
        Some(Judged { value, limit: self.limit(mode, measured.threads) })
    }
}

/// How much of what it may have the tool has that has most of it.
fn most_of_bound(peaks: &[Peak], captured: f64) -> Option<f64> {
    let most = peaks.iter().map(|peak| peak.anonymous).max()?;
    Some(most as f64 / memory_bound(captured))
}

/// What a tool may have of memory of its own, when so many bytes are captured.
pub(crate) fn memory_bound(captured: f64) -> f64 {
    MEMORY + 1.25 * captured
}

impl Judged {
    pub(crate) fn is_met(self) -> bool {
        match self.limit {
            Some(Limit::AtMost(limit)) => self.value <= limit,
            Some(Limit::AtLeast(limit)) => self.value >= limit,
            None => true,
        }
    }

    /// As it stands in a table: `1.21 met`, `**1.80 missed**`.
    pub(crate) fn text(self) -> String {
        let value = short(self.value);
        match (self.limit, self.is_met()) {
            (None, _) => value,
            (Some(_), true) => format!("{value} met"),
            (Some(_), false) => format!("**{value} missed**"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::{Cell, Stop};
    use super::super::statistics::Sample;
    use super::*;

    fn once(value: f64) -> Sample {
        let mut sample = Sample::default();
        sample.push(value);
        sample
    }

    /// pyst stops its target for 2 ms and takes 3, PyStack for 30 and takes 60; the floor is 1 ms.
    fn measured(threads: usize) -> Measured {
        let mut measured = Measured { threads, ..Measured::default() };
        let peaks = vec![Peak::default(), Peak { anonymous: 16 << 20, resident: 0 }];
        let cell = Cell { stop: once(2.0), wall: once(3.0), peaks, ..Cell::default() };
        measured.cells.insert((Mode::Python, Kind::Pyst), cell);
        let cell = Cell { stop: once(30.0), wall: once(60.0), ..Cell::default() };
        measured.cells.insert((Mode::Python, Kind::PyStack), cell.clone());
        measured.cells.insert((Mode::Python, Kind::PySpy), Cell { stop: once(4.0), ..cell });
        let stop = Stop { floor: once(1.0), read: once(3000.0), kept: once(2000.0), ..Stop::default() };
        measured.stops.insert(Mode::Python, stop);
        measured
    }

    #[test]
    fn an_aim_is_met_or_missed_by_a_ratio() {
        let judged = |aim: Aim| aim.judge(&measured(1), Mode::Python).unwrap().text();
        assert_eq!(judged(Aim::Floor), "**2.00 missed**");
        assert_eq!(judged(Aim::Read), "1.50 met");
        assert_eq!(judged(Aim::StopOfPyStack), "**15.0 missed**");
        assert_eq!(judged(Aim::StopOfPySpy), "**2.00 missed**");
        assert_eq!(judged(Aim::WallOfPyStack), "20.0 met");
        assert_eq!(judged(Aim::Memory), "1.00 met");
    }

    #[test]
    fn nothing_is_asked_where_the_floor_itself_is_near() {
        assert_eq!(Aim::StopOfPySpy.judge(&measured(500), Mode::Python).unwrap().text(), "2.00");
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(Aim::Floor.judge(&measured(1), Mode::Native), None);
        assert_eq!(Aim::WallOfPySpy.judge(&Measured::default(), Mode::Python), None);
    }
}
