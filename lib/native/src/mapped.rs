//! Which addresses can be code, as far as the mappings tell.

use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::Address;
use pyst_snapshot::payload::Map;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The mappings of a target, and which of them were asked about.
pub(crate) struct Mapped<'a> {
    /// Ascending.
    maps: &'a [Map],
    memory: &'a dyn Memory,
    asked: RefCell<BTreeSet<Address>>,
}

impl<'a> Mapped<'a> {
    pub(crate) fn new(maps: &'a [Map], memory: &'a dyn Memory) -> Mapped<'a> {
        Mapped { maps, memory, asked: RefCell::default() }
    }

    /// Whether what lies at `address` may be executed; `None` where nobody knows. A snapshot has only those mappings that
    /// somebody asked about; that nothing is mapped is known from memory that could not be read.
    pub(crate) fn is_code(&self, address: Address) -> Option<bool> {
        let after = self.maps.partition_point(|map| map.range.start <= address);
        let map = after.checked_sub(1).and_then(|index| self.maps.get(index));
        if let Some(map) = map.filter(|map| map.range.contains(address)) {
            self.asked.borrow_mut().insert(map.range.start);
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
