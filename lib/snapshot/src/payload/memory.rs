//! `memory`: bytes of the target. Not bincode: see `schemas/snapshot.md`, "Memory".
//!
//! A payload is a `u32` count of ranges, four reserved bytes (0), that many 24-byte entries (`u64` address, `u64` length,
//! `u32` state, `u32` reserved), and then the bytes of the ranges in state [`RangeState::READ`], one after the other. A
//! snapshot may have any number of such sections, each at most [`MAX_MEMORY_SECTION`] long.

mod sections;

pub use sections::memory_sections;

use super::{Payload, PayloadError};
use crate::address::{Address, Range};
use crate::code::open_enum;
use crate::format::SectionKind;
use crate::wire::WireError;

/// The longest `memory` payload that is written, in bytes. Earlier writers went up to 4 MiB.
pub const MAX_MEMORY_SECTION: usize = 512 << 10;

const HEADER: usize = 8;
const ENTRY: usize = 24;

open_enum!(
    /// What is known of a range.
    RangeState {
        /// Its bytes follow.
        READ = 1, "read";
        /// It was asked for, and could not be read.
        UNREADABLE = 2, "unreadable";
    }
);

/// A range with its bytes where they are known.
pub type ParsedRange<'a> = (Range, Option<&'a [u8]>);

/// The `memory` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Ranges whose bytes are known: where they start, and the bytes.
    pub read: Vec<(Address, Vec<u8>)>,
    /// Ranges that could not be read.
    pub unreadable: Vec<Range>,
}

impl Memory {
    /// Reads a payload without copying its bytes: each range whose bytes are known with those, each other range without.
    /// Ranges in a state that this version does not know are left out.
    ///
    /// # Errors
    /// The counts and lengths do not fit the payload.
    pub fn parse(payload: &[u8]) -> Result<Vec<ParsedRange<'_>>, WireError> {
        let malformed = |what: &str| WireError::Malformed(format!("memory: {what}"));
        let (count, rest) = payload.split_first_chunk::<4>().ok_or_else(|| malformed("no header"))?;
        let count = u32::from_le_bytes(*count) as usize;
        let rest = rest.get(4..).ok_or_else(|| malformed("no header"))?;
        let table = count
            .checked_mul(ENTRY)
            .filter(|size| *size <= rest.len())
            .ok_or_else(|| malformed("no room for its entries"))?;
        let (table, mut bytes) = rest.split_at(table);
        let mut ranges = Vec::with_capacity(count);
        for entry in table.chunks_exact(ENTRY) {
            let word = |at: usize| entry.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
            let range =
                Range::sized(Address(word(0)), word(8)).ok_or_else(|| malformed("a range past the last address"))?;
            match RangeState(word(16) as u32 as u16) {
                RangeState::READ => {
                    let length = usize::try_from(range.len()).map_err(|_| malformed("a range too long"))?;
                    let (own, rest) =
                        bytes.split_at_checked(length).ok_or_else(|| malformed("fewer bytes than its entries say"))?;
                    ranges.push((range, Some(own)));
                    bytes = rest;
                }
                RangeState::UNREADABLE => ranges.push((range, None)),
                _ => {}
            }
        }
        Ok(ranges)
    }
}

/// The start of a payload: its header and its entries.
fn table(read: impl ExactSizeIterator<Item = (Address, u64)>, unreadable: &[Range]) -> Result<Vec<u8>, WireError> {
    let too_many = |_| WireError::TooLarge("memory: too many ranges".to_owned());
    let count = u32::try_from(read.len().saturating_add(unreadable.len())).map_err(too_many)?;
    let mut table = Vec::with_capacity(HEADER + ENTRY * count as usize);
    table.extend(count.to_le_bytes());
    table.extend([0; 4]);
    let mut entry = |start: Address, length: u64, state: RangeState| {
        table.extend(start.0.to_le_bytes());
        table.extend(length.to_le_bytes());
        table.extend(u32::from(state.0).to_le_bytes());
        table.extend([0; 4]);
    };
    read.for_each(|(start, length)| entry(start, length, RangeState::READ));
    unreadable.iter().for_each(|range| entry(range.start, range.len(), RangeState::UNREADABLE));
    Ok(table)
}

impl Payload for Memory {
    const KIND: SectionKind = SectionKind::MEMORY;
    const VERSION: u16 = 1;

    fn encode(&self) -> Result<Vec<u8>, WireError> {
        let read = self.read.iter().map(|(start, bytes)| (*start, bytes.len() as u64));
        let mut payload = table(read, &self.unreadable)?;
        for (_, bytes) in &self.read {
            payload.extend(bytes);
        }
        if payload.len() > MAX_MEMORY_SECTION {
            return Err(WireError::TooLarge(format!("memory: {} bytes exceed {MAX_MEMORY_SECTION}", payload.len())));
        }
        Ok(payload)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<Memory, PayloadError> {
        let kind = SectionKind::MEMORY;
        if version != Self::VERSION {
            return Err(PayloadError::NewerVersion { kind, found: version, newest: Self::VERSION });
        }
        let mut memory = Memory::default();
        for (range, bytes) in Memory::parse(bytes).map_err(|source| PayloadError::Malformed { kind, source })? {
            match bytes {
                Some(bytes) => memory.read.push((range.start, bytes.to_vec())),
                None => memory.unreadable.push(range),
            }
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lengths_that_do_not_fit_are_errors() {
        assert!(Memory::parse(&[0; 7]).is_err());
        assert!(Memory::parse(b"\xff\xff\xff\xff\0\0\0\0").is_err());
        let mut payload = Memory { read: vec![(Address(1), vec![0; 4])], ..Memory::default() }.encode().unwrap();
        assert!(Memory::parse(&payload).is_ok());
        payload.truncate(payload.len() - 1);
        assert!(Memory::parse(&payload).is_err());
    }
}
