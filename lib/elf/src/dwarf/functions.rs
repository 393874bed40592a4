//! The entries of functions, and of those inlined into them, whose code has an svma.
//!
//! Entries are read in the order of the file. Those below one that has nothing to do with an svma are passed over where
//! the compiler says how far they reach.

use super::budget::Budget;
use super::{MAX_CALLS, Slice};
use gimli::{AttributeValue, EntriesRaw, UnitOffset, UnitRef};
use pyst_snapshot::Svma;

type Unit<'u, 'a> = UnitRef<'u, Slice<'a>>;

/// A function that is inlined at an svma, and where it is called.
#[derive(Clone, Copy)]
pub(super) struct Inlined {
    pub(super) entry: UnitOffset,
    pub(super) call_file: Option<u64>,
    pub(super) call_line: Option<u32>,
}

/// The function that has each svma. They are ascending.
pub(super) fn functions_at(unit: Unit<'_, '_>, svmas: &[Svma], budget: &Budget) -> Vec<Option<UnitOffset>> {
    let mut found = vec![None; svmas.len()];
    // Functions are rarely below structures or other functions, which most entries are.
    for everywhere in [false, true] {
        let _ = look_for_functions(unit, svmas, everywhere, budget, &mut found);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

/// `None` where the entries ended early.
fn look_for_functions(
    unit: Unit<'_, '_>,
    svmas: &[Svma],
    everywhere: bool,
    budget: &Budget,
    found: &mut [Option<UnitOffset>],
) -> Option<()> {
    let mut entries = unit.entries_raw(None).ok()?;
    while !entries.is_empty() {
        let entry = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        budget.spend(1 + abbreviation.attributes().len())?;
        let is_function = abbreviation.tag() == gimli::DW_TAG_subprogram;
        let may_hold_functions = matches!(
            abbreviation.tag(),
            gimli::DW_TAG_compile_unit
                | gimli::DW_TAG_skeleton_unit
                | gimli::DW_TAG_partial_unit
                | gimli::DW_TAG_namespace
                | gimli::DW_TAG_module
        );
        let may_pass_over = !everywhere && !may_hold_functions && abbreviation.has_children();
        if !is_function && !may_pass_over {
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            continue;
        }
        let attributes = Attributes::read(unit, &mut entries, abbreviation)?;
        if is_function {
            attributes.covered(unit, svmas, budget, |index| {
                if let Some(found) = found.get_mut(index) {
                    found.get_or_insert(entry);
                }
            })?;
        }
        if may_pass_over && let Some(after) = attributes.sibling_after(&entries) {
            entries = unit.entries_raw(Some(after)).ok()?;
        }
    }
    Some(())
}

/// The functions inlined into `function` at each svma, outermost first; `None` when they are nested deeper than believed.
pub(super) fn inlined_at(
    unit: Unit<'_, '_>,
    function: UnitOffset,
    svmas: &[Svma],
    budget: &Budget,
) -> Option<Vec<Vec<Inlined>>> {
    let mut chains = vec![Vec::new(); svmas.len()];
    let mut entries = unit.entries_raw(Some(function)).ok()?;
    // The depth that the reader started at.
    let mut base = 0;
    // The depths of the inlined functions around an entry.
    let mut around: Vec<isize> = Vec::new();
    // The depth of a function in this one.
    let mut other: Option<isize> = None;
    while !entries.is_empty() {
        let (depth, entry) = (base + entries.next_depth(), entries.next_offset());
        let Some(abbreviation) = entries.read_abbreviation().ok()? else { continue };
        if depth <= 0 && entry != function {
            break;
        }
        budget.spend(1 + abbreviation.attributes().len())?;
        other = other.filter(|other| *other < depth);
        while around.last().is_some_and(|outer| *outer >= depth) {
            around.pop();
        }
        let is_inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
        let is_other = abbreviation.tag() == gimli::DW_TAG_subprogram && entry != function;
        let is_call = matches!(abbreviation.tag(), gimli::DW_TAG_call_site | gimli::DW_TAG_GNU_call_site);
        let may_pass_over = abbreviation.has_children() && (is_call || is_other);
        if other.is_some() || !(is_inlined || may_pass_over) {
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            continue;
        }
        let attributes = Attributes::read(unit, &mut entries, abbreviation)?;
        let mut covers = false;
        if is_inlined {
            let Attributes { call_file, call_line, .. } = attributes;
            attributes.covered(unit, svmas, budget, |index| {
                covers = true;
                if let Some(chain) = chains.get_mut(index).filter(|chain| chain.len() == around.len()) {
                    chain.push(Inlined { entry, call_file, call_line });
                }
            })?;
        }
        if !abbreviation.has_children() {
            continue;
        }
        if let Some(after) = attributes.sibling_after(&entries).filter(|_| !covers) {
            entries = unit.entries_raw(Some(after)).ok()?;
            base = depth;
        } else if is_other {
            other = Some(depth);
        } else if is_inlined {
            around.push(depth);
            if around.len() >= MAX_CALLS {
                return None;
            }
        }
    }
    Some(chains)
}

/// What is read of an entry.
#[derive(Default)]
struct Attributes<'a> {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    ranges: Option<AttributeValue<Slice<'a>>>,
    sibling: Option<UnitOffset>,
    call_file: Option<u64>,
    call_line: Option<u32>,
}

impl<'a> Attributes<'a> {
    fn read(
        unit: Unit<'_, 'a>,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &gimli::Abbreviation,
    ) -> Option<Attributes<'a>> {
        let mut read = Attributes::default();
        for attribute in abbreviation.attributes() {
            let attribute = entries.read_attribute(*attribute).ok()?;
            let value = || attribute.value();
            match attribute.name() {
                gimli::DW_AT_low_pc => read.low = unit.attr_address(value()).ok()?,
                gimli::DW_AT_high_pc => match value() {
                    AttributeValue::Udata(size) => read.size = Some(size),
                    other => read.high = unit.attr_address(other).ok()?,
                },
                gimli::DW_AT_ranges => read.ranges = Some(value()),
                gimli::DW_AT_sibling => {
                    read.sibling = match value() {
                        AttributeValue::UnitRef(offset) => Some(offset),
                        _ => None,
                    };
                }
                gimli::DW_AT_call_file => {
                    read.call_file = match value() {
                        // There is a file of this number since DWARF 5 only.
                        AttributeValue::FileIndex(0) if unit.header.version() < 5 => None,
                        AttributeValue::FileIndex(index) => Some(index),
                        _ => None,
                    };
                }
                gimli::DW_AT_call_line => {
                    read.call_line = attribute.udata_value().and_then(|line| u32::try_from(line).ok());
                }
                _ => {}
            }
        }
        Some(read)
    }

    /// Tells of each of the svmas, which are ascending, that the entry has.
    fn covered(&self, unit: Unit<'_, 'a>, svmas: &[Svma], budget: &Budget, mut each: impl FnMut(usize)) -> Option<()> {
        let mut look = |begin: u64, end: u64| {
            let indexes = within(svmas, begin, end);
            budget.spend(1 + indexes.len())?;
            indexes.for_each(&mut each);
            Some(())
        };
        if let Some(ranges) = &self.ranges {
            let mut ranges = unit.attr_ranges(*ranges).ok()??;
            while let Some(range) = ranges.next().ok()? {
                look(range.begin, range.end)?;
            }
            return Some(());
        }
        let Some(low) = self.low else { return Some(()) };
        let end = self.high.or_else(|| low.checked_add(self.size?));
        end.map_or(Some(()), |end| look(low, end))
    }

    /// Where the entries below this one, which was just read, end.
    fn sibling_after(&self, entries: &EntriesRaw<'_, Slice<'_>>) -> Option<UnitOffset> {
        self.sibling.filter(|sibling| *sibling > entries.next_offset())
    }
}

/// The indexes of those svmas, which are ascending, that are in a range.
pub(super) fn within(svmas: &[Svma], begin: u64, end: u64) -> std::ops::Range<usize> {
    let from = svmas.partition_point(|svma| svma.0 < begin);
    from..svmas.partition_point(|svma| svma.0 < end).max(from)
}
