//! Which addresses can be code, as far as the mappings tell.

use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::payload::Map;
use pyst_snapshot::{Address, Range};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// The mappings of a target, and which of them were asked about.
pub(crate) struct Mapped<'a> {
    /// Ascending.
    maps: &'a [Map],
    memory: &'a dyn Memory,
    asked: RefCell<BTreeSet<Address>>,
    /// What was asked about last: most callers are near their callees.
    last: Cell<Option<(Range, bool)>>,
}

impl<'a> Mapped<'a> {
    pub(crate) fn new(maps: &'a [Map], memory: &'a dyn Memory) -> Mapped<'a> {
        Mapped { maps, memory, asked: RefCell::default(), last: Cell::default() }
    }

    /// Whether what lies at `address` may be executed; `None` where nobody knows. A snapshot has only those mappings that
    /// somebody asked about; that nothing is mapped is known from memory that could not be read.
    pub(crate) fn is_code(&self, address: Address) -> Option<bool> {
        if let Some((_, is_code)) = self.last.get().filter(|(range, _)| range.contains(address)) {
            return Some(is_code);
        }
        let after = self.maps.partition_point(|map| map.range.start <= address);
        let map = after.checked_sub(1).and_then(|index| self.maps.get(index));
        if let Some(map) = map.filter(|map| map.range.contains(address)) {
            self.asked.borrow_mut().insert(map.range.start);
            self.last.set(Some((map.range, map.is_executable())));
            return Some(map.is_executable());
        }
        let unmapped = matches!(self.memory.read_array::<1>(address), Err(ReadError::Unreadable(_)));
        unmapped.then_some(false)
    }

    /// The first address of each mapping that was asked about.
    pub(crate) fn into_asked(self) -> BTreeSet<Address> {
        self.asked.into_inner()
    }
}
