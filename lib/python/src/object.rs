//! What objects say of themselves: their type, and where `bytes` keep what they hold.

use crate::layout::Offsets;
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::Address;

/// How much of the start of a `bytes` object is read before its length is known; its data starts within.
const HEAD: u64 = 64;

/// Whether the object that starts with `header` may be of the type that Python calls `name`. What is not there to tell (a
/// core without the constants of a library that is gone) does not speak against it.
pub(crate) fn may_be(offsets: &Offsets, header: &[u8], name: &str, memory: &dyn Memory) -> bool {
    let Some(its_type) = offsets.object_type.address(header) else { return false };
    let Some(place) = offsets.type_name.of(its_type).filter(|_| !its_type.is_null()) else { return false };
    let text = memory.read_address(place).and_then(|text| memory.read_bytes(text, name.len() as u64 + 1, HEAD));
    match text {
        Ok(text) => text.strip_prefix(name.as_bytes()) == Some(&[0]),
        Err(ReadError::NotRecorded(_) | ReadError::Unreadable(_)) => true,
        Err(ReadError::TooLong { .. }) => false,
    }
}

/// Where the data of the `bytes` at `address` (`str` in Python 2) is, and its length; `None` if there is none.
pub(crate) fn bytes(
    offsets: &Offsets,
    address: Address,
    memory: &dyn Memory,
) -> Result<Option<(Address, u64)>, ReadError> {
    let Some(head) = offsets.bytes_data.get() else { return Ok(None) };
    let header = memory.read_bytes(address, head, HEAD)?;
    let length = offsets.bytes_length.u64(&header).filter(|length| i64::try_from(*length).is_ok());
    Ok(offsets.bytes_data.of(address).zip(length))
}
