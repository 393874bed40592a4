//! Strings, bytes and byte arrays.

use super::objects::Object;
use super::pieces::Pieces;
use super::quote::{Style, quoted};
use super::types::Family;
use super::{Lack, Values};
use crate::layout::Names;
use crate::text::{self, Place};
use pyst_snapshot::{Address, Safe};

/// How many characters of a string, or bytes, are shown.
const SHOWN: u64 = 200;

/// The longest name that is shown.
const NAME: u64 = 200;

/// How many names are kept: those of attributes come again with every instance.
const NAMES: usize = 4096;

impl Values<'_> {
    pub(crate) fn string(&self, object: &Object) -> Result<Pieces, Lack> {
        let (points, length) = self.points(object, SHOWN)?;
        let text = quoted(points.into_iter(), Style::Text);
        Ok(self.cut(text, length).inside(self.derived(object)))
    }

    /// `unicode` of Python 2.
    pub(crate) fn wide_string(&self, object: &Object) -> Result<Pieces, Lack> {
        let (points, length) = self.wide_points(object, SHOWN)?;
        let text = format!("u{}", quoted(points.into_iter(), Style::AsciiText));
        Ok(self.cut(text, length).inside(self.derived(object)))
    }

    /// The first code points of a `unicode`, and how many it has.
    pub(crate) fn wide_points(&self, object: &Object, limit: u64) -> Result<(Vec<u32>, u64), Lack> {
        let length = object.count(self.objects.unicode_length).ok().filter(|length| *length < 1 << 44);
        let length = length.ok_or(Lack::Invalid)?;
        let data = object.pointer(self.objects.unicode_data)?;
        let width = self.width.ok_or(Lack::Invalid)?;
        let bytes = self.reader.bytes(data, length.min(limit) * width)?;
        let points: Vec<u32> = if width == 2 {
            let units = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
            let points = char::decode_utf16(units);
            points.map(|point| point.map_or_else(|lone| lone.unpaired_surrogate().into(), u32::from)).collect()
        } else {
            bytes.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect()
        };
        if points.iter().any(|point| *point > 0x10_ffff) {
            return Err(Lack::Invalid);
        }
        Ok((points, length))
    }

    /// How many bytes a character of `unicode` has, by `sys.maxunicode`.
    pub(super) fn width_of_characters(&self, interpreter: Address) -> Option<u64> {
        let names = self.reader.word(self.objects.interpreter_sys.of(interpreter)?).ok()?;
        let names = self.items_of(&self.object(Address(names)).ok()?, 256).ok()?.pairs;
        let largest = names.into_iter().find(|(name, _)| self.name(*name).is_ok_and(|name| name == "maxunicode"))?.1;
        match self.small_int(&self.object(largest).ok()?)? {
            0xffff => Some(2),
            0x10_ffff => Some(4),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self, object: &Object) -> Result<Pieces, Lack> {
        let offsets = &self.layout.offsets;
        let length = object.count(offsets.bytes_length)?;
        let data = offsets.bytes_data.of(object.address).ok_or(Lack::Invalid)?;
        let prefix = if self.layout.semantics.spelling.python_2 { "" } else { "b" };
        let bytes = self.reader.bytes(data, length.min(SHOWN))?;
        let text = format!("{prefix}{}", quoted(bytes.into_iter().map(u32::from), Style::Bytes));
        Ok(self.cut(text, length).inside(self.derived(object)))
    }

    pub(crate) fn bytearray(&self, object: &Object) -> Result<Pieces, Lack> {
        let length = object.count(self.objects.object_items)?;
        let data = object.pointer(self.objects.bytearray_start)?;
        let bytes = if length == 0 { Vec::new() } else { self.reader.bytes(data, length.min(SHOWN))? };
        let text = format!("b{}", quoted(bytes.into_iter().map(u32::from), Style::Bytes));
        let name = self.derived(object).unwrap_or_else(|| "bytearray".to_owned());
        Ok(self.cut(text, length).inside(Some(name)))
    }

    /// Text in quotes of something that is `length` long.
    fn cut(&self, text: String, length: u64) -> Pieces {
        let mut pieces = Pieces::text(text);
        if length > SHOWN {
            pieces = pieces.and(format!("… {} more", length - SHOWN));
            pieces.truncated = true;
        }
        pieces
    }

    /// The code points of a string, which is not cut.
    pub(crate) fn uncut(&self, address: Address) -> Result<Vec<u32>, Lack> {
        let object = self.object(address)?;
        if object.its_type.family != Family::Text {
            return Err(Lack::Invalid);
        }
        match self.points(&object, SHOWN)? {
            (points, length) if length <= SHOWN => Ok(points),
            _ => Err(Lack::Limit),
        }
    }

    /// The string at `address` as a name: not quoted, nothing in it that drives a terminal.
    pub(crate) fn name(&self, address: Address) -> Result<String, Lack> {
        if let Some(known) = self.names.borrow().get(&address) {
            return Ok(known.clone());
        }
        let name = self.read_name(address)?;
        let mut names = self.names.borrow_mut();
        if names.len() < NAMES {
            names.insert(address, name.clone());
        }
        Ok(name)
    }

    fn read_name(&self, address: Address) -> Result<String, Lack> {
        let object = self.object(address)?;
        let points: Vec<u32> = match (object.its_type.family, self.layout.semantics.names) {
            (Family::Text, Names::Text) => {
                let (mut points, length) = self.points(&object, NAME)?;
                points.extend((length > NAME).then_some(u32::from('…')));
                points
            }
            (Family::Bytes, Names::Bytes) => {
                let offsets = &self.layout.offsets;
                let length = object.count(offsets.bytes_length)?;
                let data = offsets.bytes_data.of(address).ok_or(Lack::Invalid)?;
                self.reader.bytes(data, length.min(NAME))?.into_iter().map(u32::from).collect()
            }
            _ => return Err(Lack::Invalid),
        };
        let is_plain = |point: &u32| matches!(point, 0x20..=0x7e);
        if points.iter().all(is_plain) {
            return Ok(points.into_iter().filter_map(char::from_u32).collect());
        }
        // Python's way to have bytes that are no UTF-8 in a name: lone surrogates.
        let spelled = |text: String, point: u32| match char::from_u32(point) {
            Some(character) => text + character.encode_utf8(&mut [0; 4]),
            None => text + &format!("\\u{point:04x}"),
        };
        Ok(Safe(&points.into_iter().fold(String::new(), spelled)).to_string())
    }

    /// The namespace of the `sys` module of an interpreter.
    pub(crate) fn sys_dict(&self, interpreter: Address) -> Result<Address, Lack> {
        self.reader.word(self.objects.interpreter_sys.of(interpreter).ok_or(Lack::Invalid)?).map(Address)
    }

    /// Whether a string is `name`; read no further than to tell.
    pub(crate) fn is_text(&self, address: Address, name: &str) -> bool {
        let Ok(object) = self.object(address) else { return false };
        let length = match object.its_type.family {
            Family::Text => self.layout.offsets.text_length,
            Family::Bytes => self.layout.offsets.bytes_length,
            _ => return false,
        };
        length.u64(&object.bytes) == Some(name.len() as u64) && self.name(address).is_ok_and(|text| text == name)
    }

    /// The first code points of a string, and how many it has.
    pub(crate) fn points(&self, object: &Object, limit: u64) -> Result<(Vec<u32>, u64), Lack> {
        let found = text::locate(&self.layout.offsets, object.address, &object.bytes).ok_or(Lack::Invalid)?;
        let (data, length) = match found.place {
            Place::Inside(data) => (data, found.length),
            Place::Pointer(place) => (Address(self.reader.word(place)?), found.length),
            Place::Wide { data, length } => (data, self.reader.word(length)?),
        };
        if length > 1 << 48 {
            return Err(Lack::Invalid);
        }
        let bytes = self.reader.bytes(data, length.min(limit) * u64::from(found.kind))?;
        let points: Vec<u32> = match found.kind {
            1 => bytes.into_iter().map(u32::from).collect(),
            2 => bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit).into()).collect(),
            _ => bytes.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
        };
        let most = if found.ascii { 0x7f } else { 0x10_ffff };
        if points.iter().all(|point| *point <= most) { Ok((points, length)) } else { Err(Lack::Invalid) }
    }
}
