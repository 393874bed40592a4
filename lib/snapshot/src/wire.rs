//! Metadata payloads as bincode. The only file that names it.
//!
//! `config::legacy()` is little endian with fixed-width integers: byte-identical to bincode 1.3, and simple enough to
//! decode by hand (`schemas/snapshot.md`, "Encoding of metadata"). Decoding always has a limit, for without one a
//! hostile length makes bincode allocate until the process is aborted.

use crate::format::MAX_SECTION;
use serde::{Serialize, de::DeserializeOwned};

/// A payload that does not decode as the struct its version names.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes end early, hold an impossible value, or exceed the limit.
    #[error("malformed payload: {0}")]
    Malformed(String),
    /// Bytes are left over after the struct.
    #[error("malformed payload: {0} bytes are left over")]
    Trailing(usize),
    /// The value does not fit a section.
    #[error("cannot encode payload: {0}")]
    TooLarge(String),
}

const LIMIT: usize = MAX_SECTION as usize;

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let bytes = bincode::serde::encode_to_vec(value, config).map_err(|error| WireError::TooLarge(error.to_string()))?;
    if bytes.len() > LIMIT {
        return Err(WireError::TooLarge(format!("{} bytes exceed a section's {LIMIT}", bytes.len())));
    }
    Ok(bytes)
}

/// Adds the bytes of a value to others.
pub(crate) fn encode_onto<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), WireError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let encoded = bincode::serde::encode_into_std_write(value, bytes, config);
    encoded.map(|_| ()).map_err(|error| WireError::TooLarge(error.to_string()))
}

/// The value that `bytes` start with, and how many it takes.
pub(crate) fn decode_start<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|error| WireError::Malformed(error.to_string()))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = decode_start(bytes)?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(value),
        left => Err(WireError::Trailing(left)),
    }
}

/// What is left of bytes that are read in place, where a decoded copy would cost too much. Each of its functions reads a value, and
/// gives `None` where the bytes end or hold none.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*value)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u64()?).ok()
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// What may be absent.
    pub(crate) fn option<T>(&mut self, value: impl FnOnce(&mut Cursor<'a>) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { value(self).map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Bytes;

    #[test]
    fn integers_are_little_endian_and_fixed_width() {
        // Written by hand from the bincode 1.3 specification, not from this encoder's output.
        assert_eq!(
            encode(&(1u16, 0x0203_0405u32, -2i64)).unwrap(),
            b"\x01\0\x05\x04\x03\x02\xfe\xff\xff\xff\xff\xff\xff\xff"
        );
        assert_eq!(encode(&(Some(7u8), None::<u8>, true)).unwrap(), b"\x01\x07\x00\x01");
        assert_eq!(encode(&(Bytes::from("ab"), "c")).unwrap(), b"\x02\0\0\0\0\0\0\0ab\x01\0\0\0\0\0\0\0c");
    }

    #[test]
    fn what_is_read_in_place_is_what_was_encoded() {
        // The same bytes, by hand from the specification.
        let mut cursor = Cursor(b"\x01\0\x05\x04\x03\x02\x02\0\0\0\0\0\0\0ab\x01\x07\0\0\0\0\x02");
        assert_eq!((cursor.u16(), cursor.u32()), (Some(1), Some(0x0203_0405)));
        let length = cursor.length().unwrap();
        assert_eq!(cursor.bytes(length), Some(&b"ab"[..]));
        assert_eq!((cursor.option(Cursor::u32), cursor.option(Cursor::u32)), (Some(Some(7)), Some(None)));
        assert_eq!((cursor.flag(), cursor.u64(), cursor.bytes(usize::MAX)), (None, None, None));
    }

    #[test]
    fn hostile_lengths_are_errors_without_allocation() {
        let huge = u64::MAX.to_le_bytes();
        assert!(decode::<Vec<u64>>(&huge).is_err());
        assert!(decode::<String>(&huge).is_err());
        assert!(decode::<Bytes>(&huge).is_err());
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        assert!(matches!(decode::<u8>(b"\x01\x02"), Err(WireError::Trailing(1))));
    }
}
