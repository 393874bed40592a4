//! Arrays and scalars of numpy, whose structures are public and have not moved since numpy 1.0.

use super::numbers::{complex, float};
use super::objects::{Object, after};
use super::pieces::Pieces;
use super::{Lack, Values};
use pyst_snapshot::Address;

/// How many elements of an array are shown.
const ELEMENTS: usize = 16;

/// The most dimensions of an array (numpy 2; before it were 32).
const DIMENSIONS: u64 = 64;

/// What elements are (`NPY_TYPES`), as far as their bytes alone tell the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Bool,
    Signed(u8),
    Unsigned(u8),
    Float(u8),
    Complex(u8),
}

impl Element {
    /// By the number that an array's dtype has.
    fn of_number(number: i32) -> Option<(Element, &'static str)> {
        Some(match number {
            0 => (Element::Bool, "bool"),
            1 => (Element::Signed(1), "int8"),
            2 => (Element::Unsigned(1), "uint8"),
            3 => (Element::Signed(2), "int16"),
            4 => (Element::Unsigned(2), "uint16"),
            5 => (Element::Signed(4), "int32"),
            6 => (Element::Unsigned(4), "uint32"),
            7 | 9 => (Element::Signed(8), "int64"),
            8 | 10 => (Element::Unsigned(8), "uint64"),
            11 => (Element::Float(4), "float32"),
            12 => (Element::Float(8), "float64"),
            14 => (Element::Complex(4), "complex64"),
            15 => (Element::Complex(8), "complex128"),
            _ => return None,
        })
    }

    fn size(self) -> u64 {
        match self {
            Element::Bool => 1,
            Element::Signed(size) | Element::Unsigned(size) | Element::Float(size) => size.into(),
            Element::Complex(size) => u64::from(size) * 2,
        }
    }

    /// The value that bytes, the lowest first, are.
    fn value(self, bytes: &[u8]) -> Option<String> {
        let mut word = [0; 8];
        let number = |part: &[u8]| -> Option<f64> {
            match part.len() {
                4 => Some(single(f32::from_le_bytes(*part.first_chunk()?))),
                _ => Some(f64::from_le_bytes(*part.first_chunk()?)),
            }
        };
        match self {
            Element::Bool => match bytes.first()? {
                0 => Some("False".to_owned()),
                1 => Some("True".to_owned()),
                _ => None,
            },
            Element::Signed(_) | Element::Unsigned(_) => {
                word.get_mut(..bytes.len())?.copy_from_slice(bytes);
                let value = u64::from_le_bytes(word);
                let unused = 64 - 8 * u32::try_from(bytes.len()).ok()?;
                let signed = (value << unused) as i64 >> unused;
                Some(if matches!(self, Element::Signed(_)) { signed.to_string() } else { value.to_string() })
            }
            Element::Float(_) => Some(float(number(bytes)?)),
            Element::Complex(size) => {
                let (real, imaginary) = bytes.split_at_checked(size.into())?;
                Some(complex(number(real)?, number(imaginary)?))
            }
        }
    }
}

/// The element that a scalar of a type with this name is.
pub(crate) fn scalar(name: &str) -> Option<Element> {
    Some(match name.strip_prefix("numpy.")? {
        "bool_" | "bool" => Element::Bool,
        "int8" => Element::Signed(1),
        "int16" => Element::Signed(2),
        "int32" | "intc" => Element::Signed(4),
        "int64" | "longlong" => Element::Signed(8),
        "uint8" => Element::Unsigned(1),
        "uint16" => Element::Unsigned(2),
        "uint32" | "uintc" => Element::Unsigned(4),
        "uint64" | "ulonglong" => Element::Unsigned(8),
        "float32" => Element::Float(4),
        "float64" => Element::Float(8),
        "complex64" => Element::Complex(4),
        "complex128" => Element::Complex(8),
        _ => return None,
    })
}

/// The number that is written with the shortest digits that give this one again in 32 bits.
fn single(value: f32) -> f64 {
    format!("{value:e}").parse().unwrap_or_else(|_| value.into())
}

