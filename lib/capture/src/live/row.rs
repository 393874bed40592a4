//! Pages that are wanted one after the other, so that some can be read before they are wanted.

use super::page::PAGE;

/// How many pages are read at once at most when page after page is wanted: thread states are a list, of which each names the next,
/// and those of threads that were started together lie side by side.
const AHEAD: u64 = 16;

/// How far the next page of such a row may be away.
const NEAR: u64 = 4 * PAGE;

/// Where such a row has got to.
#[derive(Clone, Copy, Default)]
pub(super) struct Row {
    /// The last page that was read.
    last: u64,
    is_downwards: bool,
    /// How many are read at once.
    length: u64,
}

impl Row {
    /// The row that is this page.
    pub(super) fn of(page: u64) -> Row {
        Row { last: page, is_downwards: false, length: 1 }
    }

    /// The row that goes on with `page`, or begins there.
    pub(super) fn going_on_with(self, page: u64) -> Row {
        let is_downwards = page < self.last;
        let goes_on = page.abs_diff(self.last) <= NEAR && (self.length == 1 || is_downwards == self.is_downwards);
        if goes_on {
            Row { last: page, is_downwards, length: (self.length * 2).clamp(1, AHEAD) }
        } else {
            Row::of(page)
        }
    }

    /// The pages to be read now, the one that is wanted first.
    pub(super) fn pages(self) -> impl Iterator<Item = u64> {
        let distances = (0..self.length).map(|index| index * PAGE);
        distances.map_while(move |distance| match self.is_downwards {
            true => self.last.checked_sub(distance),
            false => self.last.checked_add(distance),
        })
    }

    /// The row of which `last` was read last.
    pub(super) fn read_up_to(self, last: Option<u64>) -> Row {
        Row { last: last.unwrap_or(self.last), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are read when these are wanted one after the other, as far as they are not there yet.
    fn read(wanted: &[u64]) -> Vec<Vec<u64>> {
        let mut row = Row::default();
        let mut read: Vec<Vec<u64>> = Vec::new();
        for page in wanted {
            if !read.iter().flatten().any(|known| known == page) {
                row = row.going_on_with(page * PAGE);
                let pages: Vec<u64> = row.pages().map(|page| page / PAGE).collect();
                row = row.read_up_to(pages.last().map(|page| page * PAGE));
                read.push(pages);
            }
        }
        read
    }

    #[test]
    fn more_and_more_of_a_row_is_read_in_its_direction() {
        let lengths = |wanted: &[u64]| read(wanted).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(read(&[90, 89, 86]), [vec![90], vec![89, 88], vec![86, 85, 84, 83]]);
        assert_eq!(read(&[90, 93, 95]), [vec![90], vec![93, 94], vec![95, 96, 97, 98]]);
        assert_eq!(lengths(&(100..200).collect::<Vec<u64>>()), [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn what_is_far_away_or_back_is_another_row() {
        assert_eq!(read(&[90, 89, 50]), [vec![90], vec![89, 88], vec![50]]);
        assert_eq!(read(&[90, 89, 91]), [vec![90], vec![89, 88], vec![91]]);
        // Below the first page is none.
        assert_eq!(read(&[3, 2, 0]), [vec![3], vec![2, 1], vec![0]]);
    }
}
