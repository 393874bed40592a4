//! Limits of debug information that is believed: units and abbreviations may lead to one another's bytes over and over, and
//! entries may nest as deep as a file is long, so that a small file could take hours, all memory or all of the stack.
//!
//! Whoever looks up an svma reads all units' beginnings, and follows the entries of those that have it. So they are judged
//! before the first lookup.

use super::Slice;
use gimli::{Dwarf, Reader as _, Section as _, UnitType};
use pyst_snapshot::Svma;
use std::collections::HashMap;

/// How deep entries of a unit may nest. Compilers reach some dozens; deeper ones are followed by recursion.
const MAX_DEPTH: isize = 512;

/// How many ranges of addresses the units may state. The largest programs there are have about a million.
const MAX_RANGES: usize = 8 << 20;

/// How many bytes of abbreviations may be read: each unit's anew, even if units share them.
const MAX_ABBREVIATIONS: usize = 256 << 20;

/// Whether a file is within the limits where it matters to these svmas.
pub(super) fn are_kept(dwarf: &Dwarf<Slice<'_>>, svmas: &[Svma]) -> bool {
    let mut svmas = svmas.to_vec();
    svmas.sort_unstable();
    let mut ranges = Ranges { svmas, left: MAX_RANGES };
    has_few_abbreviations(dwarf) && units_keep(dwarf, &mut ranges) == Some(true)
}

/// The ranges that are looked at.
struct Ranges {
    /// Ascending.
    svmas: Vec<Svma>,
    left: usize,
}

impl Ranges {
    /// Whether one of the svmas is in the range; `None` after too many.
    fn have(&mut self, range: gimli::Range) -> Option<bool> {
        self.left = self.left.checked_sub(1)?;
        let first = self.svmas.partition_point(|svma| svma.0 < range.begin);
        Some(self.svmas.get(first).is_some_and(|svma| svma.0 < range.end))
    }
}

fn units_keep(dwarf: &Dwarf<Slice<'_>>, ranges: &mut Ranges) -> Option<bool> {
    // By unit: whether `.debug_aranges` says that it has one of the svmas.
    let mut stated: HashMap<usize, bool> = HashMap::new();
    let mut headers = dwarf.debug_aranges.headers();
    while let Ok(Some(header)) = headers.next() {
        let has = stated.entry(header.debug_info_offset().0).or_default();
        for entry in header.entries().flatten() {
            *has |= ranges.have(entry.range())?;
        }
    }
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let is_asked = matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_));
        let start = header.debug_info_offset().map_or(usize::MAX, |offset| offset.0);
        let Some(unit) = is_asked.then(|| dwarf.unit(header).ok()).flatten() else { continue };
        let mut has = stated.get(&start).copied();
        let mut own = dwarf.unit_ranges(&unit).ok();
        while let Some(range) = own.as_mut().and_then(|own| own.next().ok().flatten()) {
            has = Some(has.unwrap_or_default() | ranges.have(range)?);
        }
        // What does not say where its code is may have it anywhere.
        if has.unwrap_or(true) && !is_shallow(gimli::UnitRef::new(dwarf, &unit)) {
            return Some(false);
        }
    }
    Some(true)
}

fn is_shallow(unit: gimli::UnitRef<'_, Slice<'_>>) -> bool {
    let walk = || -> gimli::Result<bool> {
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            if entries.next_depth() > MAX_DEPTH {
                return Ok(false);
            }
            if let Some(abbreviation) = entries.read_abbreviation()? {
                entries.skip_attributes(abbreviation.attributes())?;
            }
        }
        Ok(true)
    };
    // What ends in an error ends there for the lookup too.
    walk().unwrap_or(true)
}

fn has_few_abbreviations(dwarf: &Dwarf<Slice<'_>>) -> bool {
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    let mut left = MAX_ABBREVIATIONS;
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let start = header.debug_abbrev_offset().0;
        let length = *lengths.entry(start).or_insert_with(|| abbreviations_at(dwarf, start));
        let Some(rest) = left.checked_sub(length) else { return false };
        left = rest;
    }
    true
}

/// How long the abbreviations are that start at an offset.
fn abbreviations_at(dwarf: &Dwarf<Slice<'_>>, start: usize) -> usize {
    let mut bytes = *dwarf.debug_abbrev.reader();
    if bytes.skip(start).is_err() {
        return 0;
    }
    let all = bytes.len();
    let mut read_table = || -> gimli::Result<()> {
        while bytes.read_uleb128()? != 0 {
            bytes.read_uleb128()?;
            bytes.read_u8()?;
            loop {
                let (name, form) = (bytes.read_uleb128()?, bytes.read_uleb128()?);
                if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                    bytes.read_sleb128()?;
                }
                if (name, form) == (0, 0) {
                    break;
                }
            }
        }
        Ok(())
    };
    // What is cut short is as long as what could be read.
    let _ = read_table();
    all - bytes.len()
}
