//! The names of functions.

use super::budget::Budget;
use super::units::Units;
use super::{Sections, Slice, cut};
use gimli::{AttributeValue, DebugInfoOffset, Dwarf, Unit, UnitOffset, UnitRef};
use std::sync::Arc;

/// How many entries a name is looked for in: an inlined function's, the abstract one's, its declaration's.
const MAX_ENTRIES: usize = 16;

/// How an entry refers to another.
type Reference<'a> = AttributeValue<Slice<'a>>;

/// The units of a file, and those that it shares with other files (dwz).
pub(super) struct AllUnits<'a> {
    pub(super) own: Units<'a>,
    shared: Option<Units<'a>>,
    budget: &'a Budget,
}

/// An entry of a unit of one of the two.
struct Place<'a> {
    is_shared: bool,
    unit: Arc<Unit<Slice<'a>>>,
    entry: UnitOffset,
}

impl<'a> AllUnits<'a> {
    pub(super) fn new(
        dwarf: &'a Dwarf<Slice<'a>>,
        own: &'a Sections<'a>,
        shared: Option<&'a Sections<'a>>,
        budget: &'a Budget,
    ) -> AllUnits<'a> {
        let shared = dwarf.sup().zip(shared).map(|(dwarf, sections)| Units::new(dwarf, sections, budget));
        AllUnits { own: Units::new(dwarf, own, budget), shared, budget }
    }

    /// The name of a function, its linkage name where it has one: what its entry says, or the ones that it refers to.
    pub(super) fn name_of(&self, unit: &Arc<Unit<Slice<'a>>>, entry: UnitOffset) -> Option<Vec<u8>> {
        let mut place = Place { is_shared: false, unit: unit.clone(), entry };
        for _ in 0..MAX_ENTRIES {
            let (name, next) = self.read(&place)?;
            if name.is_some() {
                return name;
            }
            place = self.follow(place, next?)?;
        }
        None
    }

    fn units(&self, is_shared: bool) -> Option<&Units<'a>> {
        if is_shared { self.shared.as_ref() } else { Some(&self.own) }
    }

    /// The name that an entry states, and the entry that it refers to.
    fn read(&self, place: &Place<'a>) -> Option<(Option<Vec<u8>>, Option<Reference<'a>>)> {
        let unit = UnitRef::new(self.units(place.is_shared)?.dwarf, &place.unit);
        let mut entries = unit.entries_raw(Some(place.entry)).ok()?;
        let abbreviation = entries.read_abbreviation().ok()??;
        self.budget.spend(1 + abbreviation.attributes().len())?;
        let (mut name, mut next) = (None, None);
        for attribute in abbreviation.attributes() {
            let attribute = entries.read_attribute(*attribute).ok()?;
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    if let Ok(linkage_name) = unit.attr_string(attribute.value()) {
                        return Some((Some(cut(linkage_name.slice())), None));
                    }
                }
                gimli::DW_AT_name => name = unit.attr_string(attribute.value()).ok(),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => next = Some(attribute.value()),
                _ => {}
            }
        }
        Some((name.map(|name| cut(name.slice())), next))
    }

    fn follow(&self, from: Place<'a>, reference: Reference<'a>) -> Option<Place<'a>> {
        match reference {
            AttributeValue::UnitRef(entry) => Some(Place { entry, ..from }),
            AttributeValue::DebugInfoRef(entry) => self.place(from.is_shared, entry),
            AttributeValue::DebugInfoRefSup(entry) => self.place(true, entry),
            _ => None,
        }
    }

    fn place(&self, is_shared: bool, entry: DebugInfoOffset) -> Option<Place<'a>> {
        let unit = self.units(is_shared)?.holding(entry)?;
        let entry = entry.to_unit_offset(&unit.header)?;
        Some(Place { is_shared, unit, entry })
    }
}
