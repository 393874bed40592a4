//! From svmas to the units that have them, and to what these say.

use super::budget::Budget;
use super::functions::{Inlined, functions_at, inlined_at, within};
use super::lines::{Line, lines_at, path_of};
use super::names::AllUnits;
use super::{Call, Calls, Sections, Slice, cut};
use crate::parallel;
use gimli::{Dwarf, Unit, UnitOffset, UnitRef};
use pyst_snapshot::Svma;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is said of each svma. They are ascending. `listed` has the units that are known to have some, by where they start, with the
/// indexes of those.
pub(super) fn calls_at<'a>(
    dwarf: &'a Dwarf<Slice<'a>>,
    own: &'a Sections<'a>,
    shared: Option<&'a Sections<'a>>,
    svmas: &[Svma],
    listed: BTreeMap<usize, BTreeSet<usize>>,
    budget: &'a Budget,
) -> Vec<Calls> {
    let calls = vec![Calls::default(); svmas.len()];
    let mut lookup = Lookup { units: AllUnits::new(dwarf, own, shared, budget), budget, svmas, calls };
    lookup.ask_listed_units(listed);
    let _ = lookup.ask_all_units();
    lookup.calls
}

struct Lookup<'a> {
    units: AllUnits<'a>,
    budget: &'a Budget,
    svmas: &'a [Svma],
    calls: Vec<Calls>,
}

/// A function, and those inlined into it at an svma, outermost first.
type Chain = (UnitOffset, Vec<Inlined>);

impl<'a> Lookup<'a> {
    /// Asks those units that a table lists, each for the svmas that it has by that.
    fn ask_listed_units(&mut self, listed: BTreeMap<usize, BTreeSet<usize>>) {
        // The last one first: what is unpacked up to there has the others.
        for start in listed.keys().rev() {
            self.units.own.at(*start);
        }
        let unit = |(start, indexes): (usize, BTreeSet<usize>)| {
            let indexes: Vec<usize> = indexes.into_iter().collect();
            Some((self.units.own.at(start)?, self.svmas_at(&indexes), indexes))
        };
        let units: Vec<_> = listed.into_iter().filter_map(unit).collect();
        let (dwarf, common) = (self.units.own.dwarf, self.budget.common());
        let answers = parallel::map(&units, |(unit, svmas, _)| told(dwarf, unit, svmas, &common.budget()));
        for ((unit, _, indexes), told) in units.iter().zip(answers) {
            self.note(unit, indexes, told);
        }
    }

    /// Asks the units themselves for the svmas of which nothing is known yet. `None` when the budget is used up.
    fn ask_all_units(&mut self) -> Option<()> {
        let mut unknown = self.unknown();
        if unknown.is_empty() {
            return Some(());
        }
        for start in self.units.own.starts().to_vec() {
            if unknown.is_empty() {
                break;
            }
            self.budget.spend(1)?;
            let Some(outline) = self.units.own.outline(start) else { continue };
            let ranged = self.within_ranges(&outline.unit, &unknown)?;
            // One that does not say where its code is may still have lines.
            let may_have = ranged.as_ref().map_or(outline.has_lines, |has| !has.is_empty());
            let Some(unit) = may_have.then(|| self.units.own.read(start)).flatten() else { continue };
            let has = ranged.unwrap_or_else(|| self.having_lines(&unit, &unknown));
            if !has.is_empty() {
                self.ask(&Arc::new(unit), &has);
                unknown = self.unknown();
            }
        }
        Some(())
    }

    fn unknown(&self) -> Vec<usize> {
        let all = self.calls.iter().enumerate();
        all.filter(|(_, calls)| **calls == Calls::default()).map(|(index, _)| index).collect()
    }

    fn svmas_at(&self, indexes: &[usize]) -> Vec<Svma> {
        indexes.iter().filter_map(|index| self.svmas.get(*index).copied()).collect()
    }

    /// Those svmas, of the ones asked for, that a unit says it has; the inner `None` where it says nothing, the outer when the
    /// budget is used up.
    fn within_ranges(&self, unit: &Unit<Slice<'a>>, indexes: &[usize]) -> Option<Option<Vec<usize>>> {
        let svmas = self.svmas_at(indexes);
        let mut has = BTreeSet::new();
        let mut says = false;
        let mut ranges = self.units.own.dwarf.unit_ranges(unit).ok();
        while let Some(range) = ranges.as_mut().and_then(|ranges| ranges.next().ok().flatten()) {
            let indexes = within(&svmas, range.begin, range.end);
            self.budget.spend(1 + indexes.len())?;
            has.extend(indexes);
            says = true;
        }
        let has = has.into_iter().filter_map(|at| indexes.get(at).copied()).collect();
        Some(says.then_some(has))
    }

