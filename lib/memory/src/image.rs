//! Memory held here: a copy taken from a target, or what a snapshot recorded.

use crate::ranges::RangeSet;
use crate::seam::{Memory, ReadError};
use pyst_snapshot::payload::Memory as MemoryPayload;
use pyst_snapshot::{Address, PayloadError, Range, SectionKind, Snapshot};
use std::borrow::Cow;
use std::cell::Cell;

/// Disjoint segments of known bytes, and ranges known to be unreadable. Each byte is stored once: where segments that
/// are added overlap, the first one's bytes count.
#[derive(Clone, Debug, Default)]
pub struct Image<'a> {
    /// Ascending and disjoint.
    segments: Vec<Segment<'a>>,
    /// Ascending and disjoint.
    unreadable: Vec<Range>,
    /// The segment that was read last: the next read is most often near.
    last: Cell<usize>,
}

#[derive(Clone, Debug)]
struct Segment<'a> {
    start: Address,
    bytes: Cow<'a, [u8]>,
}

impl Segment<'_> {
    fn end(&self) -> Address {
        Address(self.start.0.saturating_add(self.bytes.len() as u64))
    }

    /// The bytes from `address` on, if all of them are of this segment.
    fn get(&self, address: Address, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(address.0.checked_sub(self.start.0)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}

impl<'a> Image<'a> {
    /// An image of nothing.
    #[must_use]
    pub fn new() -> Image<'a> {
        Image::default()
    }

    /// An image of the `memory` sections of a snapshot, whose bytes it borrows.
    ///
    /// # Errors
    /// A section does not parse or has a version unknown here. What the other sections hold is in the image beside it.
    pub fn of_snapshot(snapshot: &'a Snapshot) -> (Image<'a>, Vec<PayloadError>) {
        let kind = SectionKind::MEMORY;
        let mut errors = Vec::new();
        let mut image = Image::new();
        let mut segments = Vec::new();
        let mut unreadable = Vec::new();
        for section in snapshot.raw(kind) {
            if section.version != 1 {
                errors.push(PayloadError::NewerVersion { kind, found: section.version, newest: 1 });
                continue;
            }
            match MemoryPayload::parse(&section.payload) {
                Ok(ranges) => {
                    for (range, bytes) in ranges {
                        match bytes {
                            Some(bytes) => segments.push((range.start, Cow::Borrowed(bytes))),
                            None => unreadable.push(range),
                        }
                    }
                }
                Err(source) => errors.push(PayloadError::Malformed { kind, source }),
            }
        }
        image.extend(segments);
        image.extend_unreadable(unreadable);
        (image, errors)
    }

    /// Adds segments. Bytes the image has already stay as they are.
    pub fn extend(&mut self, segments: impl IntoIterator<Item = (Address, Cow<'a, [u8]>)>) {
        let held = std::mem::take(&mut self.segments);
        let added = segments
            .into_iter()
            .filter(|(start, bytes)| !bytes.is_empty() && start.checked_add(bytes.len() as u64).is_some())
            .map(|(start, bytes)| Segment { start, bytes });
        let mut all: Vec<Segment<'a>> = held.into_iter().chain(added).collect();
        // Stable: of two that start together the one held longer comes first.
        all.sort_by_key(|segment| segment.start);
        self.segments.reserve(all.len());
        for segment in all {
            self.push_disjoint(segment);
        }
    }

    /// Notes ranges that cannot be read.
    pub fn extend_unreadable(&mut self, ranges: impl IntoIterator<Item = Range>) {
        let mut set: RangeSet = self.unreadable.drain(..).chain(ranges).collect();
        self.unreadable = set.merged().to_vec();
    }

    /// The segments, ascending and disjoint.
    pub fn segments(&self) -> impl Iterator<Item = (Address, &[u8])> {
        self.segments.iter().map(|segment| (segment.start, segment.bytes.as_ref()))
    }

    /// The bytes held, in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes.len() as u64).sum()
    }

    /// Whether no byte is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Appends what of `segment` lies above all that is held; all that is held starts at or below it.
    fn push_disjoint(&mut self, segment: Segment<'a>) {
        let held_to = self.segments.last().map_or(Address(0), Segment::end);
        if segment.start >= held_to {
            self.segments.push(segment);
            return;
        }
        let overlap = usize::try_from(held_to.0 - segment.start.0).unwrap_or(usize::MAX);
        let rest = match segment.bytes {
            Cow::Borrowed(bytes) => bytes.get(overlap..).map(Cow::Borrowed),
            Cow::Owned(bytes) => bytes.get(overlap..).map(|rest| Cow::Owned(rest.to_vec())),
        };
        if let Some(bytes) = rest.filter(|bytes| !bytes.is_empty()) {
            self.segments.push(Segment { start: held_to, bytes });
        }
    }
}

