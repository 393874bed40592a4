//! `.debug_aranges`: which unit has which svmas.

use super::Slice;
use super::budget::Budget;
use super::functions::within;
use gimli::DebugAranges;
use pyst_snapshot::Svma;
use std::collections::{BTreeMap, BTreeSet};

/// The units that have some of the svmas, by where they start, each with the indexes of those. The svmas are ascending. What comes
/// after the budget is used up is left out.
pub(super) fn units_of(
    tables: DebugAranges<Slice<'_>>,
    svmas: &[Svma],
    budget: &Budget,
) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut units = BTreeMap::new();
    let _ = collect(tables, svmas, budget, &mut units);
    units
}

fn collect(
    tables: DebugAranges<Slice<'_>>,
    svmas: &[Svma],
    budget: &Budget,
    units: &mut BTreeMap<usize, BTreeSet<usize>>,
) -> Option<()> {
    let mut tables = tables.headers();
    while let Ok(Some(table)) = tables.next() {
        for range in table.entries().flatten() {
            let indexes = within(svmas, range.range().begin, range.range().end);
            budget.spend(1 + indexes.len())?;
            if !indexes.is_empty() {
                units.entry(table.debug_info_offset().0).or_default().extend(indexes);
            }
        }
    }
    Some(())
}
