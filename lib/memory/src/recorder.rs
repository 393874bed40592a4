//! Records what a walk asks of a memory.

use crate::image::Image;
use crate::ranges::RangeSet;
use crate::seam::{Memory, ReadError};
use pyst_snapshot::payload::memory_sections;
use pyst_snapshot::{Address, Range, RawSection, WireError};
use std::cell::RefCell;

/// A memory that remembers which ranges were read from the one beneath, and which could not be.
#[derive(Debug)]
pub struct Recorder<M> {
    inner: M,
    read: RefCell<RangeSet>,
    unreadable: RefCell<RangeSet>,
}

impl<M: Memory> Recorder<M> {
    /// A recorder that has seen nothing.
    pub fn new(inner: M) -> Recorder<M> {
        Recorder { inner, read: RefCell::default(), unreadable: RefCell::default() }
    }

    /// Records a range that no walk has read, as far as it can be read.
    pub fn keep(&self, range: Range) {
        self.read.borrow_mut().insert(range);
    }

    /// The ranges that were read so far, ascending and disjoint.
    pub fn ranges(&self) -> Vec<Range> {
        self.read.borrow_mut().merged().to_vec()
    }

    /// The ranges that were read, ascending and disjoint.
    pub fn into_ranges(self) -> Vec<Range> {
        self.read.into_inner().into_merged()
    }

    /// What was read, as the sections of a snapshot, each handed to `take` as soon as it is made; and the ranges that are in
    /// them. `inner` must not have changed meanwhile: it is a copy, or a core file. Of what has gone into them it is told that
    /// nobody needs it any more.
    ///
    /// # Errors
    /// Something is too large for a section.
    pub fn into_sections(self, take: &mut dyn FnMut(RawSection)) -> Result<Vec<Range>, WireError> {
        let (mut read, mut unreadable) = (self.read.into_inner(), self.unreadable.into_inner());
        let mut fill = |start, place: &mut [u8]| {
            self.inner.forget_below(start);
            self.inner.read(start, place).is_ok()
        };
        memory_sections(read.merged(), unreadable.merged(), &mut fill, take)
    }

    /// What was read, as an image of its own. `inner` must not have changed meanwhile: it is a copy, or a core file.
    pub fn into_image(self) -> Image<'static> {
        let mut image = Image::new();
        let mut segments = Vec::new();
        for range in self.read.into_inner().merged() {
            let Ok(length) = usize::try_from(range.len()) else { continue };
            let mut bytes = vec![0; length];
            if self.inner.read(range.start, &mut bytes).is_ok() {
                segments.push((range.start, bytes.into()));
            }
        }
        image.extend(segments);
        image.extend_unreadable(self.unreadable.into_inner().merged().iter().copied());
        image
    }
}

impl<M: Memory> Memory for Recorder<M> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let result = self.inner.read(address, buffer);
        if let Some(range) = Range::sized(address, buffer.len() as u64) {
            match result {
                Ok(()) => self.read.borrow_mut().insert(range),
                Err(ReadError::Unreadable(_)) => self.unreadable.borrow_mut().insert(range),
                Err(_) => {}
            }
        }
        result
    }

    fn expect(&self, ranges: RangeSet) {
        self.inner.expect(ranges);
    }

    fn expect_only(&self, ranges: RangeSet) {
        self.inner.expect_only(ranges);
    }

    fn reads_ahead(&self) -> bool {
        self.inner.reads_ahead()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::MemoryExt;

    #[test]
    fn what_was_read_can_be_read_again_and_nothing_else() {
        let mut target = Image::new();
        target.extend([(Address(0x1000), vec![7; 0x1000].into())]);
        target.extend_unreadable([Range { start: Address(0x5000), end: Address(0x6000) }]);
        let recorder = Recorder::new(&target);
        recorder.read_u64(Address(0x1010)).unwrap();
        recorder.read_u64(Address(0x1014)).unwrap();
        assert!(recorder.read_u64(Address(0x5000)).is_err());
        assert!(recorder.read_u64(Address(0x9000)).is_err());
        recorder.keep(Range { start: Address(0x1100), end: Address(0x1104) });
        let image = recorder.into_image();
        assert_eq!(image.len(), 12 + 4);
        assert_eq!(image.read_array::<12>(Address(0x1010)), Ok([7; 12]));
        assert!(matches!(image.read_u64(Address(0x5000)), Err(ReadError::Unreadable(_))));
        assert!(matches!(image.read_u64(Address(0x9000)), Err(ReadError::NotRecorded(_))));
    }
}
