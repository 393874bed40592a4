//! Instances of classes: their attributes, wherever the version keeps them, and the forms of enums and dataclasses.

use super::objects::Object;
use super::pandas;
use super::pieces::Pieces;
use super::stdlib;
use super::types::Family;
use super::{ITEMS, Lack, Values};
use crate::layout::{Attributes, Field};
use pyst_snapshot::Address;

/// How deep inside others an instance's attributes are still shown.
const WITH_ATTRIBUTES: usize = 3;

/// The flag of types whose instances have a pointer to their dict, or to values, before them (3.11 and later).
const MANAGED_DICT: u64 = 1 << 4;
/// The flag of types whose instances have values inside (3.13 and later).
const INLINE_VALUES: u64 = 1 << 2;

/// Where an instance has those of its attributes that are not in slots.
pub(super) enum Storage {
    /// It has none.
    None,
    /// In a dict.
    Dict(Address),
    /// In values whose names are in keys that the class has.
    Values { keys: Address, values: Address },
}

/// The attributes of an instance.
#[derive(Default)]
pub(crate) struct AttributesOf {
    /// Name and value.
    pub(crate) list: Vec<(String, Address)>,
    /// How many there are more.
    pub(crate) more: u64,
}

impl AttributesOf {
    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<Address> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl Values<'_> {
    /// An instance of a class that has no form of its own.
    pub(crate) fn instance(&self, object: &Object, depth: usize) -> Result<Pieces, Lack> {
        let class = self.class_of(&object.its_type);
        if object.its_type.made_by_c {
            return Ok(self.plain(object));
        }
        let attributes = self.attributes(object)?;
        if let Some(pieces) = self.known_class(object, &attributes) {
            return Ok(pieces);
        }
        let name = self.type_name(&object.its_type);
        let opening = match class.is_dataclass {
            true => format!("{}(", self.qualname(&object.its_type)),
            false if attributes.list.is_empty() && attributes.more == 0 => return Ok(self.plain(object)),
            false => format!("<{name} at {}>(", object.address),
        };
        if depth >= WITH_ATTRIBUTES {
            let mut pieces = Pieces::text(opening).and("…").close(")");
            pieces.truncated = true;
            return Ok(pieces);
        }
        let mut pieces = Pieces::text(opening);
        for (index, (name, value)) in attributes.list.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            pieces = pieces.and(format!("{comma}{name}=")).object(*value);
        }
        Ok(pieces.more(attributes.list.len(), attributes.more).close(")"))
    }

    /// A member of an enum, which may be a number or a string, too.
    pub(crate) fn member(&self, object: &Object) -> Result<Pieces, Lack> {
        let attributes = self.attributes(object)?;
        let full = self.type_name(&object.its_type);
        let class = full.rsplit_once('.').map_or(full.as_str(), |(_, name)| name);
        let value = attributes.get("_value_").or_else(|| attributes.get("value")).ok_or(Lack::Invalid)?;
        let name = attributes.get("_name_").or_else(|| attributes.get("name")).and_then(|name| self.name(name).ok());
        let name = name.map(|name| format!(".{name}")).unwrap_or_default();
        Ok(Pieces::text(format!("<{class}{name}: ")).object(value).close(">"))
    }

    /// Whether the object is a member of an enum.
    pub(crate) fn is_member(&self, object: &Object) -> bool {
        !object.its_type.made_by_c && self.class_of(&object.its_type).is_enum
    }

    /// The name to write around a value of a class that is derived from the one whose values look like that.
    pub(crate) fn derived(&self, object: &Object) -> Option<String> {
        (!object.its_type.is_own).then(|| self.type_name(&object.its_type))
    }

    /// The attributes of an instance: slots, then what it has in its dict or values.
    pub(crate) fn attributes(&self, object: &Object) -> Result<AttributesOf, Lack> {
        let mut found = AttributesOf::default();
        let slots = self.slots_of(&object.its_type);
        for (index, slot) in slots.iter().enumerate() {
            // A derived class that has it again hides that of its base.
            if slots.iter().skip(index + 1).any(|derived| derived.name == slot.name) {
                continue;
            }
            let Some(place) = slot.place_in(object) else { continue };
            match self.reader.word(place)? {
                0 => {}
                value if found.list.len() < ITEMS => found.list.push((slot.name.clone(), Address(value))),
                _ => found.more += 1,
            }
        }
        match self.storage_of(object)? {
            Storage::None => {}
            Storage::Dict(dict) => self.add_dict(&mut found, dict)?,
            Storage::Values { keys, values } => self.add_values(&mut found, keys, values)?,
        }
        Ok(found)
    }

    /// Where an instance has its attributes, apart from slots.
    pub(super) fn storage_of(&self, object: &Object) -> Result<Storage, Lack> {
        let flags = object.its_type.flags;
        let dict = |dict: Address| if dict.is_null() { Storage::None } else { Storage::Dict(dict) };
        let values_at = |values: Address| -> Result<Storage, Lack> {
            let keys: Field = self.objects.type_cached_keys;
            let keys = keys.address(&object.its_type.bytes).filter(|keys| !keys.is_null()).ok_or(Lack::Invalid)?;
            Ok(Storage::Values { keys, values })
        };
        let before = |words: u64| object.address.0.checked_sub(words * 8).map(Address).ok_or(Lack::Invalid);
        let managed = flags & MANAGED_DICT != 0;
        match self.layout.semantics.attributes {
            Attributes::ValuesOrDict if managed => {
                match [self.reader.word(before(4)?)?, self.reader.word(before(3)?)?] {
                    [0, at] => Ok(dict(Address(at))),
                    [values, _] => values_at(Address(values)),
                }
            }
            Attributes::Tagged if managed => match self.reader.word(before(3)?)? {
                odd if odd & 1 == 1 => values_at(Address(odd.wrapping_add(1))),
                at => Ok(dict(Address(at))),
            },
            Attributes::Inline if managed => {
                let words = if self.layout.table.free_threaded { 1 } else { 3 };
                let at = Address(self.reader.word(before(words)?)?);
                let inside = object.address.checked_add(object.its_type.basic_size).ok_or(Lack::Invalid)?;
                let valid = || -> Result<bool, Lack> {
                    let valid = self.objects.values_valid.of(inside).ok_or(Lack::Invalid)?;
                    Ok(self.reader.bytes(valid, 1)?.first() == Some(&1))
                };
                if at.is_null() && flags & INLINE_VALUES != 0 && valid()? { values_at(inside) } else { Ok(dict(at)) }
            }
            _ => match self.dict_place(object)? {
                Some(place) => Ok(dict(Address(self.reader.word(place)?))),
                None => Ok(Storage::None),
            },
        }
    }

    /// Where the pointer to an instance's dict is (`_PyObject_GetDictPtr`).
    fn dict_place(&self, object: &Object) -> Result<Option<Address>, Lack> {
        let its_type = &object.its_type;
        let offset = self.objects.type_dict_offset.u64(&its_type.bytes).ok_or(Lack::Invalid)? as i64;
        if offset == 0 {
            return Ok(None);
        }
        if let Ok(offset) = u64::try_from(offset) {
            let inside = offset.checked_add(8).is_some_and(|end| end <= its_type.basic_size.saturating_add(8));
            return if inside { Ok(object.address.checked_add(offset)) } else { Err(Lack::Invalid) };
        }
        // Behind the items of an object that has some: from the end of the object.
        let items = match its_type.family {
            Family::Int => self.digits_of(object)?.1,
            _ => {
                let place = self.objects.object_items.of(object.address).ok_or(Lack::Invalid)?;
                (self.reader.word(place)? as i64).unsigned_abs()
            }
        };
        let size = items.checked_mul(its_type.item_size).and_then(|items| items.checked_add(its_type.basic_size));
        let size = size.and_then(|size| size.checked_next_multiple_of(8)).ok_or(Lack::Invalid)?;
        let place = size.checked_sub(offset.unsigned_abs()).and_then(|place| object.address.checked_add(place));
        place.map(Some).ok_or(Lack::Invalid)
    }

    fn add_dict(&self, found: &mut AttributesOf, dict: Address) -> Result<(), Lack> {
        if dict.is_null() {
            return Ok(());
        }
        let items = self.items_of(&self.object(dict)?, ITEMS)?;
        found.more = found.more.saturating_add(items.more());
        for (key, value) in items.pairs {
            match self.name(key) {
                // A slot comes before what the dict has.
                Ok(name) if found.get(&name).is_some() => {}
                Ok(name) => found.list.push((name, value)),
                // `setattr` takes strings only; `__dict__` takes anything.
                Err(_) => found.more = found.more.saturating_add(1),
            }
        }
        Ok(())
    }

    /// Adds attributes whose values are at `values` and whose names are in `keys`.
    fn add_values(&self, found: &mut AttributesOf, keys: Address, values: Address) -> Result<(), Lack> {
        let items = self.split_items(keys, values, None, ITEMS)?;
        found.more = found.more.saturating_add(items.more());
        for (key, value) in items.pairs {
            found.list.push((self.name(key)?, value));
        }
        Ok(())
    }

    /// An instance of a class that does not derive from `object`, Python 2.
    pub(crate) fn old_instance(&self, object: &Object) -> Result<Pieces, Lack> {
        let class = self.object(object.pointer(self.objects.instance_class)?)?;
        let name = self.old_class_name(&class)?;
        let mut found = AttributesOf::default();
        self.add_dict(&mut found, object.pointer(self.objects.instance_dict)?)?;
        let opening = format!("<{name} instance at {}>", object.address);
        if found.list.is_empty() && found.more == 0 {
            return Ok(Pieces::text(opening));
        }
        let mut pieces = Pieces::text(opening).and("(");
        for (index, (name, value)) in found.list.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            pieces = pieces.and(format!("{comma}{name}=")).object(*value);
        }
        Ok(pieces.more(found.list.len(), found.more).close(")"))
    }

    /// The forms of classes of the standard library that are written in Python; `None` where the instance does not have
    /// the attributes that one of them has.
    fn known_class(&self, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
        let class = self.own_class(&object.its_type);
        let module = class.module.as_deref()?;
        let name = object.its_type.name.as_str();
        match (module, name) {
            ("threading", "Thread" | "_MainThread" | "_DummyThread" | "Timer") => {
                stdlib::thread(self, object, attributes)
            }
            ("threading", "Event" | "_Event") => stdlib::event(self, object, attributes),
            ("threading", "Condition" | "_Condition") => stdlib::condition(self, object, attributes),
            ("queue" | "Queue", "Queue" | "LifoQueue" | "PriorityQueue") => stdlib::queue(self, object, attributes),
            (module, name) if is_pandas(module, name) => pandas::shaped(self, object, attributes),
            ("pathlib" | "pathlib._local", _) => stdlib::path(self, object, attributes),
            _ => None,
        }
    }
}

/// Whether a class is one of those of pandas that have a shape.
fn is_pandas(module: &str, name: &str) -> bool {
    let is_of_pandas = module == "pandas" || module.starts_with("pandas.core.");
    is_of_pandas && (matches!(name, "DataFrame" | "Series") || name.ends_with("Index"))
}