impl Memory for Image<'_> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let asked =
            Range { start: address, end: address.checked_add(buffer.len() as u64).unwrap_or(Address(u64::MAX)) };
        let missing = || {
            let first = self.unreadable.partition_point(|range| range.end <= address);
            let unreadable = self.unreadable.get(first).is_some_and(|range| range.start < asked.end);
            if unreadable { ReadError::Unreadable(asked) } else { ReadError::NotRecorded(asked) }
        };
        let last = self.segments.get(self.last.get());
        if let Some(bytes) = last.and_then(|segment| segment.get(address, buffer.len())) {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        let mut index = self.segments.partition_point(|segment| segment.end() <= address);
        self.last.set(index);
        let mut rest = buffer;
        let mut at = address;
        // A range may span segments that touch.
        while !rest.is_empty() {
            let segment = self.segments.get(index).filter(|segment| segment.start <= at).ok_or_else(missing)?;
            let offset = usize::try_from(at.0 - segment.start.0).map_err(|_| missing())?;
            let bytes = segment.bytes.get(offset..).unwrap_or_default();
            let count = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(bytes.get(..count).ok_or_else(missing)?);
            rest = later;
            at = at.checked_add(count as u64).ok_or_else(missing)?;
            index += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::MemoryExt;

    fn image() -> Image<'static> {
        let mut image = Image::new();
        image.extend([
            (Address(100), vec![1, 2, 3, 4].into()),
            (Address(104), vec![5, 6].into()),
            (Address(200), vec![7].into()),
        ]);
        image
    }

    #[test]
    fn reads_cross_segments_that_touch_and_stop_at_gaps() {
        assert_eq!(image().read_array::<4>(Address(102)), Ok([3, 4, 5, 6]));
        let gap = Range { start: Address(105), end: Address(107) };
        assert_eq!(image().read_array::<2>(Address(105)), Err(ReadError::NotRecorded(gap)));
        assert!(image().read_array::<1>(Address(u64::MAX)).is_err());
        assert_eq!(image().read_array::<0>(Address(0)), Ok([]));
    }

    #[test]
    fn unreadable_is_another_answer_than_never_recorded() {
        let mut image = image();
        image.extend_unreadable([Range { start: Address(300), end: Address(310) }]);
        assert!(matches!(image.read_array::<2>(Address(309)), Err(ReadError::Unreadable(_))));
        assert!(matches!(image.read_array::<2>(Address(310)), Err(ReadError::NotRecorded(_))));
    }

    #[test]
    fn of_bytes_added_twice_the_first_count() {
        let mut image = image();
        image.extend([(Address(98), vec![9; 12].into())]);
        assert_eq!(image.read_array::<12>(Address(98)).unwrap(), [9; 12]);
        let mut image = Image::new();
        image.extend([(Address(100), vec![1, 2].into())]);
        image.extend([(Address(100), vec![9, 9, 3].into())]);
        assert_eq!(image.read_array::<3>(Address(100)), Ok([1, 2, 3]));
    }

    #[test]
    fn a_read_after_one_elsewhere_gets_its_own_bytes() {
        let mut image = image();
        assert_eq!(image.read_array::<1>(Address(200)), Ok([7]));
        assert_eq!(image.read_array::<2>(Address(100)), Ok([1, 2]));
        assert_eq!(image.read_array::<2>(Address(101)), Ok([2, 3]));
        // Below what was read last, so that it is another segment that has its index now.
        image.extend([(Address(50), vec![8, 9].into())]);
        assert_eq!(image.read_array::<2>(Address(101)), Ok([2, 3]));
        assert_eq!(image.read_array::<2>(Address(50)), Ok([8, 9]));
        assert!(image.read_array::<2>(Address(51)).is_err());
        assert!(image.read_array::<2>(Address(49)).is_err());
    }
}
