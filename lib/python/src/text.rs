//! Python strings.

use crate::layout::{Field, Layout, Names, Offsets};
use crate::object;
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::{Address, Text};

/// The longest name or path that is read, in bytes of the target: CPython sets no limit, people and file systems do.
const LONGEST: u64 = 64 << 10;

/// Why a string could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    /// Its bytes could not be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no string.
    #[error("there is no string at {0}")]
    NoText(Address),
}

/// The `str` at `address`.
pub(crate) fn read(layout: &Layout, address: Address, memory: &dyn Memory) -> Result<Text, TextError> {
    match layout.semantics.names {
        Names::Text => read_text(&layout.offsets, address, memory),
        Names::Bytes => {
            let (data, length) = object::bytes(&layout.offsets, address, memory)?.ok_or(TextError::NoText(address))?;
            Ok(decode_bytes(&memory.read_bytes(data, length, LONGEST)?))
        }
    }
}

/// Where a string has its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) place: Place,
    /// How many characters it has, where the header tells.
    pub(crate) length: u64,
    /// How many bytes each has: 1, 2 or 4.
    pub(crate) kind: u32,
    /// Whether it is all ASCII.
    pub(crate) ascii: bool,
}

/// Where the characters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind the header.
    Inside(Address),
    /// Where a pointer says: what C code made before 3.12 with PyUnicode_FromUnicode, and instances of subclasses.
    Pointer(Address),
    /// Elsewhere, as many as a field outside the header says: a string that is not ready (3.11 and older), for C code has
    /// made it of `wchar_t`, and nothing has asked for its characters yet.
    Wide {
        /// The characters.
        data: Address,
        /// Where their number is.
        length: Address,
    },
}

/// Where the string at `address`, whose header (the part that all strings have) is given, has its characters.
pub(crate) fn locate(offsets: &Offsets, address: Address, header: &[u8]) -> Option<Located> {
    let state = offsets.text_state.u32(header)?;
    let bits = |bit: Field, mask: u32| Some(state.checked_shr(u32::try_from(bit.get()?).ok()?)? & mask);
    if bits(offsets.text_kind_bit, 7) == Some(0) && offsets.text_wide_data.get().is_some() {
        let data = offsets.text_wide_data.address(header).filter(|data| !data.is_null())?;
        let place = Place::Wide { data, length: offsets.text_wide_length.of(address)? };
        return Some(Located { place, length: 0, kind: 4, ascii: false });
    }
    let length = offsets.text_length.u64(header).filter(|length| *length < 1 << 48)?;
    let kind = bits(offsets.text_kind_bit, 7).filter(|kind| matches!(kind, 1 | 2 | 4))?;
    let compact = bits(offsets.text_compact_bit, 1)? == 1;
    let ascii = bits(offsets.text_ascii_bit, 1)? == 1;
    let place = match (compact, ascii) {
        (true, true) => Place::Inside(offsets.text_ascii_data.of(address)?),
        (true, false) => Place::Inside(offsets.text_compact_data.of(address)?),
        (false, _) => Place::Pointer(offsets.text_separate_data.of(address)?),
    };
    Some(Located { place, length, kind, ascii })
}

fn read_text(offsets: &Offsets, address: Address, memory: &dyn Memory) -> Result<Text, TextError> {
    let no_text = || TextError::NoText(address);
    let header = memory.read_bytes(address, offsets.text_ascii_data.get().ok_or_else(no_text)?, LONGEST)?;
    let Located { place, length, kind, .. } = locate(offsets, address, &header).ok_or_else(no_text)?;
    let (data, length) = match place {
        Place::Inside(data) => (data, length),
        Place::Pointer(place) => (memory.read_address(place)?, length),
        Place::Wide { data, .. } => {
            let header_size = offsets.text_compact_data.get().ok_or_else(no_text)?;
            let header = memory.read_bytes(address, header_size, LONGEST)?;
            (data, offsets.text_wide_length.u64(&header).ok_or_else(no_text)?)
        }
    };
    let size = length.checked_mul(u64::from(kind)).ok_or_else(no_text)?;
    let bytes = memory.read_bytes(data, size, LONGEST)?;
    decode(bytes, kind).ok_or_else(no_text)
}

