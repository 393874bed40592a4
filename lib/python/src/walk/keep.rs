//! What is read for later versions only, so that a recorder under the walk has it.

use super::Walk;
use crate::layout::Field;
use pyst_memory::MemoryExt;
use pyst_snapshot::Address;

/// The largest of the structures beside the way that are read for what later versions will look at in them.
const KEPT: u64 = 16 << 10;

/// Fields of an interpreter that are no further apart than this are read together: it has some hundred kilobytes.
const GAP: u64 = 512;

impl Walk<'_> {
    /// Has read what later versions look at: the fields beside those used, the GIL, the garbage collector's state.
    pub(super) fn keep_interpreter(&self, address: Address) {
        let offsets = &self.layout.offsets;
        let word = |field: Field| Some((field.get()?, 8));
        let mut parts: Vec<(u64, u64)> = [
            word(offsets.interpreter_next),
            word(offsets.interpreter_id),
            word(offsets.interpreter_threads_head),
            word(offsets.interpreter_threads_main),
            word(offsets.interpreter_finalizing),
            // With own_gil after it.
            offsets.interpreter_gil.get().map(|gil| (gil, 16)),
            word(offsets.interpreter_gil_drop_request),
            offsets.interpreter_gc.get().zip(offsets.gc_size.get()),
        ]
        .into_iter()
        .flatten()
        .collect();
        parts.sort_unstable();
        let mut parts = parts.into_iter().peekable();
        while let Some((start, length)) = parts.next() {
            let mut end = start.saturating_add(length);
            while let Some((next, length)) = parts.next_if(|(next, _)| *next <= end.saturating_add(GAP)) {
                end = end.max(next.saturating_add(length));
            }
            self.keep(address.checked_add(start), end.saturating_sub(start));
        }
        let gil = offsets.interpreter_gil.of(address).and_then(|gil| self.memory.read_address(gil).ok());
        if let Some(gil) = gil.filter(|gil| !gil.is_null()) {
            self.keep(Some(gil), offsets.gil_size.get().unwrap_or(0));
        }
    }

    /// Reads what no result depends on, so that a recorder has it.
    pub(super) fn keep(&self, address: Option<Address>, length: u64) {
        if let Some(address) = address {
            let _ = self.memory.read_bytes(address, length, KEPT);
        }
    }
}
