//! The units of one file's debug information, each read when it is needed.

use super::Slice;
use super::budget::Budget;
use gimli::{Abbreviations, DebugInfoOffset, Dwarf, Reader as _, Section as _, Unit, UnitType};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

pub(super) struct Units<'a> {
    pub(super) dwarf: &'a Dwarf<Slice<'a>>,
    budget: &'a Budget,
    starts: OnceCell<Vec<usize>>,
    kept: RefCell<HashMap<usize, Option<Rc<Unit<Slice<'a>>>>>>,
    /// Those read last, with their offset: neighbours share them.
    abbreviations: RefCell<Option<(usize, Arc<Abbreviations>)>>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Slice<'a>>, budget: &'a Budget) -> Units<'a> {
        Units { dwarf, budget, starts: OnceCell::new(), kept: RefCell::default(), abbreviations: RefCell::default() }
    }

    /// Where each unit starts, ascending.
    pub(super) fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            let mut headers = self.dwarf.units();
            let headers = std::iter::from_fn(|| headers.next().ok().flatten());
            headers.filter_map(|header| Some(header.debug_info_offset()?.0)).collect()
        })
    }

    /// The unit that an entry is in.
    pub(super) fn holding(&self, entry: DebugInfoOffset) -> Option<Rc<Unit<Slice<'a>>>> {
        let after = self.starts().partition_point(|start| *start <= entry.0);
        self.at(*self.starts().get(after.checked_sub(1)?)?)
    }

    /// The unit that starts here, which is kept.
    pub(super) fn at(&self, start: usize) -> Option<Rc<Unit<Slice<'a>>>> {
        if let Some(unit) = self.kept.borrow().get(&start) {
            return unit.clone();
        }
        let unit = self.read(start).map(Rc::new);
        self.kept.borrow_mut().insert(start, unit.clone());
        unit
    }

    /// The unit that starts here, if it is of a kind that has code; not kept.
    pub(super) fn with_code(&self, start: usize) -> Option<Unit<Slice<'a>>> {
        let header = self.dwarf.unit_header(DebugInfoOffset(start)).ok()?;
        let may_have = matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_));
        may_have.then(|| self.read(start))?
    }

    fn read(&self, start: usize) -> Option<Unit<Slice<'a>>> {
        let header = self.dwarf.unit_header(DebugInfoOffset(start)).ok()?;
        let abbreviations = self.abbreviations_at(header.debug_abbrev_offset().0)?;
        Unit::new_with_abbreviations(self.dwarf, header, abbreviations).ok()
    }

    fn abbreviations_at(&self, start: usize) -> Option<Arc<Abbreviations>> {
        let mut last = self.abbreviations.borrow_mut();
        if let Some((_, known)) = last.as_ref().filter(|(offset, _)| *offset == start) {
            return Some(known.clone());
        }
        self.budget.spend(length_at(self.dwarf, start))?;
        let section = &self.dwarf.debug_abbrev;
        let read = Arc::new(section.abbreviations(gimli::DebugAbbrevOffset(start)).ok()?);
        *last = Some((start, read.clone()));
        Some(read)
    }
}

/// How long the abbreviations are that start at an offset.
fn length_at(dwarf: &Dwarf<Slice<'_>>, start: usize) -> usize {
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
