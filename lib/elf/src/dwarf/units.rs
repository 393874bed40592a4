//! The units of one file's debug information, each read when it is needed.

use super::budget::Budget;
use super::outline::Outline;
use super::section::Section;
use super::{Sections, Slice, slice};
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfo, DebugInfoOffset, Dwarf, Reader as _,
    Unit, UnitHeader, UnitType,
};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct Units<'a> {
    /// The sections that are whole.
    pub(super) dwarf: &'a Dwarf<Slice<'a>>,
    sections: &'a Sections<'a>,
    budget: &'a Budget,
    starts: OnceCell<Vec<usize>>,
    kept: RefCell<HashMap<usize, Option<Arc<Unit<Slice<'a>>>>>>,
    /// Those read last, with their offset: neighbours share them.
    abbreviations: RefCell<Option<(usize, Arc<Abbreviations>)>>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Slice<'a>>, sections: &'a Sections<'a>, budget: &'a Budget) -> Units<'a> {
        Units {
            dwarf,
            sections,
            budget,
            starts: OnceCell::new(),
            kept: RefCell::default(),
            abbreviations: RefCell::default(),
        }
    }

    /// Where each unit starts, ascending.
    pub(super) fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            let whole = DebugInfo::from(slice(self.sections.info.first(usize::MAX)));
            let mut headers = whole.units();
            let headers = std::iter::from_fn(|| headers.next().ok().flatten());
            headers.filter_map(|header| Some(header.debug_info_offset()?.0)).collect()
        })
    }

    /// The unit that an entry is in.
    pub(super) fn holding(&self, entry: DebugInfoOffset) -> Option<Arc<Unit<Slice<'a>>>> {
        let after = self.starts().partition_point(|start| *start <= entry.0);
        self.at(*self.starts().get(after.checked_sub(1)?)?)
    }

    /// The unit that starts here, which is kept.
    pub(super) fn at(&self, start: usize) -> Option<Arc<Unit<Slice<'a>>>> {
        if let Some(unit) = self.kept.borrow().get(&start) {
            return unit.clone();
        }
        let unit = self.read(start).map(Arc::new);
        self.kept.borrow_mut().insert(start, unit.clone());
        unit
    }

    /// What the unit that starts here says of itself, if it is of a kind that has code.
    pub(super) fn outline(&self, start: usize) -> Option<Outline<'a>> {
        let header = self.header(start)?;
        if !matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_)) {
            return None;
        }
        // The entry begins with the number of its abbreviation.
        let mut entry = slice(self.sections.info.through(start).get(start.checked_add(header.size_of_header())?..)?);
        let number = entry.read_uleb128().ok()?;
        let table = header.debug_abbrev_offset().0;
        let abbreviation = abbreviation_from(&self.sections.abbreviations, table, number, self.budget)?;
        Outline::read(header, abbreviation, self.dwarf, &self.sections.lines)
    }

    /// The unit that starts here; not kept.
    pub(super) fn read(&self, start: usize) -> Option<Unit<Slice<'a>>> {
        let header = self.header(start)?;
        let abbreviations = self.abbreviations_at(header.debug_abbrev_offset().0)?;
        let lines =
            line_program_of(&header, &abbreviations).map_or(&[][..], |start| self.sections.lines.through(start));
        // What a unit is made of.
        let dwarf = Dwarf {
            debug_line: slice(lines).into(),
            debug_line_str: self.dwarf.debug_line_str,
            debug_str: self.dwarf.debug_str,
            debug_str_offsets: self.dwarf.debug_str_offsets,
            debug_addr: self.dwarf.debug_addr,
            file_type: self.dwarf.file_type,
            sup: self.dwarf.sup.clone(),
            ..Dwarf::default()
        };
        Unit::new_with_abbreviations(&dwarf, header, abbreviations).ok()
    }

    fn header(&self, start: usize) -> Option<UnitHeader<Slice<'a>>> {
        let info = DebugInfo::from(slice(self.sections.info.through(start)));
        info.header_from_offset(DebugInfoOffset(start)).ok()
    }

    fn abbreviations_at(&self, start: usize) -> Option<Arc<Abbreviations>> {
        let mut last = self.abbreviations.borrow_mut();
        if let Some((_, known)) = last.as_ref().filter(|(offset, _)| *offset == start) {
            return Some(known.clone());
        }
        let table = abbreviations_from(&self.sections.abbreviations, start);
        self.budget.spend(table.len())?;
        let read = DebugAbbrev::from(slice(table)).abbreviations(DebugAbbrevOffset(0)).ok()?;
        let read = Arc::new(read);
        *last = Some((start, read.clone()));
        Some(read)
    }
}

