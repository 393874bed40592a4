//! The code addresses of frames, each made out once.
//!
//! Threads share most of their frames, and a recursion is the same few over and over. What is known of an address holds for
//! that address alone, never for its neighbours, so that nothing of a function or module can answer for another.

use crate::machine::Machine;
use crate::mapped::Mapped;
use crate::row::{Row, Scratch, compile};
use pyst_elf::{Answer, Files, ModuleId, ModuleTable};
use pyst_snapshot::{Address, Svma};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How many addresses are found without hashing, which costs as much as the rest of a step.
const RECENT: usize = 1024;

/// A code address, by its index among those asked about: ascending from 0, in the order in which they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceId(pub(crate) u32);

impl PlaceId {
    /// For tables of all places.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What CFI says at an address.
#[derive(Clone, Debug)]
pub(crate) enum Covered {
    Row(Rc<Row>),
    Malformed,
    NotRecorded,
    Not,
}

/// What is known of an address. Files and mappings are asked only when somebody needs their answer: a snapshot records each
/// question.
struct Place {
    address: Address,
    located: Option<(ModuleId, Svma)>,
    covered: OnceCell<Covered>,
    is_code: OnceCell<Option<bool>>,
}

/// The addresses asked about so far.
pub(crate) struct Places<'a> {
    machine: Machine,
    modules: &'a ModuleTable,
    files: &'a dyn Files,
    places: Vec<Place>,
    by_address: HashMap<Address, PlaceId>,
    /// The ones asked about last, each where the end of its address says.
    recent: Vec<Option<(Address, PlaceId)>>,
    scratch: Scratch,
}

