//! The [`Memory`] trait and typed reads on top of it. Targets are 64-bit and little-endian.

use crate::ranges::RangeSet;
use pyst_snapshot::{Address, Range};

/// Why bytes could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The snapshot does not hold them: the walk that recorded it did not ask for them.
    #[error("{0} was never recorded")]
    NotRecorded(Range),
    /// The target has no readable memory there.
    #[error("{0} could not be read")]
    Unreadable(Range),
    /// A length that no structure of the target has; the bytes were not asked for.
    #[error("{length} bytes at {start} are more than the {limit} allowed there")]
    TooLong {
        /// Where the read would start.
        start: Address,
        /// How many bytes the target's data asked for.
        length: u64,
        /// How many are allowed.
        limit: u64,
    },
}

/// Bytes at an address.
pub trait Memory {
    /// Fills `buffer` with the bytes from `address` on, all or nothing.
    ///
    /// # Errors
    /// Some of the bytes cannot be had; the error names the range that was asked for.
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError>;

    /// The parts of `range` that anything was ever written to, as far as that is known without reading: who reserves a
    /// terabyte uses little of it, and to search the rest would take hours.
    fn touched(&self, range: Range) -> Vec<Range> {
        vec![range]
    }

    /// Says which ranges will most likely be read next, and does not count as a read: a memory of which every read costs a call
    /// may bring them with few.
    fn expect(&self, ranges: RangeSet) {
        let _ = ranges;
    }

    /// The same where nothing else near these ranges will be wanted.
    fn expect_only(&self, ranges: RangeSet) {
        self.expect(ranges);
    }

    /// Whether it makes anything of what is expected of it: where not, nobody need find that out.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Says that nothing below `address` is read any more, so that what holds bytes may let go of those.
    fn forget_below(&self, _address: Address) {}
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(address, buffer)
    }

    fn touched(&self, range: Range) -> Vec<Range> {
        (**self).touched(range)
    }

    fn expect(&self, ranges: RangeSet) {
        (**self).expect(ranges);
    }

    fn expect_only(&self, ranges: RangeSet) {
        (**self).expect_only(ranges);
    }

    fn reads_ahead(&self) -> bool {
        (**self).reads_ahead()
    }

    fn forget_below(&self, address: Address) {
        (**self).forget_below(address);
    }
}

/// Typed reads.
pub trait MemoryExt: Memory {
    /// `N` bytes.
    ///
    /// # Errors
    /// Those of [`Memory::read`].
    fn read_array<const N: usize>(&self, address: Address) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// A `u64`.
    ///
    /// # Errors
    /// Those of [`Memory::read`].
    fn read_u64(&self, address: Address) -> Result<u64, ReadError> {
        self.read_array(address).map(u64::from_le_bytes)
    }

    /// A pointer.
    ///
    /// # Errors
    /// Those of [`Memory::read`].
    fn read_address(&self, address: Address) -> Result<Address, ReadError> {
        self.read_u64(address).map(Address)
    }

    /// `length` bytes, which came from the target and may not exceed `limit`.
    ///
    /// # Errors
    /// Those of [`Memory::read`], and [`ReadError::TooLong`] before anything is allocated.
    fn read_bytes(&self, address: Address, length: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
        let too_long = ReadError::TooLong { start: address, length, limit };
        if length > limit {
            return Err(too_long);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| too_long)?];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }
}

impl<M: Memory + ?Sized> MemoryExt for M {}
