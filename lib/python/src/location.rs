//! From an instruction to lines and columns, by the table of its code object.
//!
//! Those of 3.10 and older are in `lines`. Since 3.11 it is a location table (PEP 657, CPython's
//! `InternalDocs/code_objects.md`): an entry is a byte `1kkkknnn` and the bytes of its kind `k`; it covers the next `n + 1` code units. Entries follow each
//! other without gaps, so the only way to one is through all before it.

mod lines;

use crate::layout::Lines;
use lines::{Ranges, Steps};

/// Where an instruction comes from. What the table leaves out is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) line: Option<u32>,
    pub(crate) end_line: Option<u32>,
    pub(crate) column: Option<u32>,
    pub(crate) end_column: Option<u32>,
}

/// The entries of a table, in order.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    bytes: &'a [u8],
    /// The line that the next entry's difference is to.
    line: i64,
    /// The code unit that the next entry starts at.
    unit: u32,
}

/// One entry: the first unit (see [`Lines::bytes_of_a_unit`]) after those it covers, and where they come from.
pub(crate) type Entry = (u32, Location);

/// A table that is asked again and again.
#[derive(Clone, Debug)]
pub(crate) struct LocationTable {
    form: Lines,
    bytes: Vec<u8>,
    first_line: i32,
    asked: u32,
    /// All entries, once the table was asked often enough.
    index: Option<Vec<Entry>>,
}

/// From how many questions on an index is made. Most code objects are in one frame only.
const INDEX_FROM: u32 = 16;

impl LocationTable {
    pub(crate) fn new(form: Lines, bytes: Vec<u8>, first_line: i32) -> LocationTable {
        LocationTable { form, bytes, first_line, asked: 0, index: None }
    }

    /// A table that says nothing.
    pub(crate) fn unknown() -> LocationTable {
        LocationTable::new(Lines::Locations, Vec::new(), 0)
    }

    /// Where what is at `unit` comes from.
    pub(crate) fn at(&mut self, unit: u32) -> Location {
        self.asked = self.asked.saturating_add(1);
        if self.asked < INDEX_FROM {
            return self.entries().find(|(end, _)| unit < *end).unwrap_or_default().1;
        }
        if self.index.is_none() {
            self.index = Some(self.entries().collect());
        }
        let index = self.index.as_deref().unwrap_or_default();
        index.get(index.partition_point(|(end, _)| *end <= unit)).copied().unwrap_or_default().1
    }

    pub(crate) fn entries(&self) -> Box<dyn Iterator<Item = Entry> + '_> {
        let Self { bytes, first_line, .. } = self;
        match self.form {
            Lines::Locations => Box::new(Entries::new(bytes, *first_line)),
            Lines::Ranges => Box::new(Ranges::new(bytes, *first_line)),
            Lines::Steps => Box::new(Steps::new(bytes, *first_line, false)),
            Lines::StepsForward => Box::new(Steps::new(bytes, *first_line, true)),
        }
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn new(bytes: &'a [u8], first_line: i32) -> Entries<'a> {
        Entries { bytes, line: i64::from(first_line), unit: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// Six bits a byte, the lowest first; 0x40 says that more follow.
    fn varint(&mut self) -> Option<u32> {
        let mut value: u32 = 0;
        for shift in (0..32).step_by(6) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x3f).checked_shl(shift)?;
            if byte & 0x40 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The sign is in the lowest bit.
    fn signed_varint(&mut self) -> Option<i64> {
        let value = self.varint()?;
        let magnitude = i64::from(value >> 1);
        Some(if value & 1 == 0 { magnitude } else { -magnitude })
    }

    /// One less than what is written; absent for 0.
    fn column(&mut self) -> Option<Option<u32>> {
        Some(self.varint()?.checked_sub(1))
    }

    fn location(&mut self, kind: u8) -> Option<Location> {
        const LONG: u8 = 14;
        const LINE_ONLY: u8 = 13;
        const ONE_LINE: std::ops::RangeInclusive<u8> = 10..=12;
        const SHORT: std::ops::RangeInclusive<u8> = 0..=9;
        let mut end_difference = 0;
        let mut columns = (None, None);
        if SHORT.contains(&kind) {
            let byte = u32::from(self.byte()?);
            let start = u32::from(kind) << 3 | byte >> 4;
            columns = (Some(start), Some(start + (byte & 15)));
        } else if ONE_LINE.contains(&kind) {
            self.line += i64::from(kind - ONE_LINE.start());
            columns = (Some(u32::from(self.byte()?)), Some(u32::from(self.byte()?)));
        } else if kind == LINE_ONLY {
            self.line += self.signed_varint()?;
        } else if kind == LONG {
            self.line += self.signed_varint()?;
            end_difference = i64::from(self.varint()?);
            columns = (self.column()?, self.column()?);
        } else {
            return Some(Location::default());
        }
        let line = u32::try_from(self.line).ok();
        let end_line = u32::try_from(self.line + end_difference).ok();
        Some(Location { line, end_line, column: columns.0, end_column: columns.1 })
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    /// The next entry; `None` at the table's end, or where its bytes are none.
    fn next(&mut self) -> Option<Entry> {
        let first = self.byte().filter(|byte| byte & 0x80 != 0)?;
        let location = self.location(first >> 3 & 15)?;
        self.unit = self.unit.checked_add(u32::from(first & 7) + 1)?;
        Some((self.unit, location))
    }
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_none_end_without_harm() {
        let all = |bytes: &[u8]| Entries::new(bytes, 1).count();
        assert_eq!(all(b""), 0);
        assert_eq!(all(b"\x00"), 0);
        assert_eq!(all(b"\x80"), 0);
        assert_eq!(all(b"\xf0\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f"), 0);
        assert_eq!(all(&[0xf8; 1000]), 1000);
    }

    #[test]
    fn an_index_answers_as_the_table_does() {
        // Lines only: each entry a line further, two units long.
        let bytes: Vec<u8> = (0..100).flat_map(|_| [0x80 | 13 << 3 | 1, 2]).collect();
        let mut table = LocationTable::new(Lines::Locations, bytes, 5);
        let first: Vec<_> = (0..10).map(|unit| table.at(unit * 20)).collect();
        let again: Vec<_> = (0..10).map(|unit| table.at(unit * 20)).collect();
        assert!(table.index.is_none() || table.asked >= INDEX_FROM);
        assert_eq!(first, again);
        assert_eq!(table.at(0).line, Some(6));
        assert_eq!(table.at(199).line, Some(105));
        assert_eq!(table.at(200), Location::default());
    }
}