impl<'a> Places<'a> {
    pub(crate) fn new(machine: Machine, modules: &'a ModuleTable, files: &'a dyn Files) -> Places<'a> {
        Places {
            machine,
            modules,
            files,
            places: Vec::new(),
            by_address: HashMap::new(),
            recent: vec![None; RECENT],
            scratch: Scratch::new_in(),
        }
    }

    /// The place of an address.
    pub(crate) fn at(&mut self, address: Address) -> PlaceId {
        let slot = address.0 as usize % RECENT;
        if let Some(Some((known, place))) = self.recent.get(slot)
            && *known == address
        {
            return *place;
        }
        let place = *self.by_address.entry(address).or_insert_with(|| {
            let located = self.modules.locate(address);
            self.places.push(Place { address, located, covered: OnceCell::new(), is_code: OnceCell::new() });
            // There are never so many: each is of a frame, or of a word on a stack.
            PlaceId(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(recent) = self.recent.get_mut(slot) {
            *recent = Some((address, place));
        }
        place
    }

    /// The module, and the svma there.
    pub(crate) fn located(&self, place: PlaceId) -> Option<(ModuleId, Svma)> {
        self.places.get(place.index())?.located
    }

    /// What CFI says.
    pub(crate) fn covered(&mut self, place: PlaceId) -> Covered {
        let Some(Place { located: Some((module, svma)), covered, .. }) = self.places.get(place.index()) else {
            return Covered::Not;
        };
        let compiled = || match self.files.cfi(*module, *svma) {
            Answer::Found(entry) => match compile(&entry, *svma, self.machine, &mut self.scratch) {
                Some(row) => Covered::Row(Rc::new(row)),
                None => Covered::Malformed,
            },
            Answer::Absent => Covered::Not,
            Answer::NotRecorded => Covered::NotRecorded,
        };
        covered.get_or_init(compiled).clone()
    }

    /// Whether it may be executed, as [`Mapped::is_code`] has it.
    pub(crate) fn is_code(&self, place: PlaceId, mapped: &Mapped<'_>) -> Option<bool> {
        let place = self.places.get(place.index())?;
        *place.is_code.get_or_init(|| mapped.is_code(place.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cfa;
    use pyst_elf::{Calls, CfiEntry, SymbolHit};
    use pyst_memory::Image;
    use pyst_snapshot::payload::{CfiSection, Module, Modules};
    use pyst_snapshot::{Bias, Range};
    use std::cell::RefCell;

    /// In each module one function, from 0x1000 to 0x1100. Its frame has 16 bytes in module 0, 32 in module 1.
    #[derive(Default)]
    struct TwoModules {
        asked: RefCell<Vec<(ModuleId, Svma)>>,
    }

    impl Files for TwoModules {
        fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
            self.asked.borrow_mut().push((module, svma));
            let entry = entry(if module == ModuleId(0) { 16 } else { 32 });
            Some(entry).filter(|entry| entry.start <= svma && svma < entry.end).into()
        }

        fn symbol(&self, _: ModuleId, _: Svma) -> Answer<SymbolHit> {
            Answer::Absent
        }

        fn calls(&self, _: ModuleId, _: Svma) -> Answer<Calls> {
            Answer::Absent
        }
    }

    /// In its first 16 bytes the function has no frame yet.
    fn entry(frame: u8) -> CfiEntry {
        let cie = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];
        let (start, fde_svma) = (0x1000u32, 0x8000u32);
        let mut fde = vec![20, 0, 0, 0];
        fde.extend((fde_svma + 4 - 0x7000).to_le_bytes());
        fde.extend(start.wrapping_sub(fde_svma + 8).to_le_bytes());
        fde.extend(0x100u32.to_le_bytes());
        // advance_loc 16; def_cfa_offset.
        fde.extend([0, 0x40 | 16, 0x0e, frame, 0, 0, 0, 0]);
        CfiEntry {
            section: CfiSection::EH_FRAME,
            cie_svma: Svma(0x7000),
            cie,
            fde_svma: Svma(fde_svma.into()),
            fde,
            start: Svma(start.into()),
            end: Svma(0x1100),
        }
    }

    const BASE: [u64; 2] = [0x10_0000, 0x20_0000];

    fn modules() -> ModuleTable {
        let module = |base| {
            let range = Range { start: Address(base), end: Address(base + 0x2000) };
            Module { bias: Bias(base), ranges: vec![range], ..Module::default() }
        };
        ModuleTable::new(&Modules { modules: BASE.into_iter().map(module).collect() })
    }

    fn cfa_offset(places: &mut Places<'_>, address: u64) -> Option<i64> {
        let place = places.at(Address(address));
        match places.covered(place) {
            Covered::Row(row) => match row.cfa {
                Cfa::Offset(7, offset) => Some(offset),
                _ => panic!("{row:?}"),
            },
            _ => None,
        }
    }

    #[test]
    fn an_address_is_answered_for_itself_only_and_asked_about_once() {
        let (files, modules) = (TwoModules::default(), modules());
        let mut places = Places::new(Machine::X86_64, &modules, &files);
        let expected = [
            // Addresses of two modules, whose ends are the same, one after the other.
            (BASE[0] + 0x1020, Some(16)),
            (BASE[1] + 0x1020, Some(32)),
            // Another row of the same function: before its frame was made.
            (BASE[0] + 0x100f, Some(8)),
            (BASE[0] + 0x1010, Some(16)),
            (BASE[1] + 0x100f, Some(8)),
            // The last byte of the function, and the first after it.
            (BASE[0] + 0x10ff, Some(16)),
            (BASE[0] + 0x1100, None),
            (BASE[0] + 0x0fff, None),
            // In no module.
            (BASE[1] + 0x9020, None),
        ];
        for round in 0..3 {
            for (address, offset) in expected {
                assert_eq!(cfa_offset(&mut places, address), offset, "{address:#x}, round {round}");
            }
        }
        assert_eq!(files.asked.borrow().len(), expected.len() - 1, "{:?}", files.asked);
    }

    #[test]
    fn addresses_that_share_a_slot_stay_apart() {
        let (files, modules) = (TwoModules::default(), modules());
        let mut places = Places::new(Machine::X86_64, &modules, &files);
        let ids: Vec<_> = (0..4).map(|i| places.at(Address(BASE[0] + i * RECENT as u64))).collect();
        let again: Vec<_> = (0..4).map(|i| places.at(Address(BASE[0] + i * RECENT as u64))).collect();
        assert_eq!(ids, again);
        assert_eq!(ids.iter().map(|id| id.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let svma = |id: &PlaceId| places.located(*id).map(|(_, svma)| svma.0);
        assert_eq!(ids.iter().map(svma).collect::<Vec<_>>(), [0, 1024, 2048, 3072].map(Some));
    }

    #[test]
    fn nothing_is_asked_before_somebody_needs_it() {
        let (files, modules, memory) = (TwoModules::default(), modules(), Image::new());
        let mapped = Mapped::new(&[], &memory);
        let mut places = Places::new(Machine::X86_64, &modules, &files);
        let place = places.at(Address(BASE[0] + 0x1020));
        assert_eq!(places.is_code(place, &mapped), None);
        assert!(files.asked.borrow().is_empty(), "a snapshot would hold an answer that nobody needed");
    }
}
