//! The best reading so far of each thread, and of each thread state of which is not known which thread runs it.

use super::Target;
use super::attempt::{Reading, Unit, attempt};
use crate::live::copy::Copy;
use pyst_snapshot::{Address, Tid};
use std::collections::{BTreeMap, BTreeSet};

/// The thread; else the thread state.
type Key = (Option<Tid>, Address);

/// The best readings, by thread.
#[derive(Default)]
pub(super) struct Readings(BTreeMap<Key, Tried>);

/// The best reading of a unit.
pub(super) struct Tried {
    pub(super) unit: Unit,
    pub(super) reading: Reading,
    /// How often it had been tried before.
    pub(super) retries: u32,
    /// What was as good until something better came: that may turn out to contradict what was read of others.
    before: Option<(Reading, u32)>,
    /// Whether it was not there from the beginning.
    pub(super) is_new: bool,
    /// Whether its thread has ended since it was read.
    pub(super) has_ended: bool,
    /// Whether it was read in the last of several stops.
    is_of_last_stop: bool,
}

impl Tried {
    /// Whether nothing is missing, or nothing more is to be had.
    pub(super) fn is_all(&self, target: &Target<'_>) -> bool {
        self.has_ended || self.reading.is_all(&self.unit, target)
    }

    /// Takes what was read of it while it was stopped.
    pub(super) fn take(&mut self, reading: Reading) {
        self.reading = reading;
        self.before = None;
        self.is_of_last_stop = true;
    }

    /// Takes another reading, if that is worth more, or the one so far is worth nothing.
    fn renew(&mut self, unit: Unit, reading: Reading, retries: u32) {
        let worth = self.reading.worth();
        if reading.worth() > worth || worth == 0 {
            let before = (std::mem::replace(&mut self.reading, reading), std::mem::replace(&mut self.retries, retries));
            self.before = Some(before).filter(|_| worth > 0 && self.unit.states == unit.states);
            self.unit = unit;
        }
    }
}

impl Readings {
    /// Reads what is missing of these units, which are all there are now. What has ended is forgotten, unless it was read
    /// before that: then its reading stays as it is.
    pub(super) fn attempt(&mut self, target: &Target<'_>, units: Vec<Unit>, retries: u32) {
        let there: BTreeSet<Key> = units.iter().map(key).collect();
        self.0.retain(|key, tried| {
            tried.has_ended = !there.contains(key);
            !tried.has_ended || (key.0.is_some() && tried.reading.is_of_a_thread())
        });
        for unit in units {
            match self.0.get_mut(&key(&unit)) {
                Some(tried) if tried.is_all(target) => {}
                Some(tried) => {
                    let reading = attempt(target, &unit);
                    tried.renew(unit, reading, retries);
                }
                None => {
                    let reading = attempt(target, &unit);
                    let is_new = retries > 0;
                    let tried = Tried {
                        reading,
                        retries,
                        before: None,
                        is_new,
                        has_ended: false,
                        is_of_last_stop: false,
                        unit,
                    };
                    self.0.insert(key(&tried.unit), tried);
                }
            }
        }
        self.doubt_conflicts(target);
    }

    /// Whether nothing is missing.
    pub(super) fn are_all(&self, target: &Target<'_>) -> bool {
        self.0.values().all(|tried| tried.is_all(target))
    }

    /// Says that there is another stop.
    pub(super) fn begin_stop(&mut self) {
        self.0.values_mut().for_each(|tried| tried.is_of_last_stop = false);
    }

    /// Those of threads that were stopped first: what was read of them is of one moment, and of a later one. A thread that has
    /// ended between two stops was read in the first, and another may have its memory in the second.
    pub(super) fn in_order(&self) -> Vec<&Tried> {
        let mut all: Vec<&Tried> = self.0.values().collect();
        all.sort_by_key(|tried| (!tried.is_of_last_stop, !tried.reading.stopped));
        all
    }

    /// The same, to be changed.
    pub(super) fn in_order_mut(&mut self) -> Vec<&mut Tried> {
        let mut all: Vec<&mut Tried> = self.0.values_mut().collect();
        all.sort_by_key(|tried| (!tried.is_of_last_stop, !tried.reading.stopped));
        all
    }

    /// That of a thread.
    pub(super) fn of_thread(&self, tid: Tid) -> Option<&Tried> {
        self.0.get(&(Some(tid), Address(0)))
    }

    /// Those that read each thread state.
    pub(super) fn by_state(&self) -> BTreeMap<Address, &Tried> {
        let of = |tried| move |state: &Address| (*state, tried);
        self.0.values().rev().flat_map(|tried: &Tried| tried.unit.states.iter().map(of(tried))).collect()
    }

    /// Threads are read one after the other, and memory that one has given back another may have had since: then only one of
    /// them has what was read of it.
    pub(super) fn doubt_conflicts(&mut self, target: &Target<'_>) {
        let copy = Copy::of(target.pid);
        for tried in self.in_order_mut().into_iter().filter(|tried| tried.reading.verified) {
            if !copy.agrees_with(&tried.reading.own)
                && let Some((reading, retries)) = tried.before.take()
            {
                (tried.reading, tried.retries) = (reading, retries);
            }
            if copy.agrees_with(&tried.reading.own) {
                copy.hold(&tried.reading.own);
            } else {
                tried.reading.verified = false;
                tried.reading.asleep = None;
            }
        }
    }
}

fn key(unit: &Unit) -> Key {
    match unit.tid {
        Some(_) => (unit.tid, Address(0)),
        None => (None, unit.states.first().copied().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_in_the_last_stop_comes_before_what_was_read_in_an_earlier_one() {
        let tried = |tid: u32, stopped: bool| {
            let unit = Unit { tid: Some(Tid(tid)), ..Unit::default() };
            let reading = Reading { stopped, ..Reading::default() };
            Tried { unit, reading, retries: 0, before: None, is_new: false, has_ended: false, is_of_last_stop: stopped }
        };
        let all = [tried(1, false), tried(2, true), tried(3, true)];
        let mut readings = Readings(all.into_iter().map(|tried| (key(&tried.unit), tried)).collect());
        let order = |readings: &Readings| {
            readings.in_order().iter().filter_map(|tried| tried.unit.tid).map(|tid| tid.0).collect::<Vec<u32>>()
        };
        assert_eq!(order(&readings), [2, 3, 1]);
        // The second has ended by the next stop.
        readings.begin_stop();
        let third = readings.0.get_mut(&(Some(Tid(3)), Address(0))).unwrap();
        third.take(Reading { stopped: true, ..Reading::default() });
        assert_eq!(order(&readings), [3, 2, 1]);
    }
}