/// Where the line program of a unit starts.
fn line_program_of(header: &UnitHeader<Slice<'_>>, abbreviations: &Abbreviations) -> Option<usize> {
    let mut entries = header.entries_raw(abbreviations, None).ok()?;
    let root = entries.read_abbreviation().ok()??;
    let mut start = None;
    for attribute in root.attributes() {
        let attribute = entries.read_attribute(*attribute).ok()?;
        if let (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) = (attribute.name(), attribute.value()) {
            start = Some(offset.0);
        }
    }
    start
}

/// The abbreviations that start at an offset, up to the zero that ends them, or as far as they make sense.
fn abbreviations_from<'a>(section: &'a Section<'_>, start: usize) -> &'a [u8] {
    let pass_all = |bytes: &mut Slice<'_>| {
        while bytes.read_uleb128()? != 0 {
            pass_abbreviation(bytes)?;
        }
        Ok(())
    };
    read_from(section, start, pass_all).0
}

/// The abbreviation of this number among those that start at an offset, alone. To pass the others over costs less than to read
/// them for the sake of one entry.
fn abbreviation_from(section: &Section<'_>, start: usize, number: u64, budget: &Budget) -> Option<Abbreviations> {
    let pass_to = |bytes: &mut Slice<'_>| loop {
        let before = bytes.len();
        let found = bytes.read_uleb128()?;
        if found == 0 {
            return Ok(None);
        }
        pass_abbreviation(bytes)?;
        if found == number {
            return Ok(Some(before - bytes.len()));
        }
    };
    let (passed, length) = read_from(section, start, pass_to);
    budget.spend(passed.len())?;
    let mut alone = passed.get(passed.len().checked_sub(length.ok()??)?..)?.to_vec();
    alone.push(0);
    DebugAbbrev::from(slice(&alone)).abbreviations(DebugAbbrevOffset(0)).ok()
}

/// What `read` makes of abbreviations, and their bytes as far as it has come.
fn read_from<'a, T>(
    section: &'a Section<'_>,
    start: usize,
    read: impl Fn(&mut Slice<'_>) -> gimli::Result<T>,
) -> (&'a [u8], gimli::Result<T>) {
    /// What most units have room in.
    const USUAL: usize = 4 << 10;
    let mut wanted = start.saturating_add(USUAL);
    loop {
        let known = section.first(wanted);
        let rest = known.get(start..).unwrap_or_default();
        let mut bytes = slice(rest);
        let result = read(&mut bytes);
        // They may go on behind what is unpacked so far.
        if result.is_err() && bytes.is_empty() && known.len() >= wanted {
            wanted = wanted.saturating_mul(2);
            continue;
        }
        return (rest.get(..rest.len() - bytes.len()).unwrap_or_default(), result);
    }
}

/// Passes over an abbreviation, whose number was read.
fn pass_abbreviation(bytes: &mut Slice<'_>) -> gimli::Result<()> {
    bytes.read_uleb128()?;
    bytes.read_u8()?;
    loop {
        let (name, form) = (bytes.read_uleb128()?, bytes.read_uleb128()?);
        if form == u64::from(gimli::DW_FORM_implicit_const.0) {
            bytes.read_sleb128()?;
        }
        if (name, form) == (0, 0) {
            return Ok(());
        }
    }
}
