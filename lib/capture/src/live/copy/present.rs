//! A copy that may be completed from what is in memory, by the thread that lets go: reading that cannot block.

use super::Copy;
use crate::live::page::{page_from, page_of};
use crate::live::pagemap::Pagemap;
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::{Address, Range};

/// The longest read that is fetched in the middle of a walk.
const FETCHED: u64 = 256 << 10;

/// The copy, and what tells what is in memory.
pub(super) struct Present<'a> {
    pub(super) copy: &'a Copy,
    pub(super) pagemap: &'a Pagemap,
}

impl Memory for Present<'_> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let Present { copy, pagemap } = self;
        copy.read(address, buffer).or_else(|error| {
            let end = page_from(address.0.saturating_add(buffer.len() as u64));
            let range = Range { start: Address(page_of(address.0)), end: Address(end) };
            if range.len() > FETCHED || pagemap.present(&[range]) != [range] {
                return Err(error);
            }
            copy.read_ranges(&[range]).map_err(|_| error)?;
            // It is not missed any more.
            copy.lock().missed.as_mut().map(Vec::pop);
            copy.read(address, buffer)
        })
    }
}
