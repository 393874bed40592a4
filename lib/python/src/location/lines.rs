//! The tables of lines of 3.10 and older: pairs of bytes, the first of which is a number of bytes of bytecode.

use super::{Entry, Location};

fn at_line(line: i64) -> Location {
    Location { line: u32::try_from(line).ok(), ..Location::default() }
}

/// `co_lnotab`: each pair says after how many bytes the line is how much further. The last line has no end.
pub(super) struct Steps<'a> {
    pairs: std::slice::Iter<'a, [u8; 2]>,
    line: i64,
    /// The byte that the next entry starts at.
    byte: u32,
    forward: bool,
    ended: bool,
}

impl<'a> Steps<'a> {
    /// `forward` where a difference of lines has no sign.
    pub(super) fn new(bytes: &'a [u8], first_line: i32, forward: bool) -> Steps<'a> {
        Steps { pairs: bytes.as_chunks().0.iter(), line: i64::from(first_line), byte: 0, forward, ended: false }
    }
}

impl Iterator for Steps<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let here = at_line(self.line);
        match self.pairs.next() {
            Some([bytes, lines]) => {
                self.byte = self.byte.checked_add(u32::from(*bytes))?;
                self.line += if self.forward { i64::from(*lines) } else { i64::from(lines.cast_signed()) };
                Some((self.byte, here))
            }
            None if self.ended => None,
            None => {
                self.ended = true;
                Some((u32::MAX, here))
            }
        }
    }
}

/// `co_linetable` of 3.10 (`Objects/lnotab_notes.txt`): each pair says how many bytes belong to a line that is how much
/// further than the last one, or to none.
pub(super) struct Ranges<'a> {
    pairs: std::slice::Iter<'a, [u8; 2]>,
    line: i64,
    byte: u32,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(bytes: &'a [u8], first_line: i32) -> Ranges<'a> {
        Ranges { pairs: bytes.as_chunks().0.iter(), line: i64::from(first_line), byte: 0 }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        const NO_LINE: i8 = -128;
        let [bytes, lines] = self.pairs.next()?;
        self.byte = self.byte.checked_add(u32::from(*bytes))?;
        if lines.cast_signed() == NO_LINE {
            return Some((self.byte, Location::default()));
        }
        self.line += i64::from(lines.cast_signed());
        Some((self.byte, at_line(self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(entries: impl Iterator<Item = Entry>) -> Vec<(u32, Option<u32>)> {
        entries.map(|(end, location)| (end, location.line)).collect()
    }

    #[test]
    fn steps_go_back_only_where_their_version_lets_them() {
        let table = [6, 1, 8, 255, 0, 3];
        let expected = [(6, Some(10)), (14, Some(11)), (14, Some(10)), (u32::MAX, Some(13))];
        assert_eq!(lines(Steps::new(&table, 10, false)), expected);
        let expected = [(6, Some(10)), (14, Some(11)), (14, Some(266)), (u32::MAX, Some(269))];
        assert_eq!(lines(Steps::new(&table, 10, true)), expected);
    }

    #[test]
    fn code_without_a_table_is_all_on_its_first_line() {
        assert_eq!(lines(Steps::new(&[], 10, false)), [(u32::MAX, Some(10))]);
        assert_eq!(lines(Steps::new(&[4], 10, false)), [(u32::MAX, Some(10))]);
        assert_eq!(lines(Ranges::new(&[], 10)), []);
    }

    #[test]
    fn ranges_may_have_no_line() {
        let table = [4, 0, 2, 128, 6, 255];
        assert_eq!(lines(Ranges::new(&table, 10)), [(4, Some(10)), (6, None), (12, Some(9))]);
    }

    #[test]
    fn lines_before_the_first_are_none() {
        assert_eq!(lines(Ranges::new(&[4, 200], 10)), [(4, None)]);
    }
}
