//! Objects: their bytes and their type.

use super::types::{Family, Type};
use super::{Lack, Values};
use crate::layout::Field;
use pyst_snapshot::Address;
use std::rc::Rc;

/// How much of an object is read at once: more than any whose fields are looked at.
const WHOLE: u64 = 512;

/// More than the header of any object: that of a free-threaded build has 32 bytes.
const HEAD: usize = 64;

/// An object.
pub(crate) struct Object {
    pub(crate) address: Address,
    pub(crate) its_type: Rc<Type>,
    /// The part of it that all instances of its type have.
    pub(crate) bytes: Vec<u8>,
}

impl Object {
    /// A pointer in it.
    pub(crate) fn pointer(&self, field: Field) -> Result<Address, Lack> {
        field.address(&self.bytes).ok_or(Lack::Invalid)
    }

    /// A count in it, which is not negative.
    pub(crate) fn count(&self, field: Field) -> Result<u64, Lack> {
        field.u64(&self.bytes).filter(|count| i64::try_from(*count).is_ok()).ok_or(Lack::Invalid)
    }

    /// A pointer, `words` words behind a field.
    pub(crate) fn pointer_after(&self, field: Field, words: u32) -> Result<Address, Lack> {
        self.pointer(after(field, words * 8).ok_or(Lack::Invalid)?)
    }
}

/// The place `bytes` bytes behind a field.
pub(crate) fn after(field: Field, bytes: u32) -> Option<Field> {
    u32::try_from(field.get()?).ok()?.checked_add(bytes).map(Field)
}

impl Values<'_> {
    /// The object at `address`.
    pub(crate) fn object(&self, address: Address) -> Result<Object, Lack> {
        if address.is_null() || !address.0.is_multiple_of(8) {
            return Err(Lack::Invalid);
        }
        let header = self.objects.object_size.get().ok_or(Lack::Invalid)?;
        let mut head = [0; HEAD];
        let head = usize::try_from(header).ok().and_then(|header| head.get_mut(..header)).ok_or(Lack::Invalid)?;
        self.reader.fill(address, head)?;
        let its_type = self.layout.offsets.object_type.address(head).ok_or(Lack::Invalid)?;
        let its_type = self.type_at(its_type)?;
        // A string may end before what the type has as its size, at the end of its mapping.
        let fixed = match (its_type.family, self.layout.offsets.text_ascii_data.get()) {
            (Family::Text, Some(text)) => its_type.basic_size.min(text),
            _ => its_type.basic_size,
        };
        let size = fixed.clamp(header, WHOLE);
        let bytes = if size > header { self.reader.bytes(address, size)? } else { head.to_vec() };
        Ok(Object { address, its_type, bytes })
    }
}