    /// Those of which a unit has a line.
    fn having_lines(&self, unit: &Unit<Slice<'a>>, indexes: &[usize]) -> Vec<usize> {
        let lines = lines_at(UnitRef::new(self.units.own.dwarf, unit), &self.svmas_at(indexes), self.budget);
        let found = indexes.iter().zip(lines).filter(|(_, line)| line.is_some());
        found.map(|(index, _)| *index).collect()
    }

    /// Asks a unit for the svmas that it has.
    fn ask(&mut self, unit: &Arc<Unit<Slice<'a>>>, indexes: &[usize]) {
        let told = told(self.units.own.dwarf, unit, &self.svmas_at(indexes), self.budget);
        self.note(unit, indexes, told);
    }

    /// Notes what a unit says of the svmas that it has.
    fn note(&mut self, unit: &Arc<Unit<Slice<'a>>>, indexes: &[usize], (lines, chains): Told) {
        let inner = UnitRef::new(self.units.own.dwarf, unit);
        let lacking = inner.dwo_id.map(|_| {
            let name = inner.dwo_name().ok().flatten().and_then(|name| inner.attr_string(name).ok());
            cut(name.map_or(b"?", |name| name.slice()))
        });
        for ((index, line), chain) in indexes.iter().zip(lines).zip(chains) {
            let Some(chain) = chain else { continue };
            let calls = self.calls_of(unit, line, chain);
            let Some(known) = self.calls.get_mut(*index) else { continue };
            if known.lacking.is_none() {
                known.lacking.clone_from(&lacking);
            }
            let has_function = known.calls.iter().any(|call| call.function.is_some());
            if !has_function && !calls.is_empty() {
                known.calls = calls;
            }
        }
    }

    /// The calls at an svma, innermost first.
    fn calls_of(&self, unit: &Arc<Unit<Slice<'a>>>, line: Option<Line>, chain: Option<Chain>) -> Vec<Call> {
        let path = |file| path_of(UnitRef::new(self.units.own.dwarf, unit), file);
        let mut file = line.and_then(|line| path(line.file));
        let mut line = line.and_then(|line| line.line);
        let (function, inlined) = chain.unzip();
        let mut calls = Vec::new();
        for Inlined { entry, call_file, call_line } in inlined.unwrap_or_default().into_iter().rev() {
            calls.push(Call { function: self.units.name_of(unit, entry), file, line });
            file = call_file.and_then(path);
            line = call_line.filter(|line| *line > 0);
        }
        calls.push(Call { function: function.and_then(|entry| self.units.name_of(unit, entry)), file, line });
        // An entry that tells nothing is none.
        calls.retain(|call| *call != Call::default());
        calls
    }
}

/// What a unit says of each of its svmas: the line, and the functions.
type Told = (Vec<Option<Line>>, Vec<Option<Option<Chain>>>);

fn told<'a>(dwarf: &Dwarf<Slice<'a>>, unit: &Unit<Slice<'a>>, svmas: &[Svma], budget: &Budget) -> Told {
    let unit = UnitRef::new(dwarf, unit);
    (lines_at(unit, svmas, budget), chains_at(unit, svmas, budget))
}

/// For each svma the function that has it, if any; the outer `None` where what the unit says is not believed.
fn chains_at(unit: UnitRef<'_, Slice<'_>>, svmas: &[Svma], budget: &Budget) -> Vec<Option<Option<Chain>>> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, function) in functions_at(unit, svmas, budget).into_iter().enumerate() {
        if let Some(function) = function {
            members.entry(function.0).or_default().push(at);
        }
    }
    let mut chains = vec![Some(None); svmas.len()];
    for (function, members) in members {
        let own: Vec<Svma> = members.iter().filter_map(|at| svmas.get(*at).copied()).collect();
        let mut inlined = inlined_at(unit, UnitOffset(function), &own, budget).map(Vec::into_iter);
        for at in members {
            let inlined = inlined.as_mut().and_then(Iterator::next);
            if let Some(chain) = chains.get_mut(at) {
                *chain = inlined.map(|inlined| Some((UnitOffset(function), inlined)));
            }
        }
    }
    chains
}