impl Values<'_> {
    /// A scalar: its value follows the header.
    pub(crate) fn scalar(&self, object: &Object) -> Result<Pieces, Lack> {
        let element = self.scalar_element(object).ok_or(Lack::Invalid)?;
        let place = self.objects.object_size.of(object.address).ok_or(Lack::Invalid)?;
        let bytes = self.reader.bytes(place, element.size())?;
        let value = element.value(&bytes).ok_or(Lack::Invalid)?;
        Ok(Pieces::text(value).inside(Some(self.type_name(&object.its_type))))
    }

    fn scalar_element(&self, object: &Object) -> Option<Element> {
        let mut at = std::rc::Rc::clone(&object.its_type);
        for _ in 0..8 {
            if at.made_by_c
                && let Some(element) = scalar(&at.name)
            {
                return Some(element);
            }
            at = self.type_at(self.objects.type_base.address(&at.bytes)?).ok()?;
        }
        None
    }

    /// An array: its dtype, shape and first elements, one dimension after the other.
    pub(crate) fn array(&self, object: &Object) -> Result<Pieces, Lack> {
        // PyArrayObject_fields: data, nd, dimensions, strides, base, descr.
        let field = |words: u32| after(self.objects.object_size, words * 8).ok_or(Lack::Invalid);
        let data = object.pointer(field(0)?)?;
        let count = field(1)?.i32(&object.bytes).and_then(|count| u64::try_from(count).ok());
        let count = count.filter(|count| *count <= DIMENSIONS).ok_or(Lack::Invalid)?;
        let (dimensions, strides) = (object.pointer(field(2)?)?, object.pointer(field(3)?)?);
        let read = |at: Address| if count == 0 { Ok(Vec::new()) } else { self.reader.words(at, count) };
        let (shape, strides) = (read(dimensions)?, read(strides)?);
        if shape.iter().any(|length| *length > 1 << 48) {
            return Err(Lack::Invalid);
        }
        // PyArray_Descr: type of scalars, kind, type, byte order, flags, number.
        let description = object.pointer(field(5)?)?;
        let header = self.objects.object_size.get().ok_or(Lack::Invalid)?;
        let description = self.reader.bytes(description, header + 16)?;
        let in_description = |offset: u32| after(self.objects.object_size, offset).ok_or(Lack::Invalid);
        let order = in_description(10)?.u8(&description).ok_or(Lack::Invalid)?;
        let kind = in_description(8)?.u8(&description).ok_or(Lack::Invalid)?;
        let number = in_description(12)?.i32(&description).ok_or(Lack::Invalid)?;
        let name = self.type_name(&object.its_type);
        let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let shape_text = format!("({}{})", lengths.join(", "), if lengths.len() == 1 { "," } else { "" });
        let Some((element, dtype)) = Element::of_number(number) else {
            let dtype = match number {
                13 => "longdouble".to_owned(),
                16 => "clongdouble".to_owned(),
                23 => "float16".to_owned(),
                _ => kind_name(kind),
            };
            let mut pieces = Pieces::text(format!("<{name} at {}: {dtype} {shape_text}>", object.address));
            pieces.truncated = true;
            return Ok(pieces);
        };
        // A class derived from it may show its elements otherwise, as masked arrays do.
        if !object.its_type.is_own {
            let text = format!("<{name} at {}: {dtype} {shape_text}>", object.address);
            return Ok(Pieces { truncated: true, ..Pieces::text(text) });
        }
        let elements = match self.elements(data, &shape, &strides, element, order == b'>') {
            // Data may well lie where nothing else does: in a file, or in memory that nobody wrote to.
            Err(Lack::Read(_)) => {
                let text = format!("<{name} at {}: {dtype} {shape_text} […]>", object.address);
                return Ok(Pieces { truncated: true, ..Pieces::text(text) });
            }
            elements => elements?,
        };
        let total = shape.iter().try_fold(1u64, |total, length| total.checked_mul(*length)).ok_or(Lack::Invalid)?;
        let shown = elements.len();
        let text = format!("<{name} at {}: {dtype} {shape_text} [{}", object.address, elements.join(", "));
        Ok(Pieces::text(text).more(shown, total.saturating_sub(shown as u64)).close("]>"))
    }

    fn elements(
        &self,
        data: Address,
        shape: &[u64],
        strides: &[u64],
        element: Element,
        swapped: bool,
    ) -> Result<Vec<String>, Lack> {
        let mut found = Vec::new();
        let mut index = vec![0u64; shape.len()];
        while !shape.contains(&0) && found.len() < ELEMENTS {
            let offset = index
                .iter()
                .zip(strides)
                .fold(0u64, |at, (index, stride)| at.wrapping_add(index.wrapping_mul(*stride)));
            let mut bytes = self.reader.bytes(Address(data.0.wrapping_add(offset)), element.size())?;
            if swapped {
                let part = if let Element::Complex(size) = element { usize::from(size) } else { bytes.len() };
                bytes.chunks_mut(part.max(1)).for_each(<[u8]>::reverse);
            }
            found.push(element.value(&bytes).ok_or(Lack::Invalid)?);
            let mut carried = true;
            for (at, length) in index.iter_mut().zip(shape).rev() {
                *at += 1;
                carried = *at == *length;
                if !carried {
                    break;
                }
                *at = 0;
            }
            if carried {
                break;
            }
        }
        Ok(found)
    }
}

/// The kind of a dtype whose elements are not shown.
fn kind_name(kind: u8) -> String {
    match kind {
        b'O' => "object".to_owned(),
        b'S' => "bytes".to_owned(),
        b'U' => "str".to_owned(),
        b'V' => "void".to_owned(),
        b'M' => "datetime64".to_owned(),
        b'm' => "timedelta64".to_owned(),
        b'f' => "float".to_owned(),
        b'c' => "complex".to_owned(),
        other => format!("dtype {:?}", char::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_what_their_bytes_say() {
        assert_eq!(Element::Signed(2).value(&[0xfe, 0xff]).unwrap(), "-2");
        assert_eq!(Element::Unsigned(1).value(&[0xfe]).unwrap(), "254");
        assert_eq!(Element::Float(4).value(&0.1f32.to_le_bytes()).unwrap(), "0.1");
        assert_eq!(Element::Float(8).value(&(-2.5f64).to_le_bytes()).unwrap(), "-2.5");
        assert_eq!(Element::Bool.value(&[2]), None);
        let bytes = [1.5f64.to_le_bytes(), (-1f64).to_le_bytes()].concat();
        assert_eq!(Element::Complex(8).value(&bytes).unwrap(), "(1.5-1j)");
    }
}