/// Bytes that are UTF-8 as a rule. Those that are not become what Python 3 makes of them in paths (`surrogateescape`), so
/// that they can be told from all that is text, and the path from them again.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Text {
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            let _ = push(&mut text, 0xdc00 | u32::from(*byte));
        }
    }
    Text(text)
}

/// Code points of `kind` bytes each, as generalised UTF-8. `None` if one is none.
fn decode(bytes: Vec<u8>, kind: u32) -> Option<Text> {
    let mut text = Vec::with_capacity(bytes.len());
    match kind {
        1 if bytes.is_ascii() => return Some(Text(bytes)),
        1 => bytes.iter().try_for_each(|byte| push(&mut text, u32::from(*byte)))?,
        2 => bytes.as_chunks().0.iter().try_for_each(|unit| push(&mut text, u16::from_le_bytes(*unit).into()))?,
        _ => bytes.as_chunks().0.iter().try_for_each(|unit| push(&mut text, u32::from_le_bytes(*unit)))?,
    }
    Some(Text(text))
}

/// Text of code points. `None` if one is none.
pub(crate) fn of_points(points: &[u32]) -> Option<Text> {
    let mut text = Vec::with_capacity(points.len());
    points.iter().try_for_each(|point| push(&mut text, *point))?;
    Some(Text(text))
}

fn push(text: &mut Vec<u8>, point: u32) -> Option<()> {
    const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;
    if SURROGATES.contains(&point) {
        let continuation = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
        text.extend([0xed, continuation(6), continuation(0)]);
    } else {
        text.extend(char::from_u32(point)?.encode_utf8(&mut [0; 4]).bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, tables};

    fn decoded(bytes: &[u8], kind: u32) -> Option<String> {
        decode(bytes.to_vec(), kind).map(|text| text.escaped())
    }

    /// What PyUnicode_FromUnicode() makes, before anybody asks for its characters.
    #[test]
    fn a_string_of_wide_characters_is_read_as_it_is() {
        for table in tables().into_iter().filter(|table| table.offsets.text_wide_data.get().is_some()) {
            let mut fake = Fake::new(table);
            let string = fake.allocate(128);
            let characters = fake.allocate(64);
            for (index, character) in ('ф'..='х').enumerate() {
                fake.put32(characters, Field(u32::try_from(index).unwrap() * 4), u32::from(character));
            }
            fake.put(string, table.offsets.text_wide_data, characters.0);
            fake.put(string, table.offsets.text_wide_length, 2);
            let text = read(&table.layout(0), string, &fake.image()).unwrap();
            assert_eq!(text.escaped(), "фх", "{}", table.name);
        }
    }

    #[test]
    fn bytes_that_are_no_text_show_as_such() {
        assert_eq!(decode_bytes(b"plain").escaped(), "plain");
        assert_eq!(decode_bytes("функция".as_bytes()).escaped(), "функция");
        assert_eq!(decode_bytes(b"caf\xe9/\xe2\x82").escaped(), "caf\\udce9/\\udce2\\udc82");
        // UTF-8 of a surrogate is none.
        assert_eq!(decode_bytes(b"\xed\xb3\xbf").escaped(), "\\udced\\udcb3\\udcbf");
        assert_eq!(decode_bytes(b"caf\xe9").to_path_bytes(), b"caf\xe9");
    }

    #[test]
    fn all_kinds_of_text_become_utf8() {
        assert_eq!(decoded(b"plain", 1).unwrap(), "plain");
        assert_eq!(decoded(b"caf\xe9", 1).unwrap(), "café");
        assert_eq!(decoded(b"\x44\x04\x73\x51", 2).unwrap(), "ф关");
        assert_eq!(decoded(b"\x80\xf9\x01\x00", 4).unwrap(), "🦀");
        assert_eq!(decoded(b"\xff\xdca\0", 2).unwrap(), "\\udcffa");
        assert_eq!(decoded(b"\0\0\x11\0", 4), None);
    }
}
