//! What a class says of its instances in its own namespace: its module, whether it is a namedtuple, a dataclass, an enum.

use super::types::Type;
use super::{Lack, Values};
use pyst_snapshot::Address;
use std::rc::Rc;

/// How many names of a class are looked at.
const NAMES: usize = 256;

/// How many fields of a namedtuple are shown by name.
const FIELDS: u64 = 64;

/// How many bases up slots are looked for.
const BASES: usize = 32;

/// What a class says of its instances.
#[derive(Debug, Default)]
pub(crate) struct Class {
    /// `__module__`.
    pub(crate) module: Option<String>,
    /// `_fields` of a namedtuple.
    pub(crate) fields: Option<Vec<String>>,
    /// Whether it is a dataclass itself.
    pub(crate) is_dataclass: bool,
    /// Whether `enum.EnumMeta` made it.
    pub(crate) is_enum: bool,
}

/// A slot.
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) offset: u64,
}

impl Values<'_> {
    /// What a class says of its instances.
    pub(crate) fn class_of(&self, found: &Type) -> Rc<Class> {
        if let Some(class) = found.class.borrow().as_ref() {
            return Rc::clone(class);
        }
        // Names of types are asked for meanwhile, this one's too.
        *found.class.borrow_mut() = Some(Rc::default());
        let class = Rc::new(if found.made_by_c { Class::default() } else { self.read_class(found) });
        *found.class.borrow_mut() = Some(Rc::clone(&class));
        class
    }

    fn read_class(&self, found: &Type) -> Class {
        let mut class = Class { is_enum: self.is_enum(found), ..Class::default() };
        let Ok(names) = self.namespace(found) else { return class };
        for (key, value) in names.into_iter().take(NAMES) {
            let Ok(name) = self.name(key) else { continue };
            match name.as_str() {
                "__module__" => class.module = self.name(value).ok(),
                "_fields" => class.fields = self.names_in(value).ok(),
                "__dataclass_fields__" => class.is_dataclass = true,
                _ => {}
            }
        }
        class
    }

    /// Whether `enum.EnumMeta` or a class derived from it made the class.
    fn is_enum(&self, found: &Type) -> bool {
        let mut at = self.layout.offsets.object_type.address(&found.bytes).unwrap_or_default();
        for _ in 0..BASES {
            let Ok(meta) = self.type_at(at) else { return false };
            if meta.made_by_c {
                return false;
            }
            if matches!(meta.name.as_str(), "EnumMeta" | "EnumType")
                && self.class_of(&meta).module.as_deref() == Some("enum")
            {
                return true;
            }
            at = self.objects.type_base.address(&meta.bytes).unwrap_or_default();
        }
        false
    }

    /// The names of a class with their values.
    fn namespace(&self, found: &Type) -> Result<Vec<(Address, Address)>, Lack> {
        let dict = self.objects.type_dict.address(&found.bytes).ok_or(Lack::Invalid)?;
        Ok(self.items_of(&self.object(dict)?, NAMES)?.pairs)
    }

    /// The strings in a tuple.
    pub(crate) fn names_in(&self, tuple: Address) -> Result<Vec<String>, Lack> {
        let tuple = self.object(tuple)?;
        let (items, count) = self.items_of_tuple(&tuple)?;
        if count > FIELDS {
            return Err(Lack::Limit);
        }
        self.reader.words(items, count)?.into_iter().map(|item| self.name(Address(item))).collect()
    }

    /// The slots of a class and of its bases, the outermost base's first.
    pub(crate) fn slots_of(&self, found: &Type) -> Vec<Slot> {
        /// `T_OBJECT_EX`: what slots are.
        const OBJECT: u32 = 16;
        /// `PyMemberDef`: name, type, offset, flags, documentation.
        const MEMBER: u64 = 40;
        let mut slots: Vec<Slot> = Vec::new();
        let mut of_class = |bytes: &[u8]| -> Option<()> {
            let members = self.objects.type_members.address(bytes).filter(|members| !members.is_null())?;
            let mut own = Vec::new();
            for index in 0..FIELDS {
                let member = self.reader.bytes(members.checked_add(index * MEMBER)?, MEMBER).ok()?;
                let word = |at: u32| crate::layout::Field(at).u64(&member);
                let (name, kind, offset) = (word(0)?, crate::layout::Field(8).u32(&member)?, word(16)?);
                if name == 0 {
                    break;
                }
                if kind == OBJECT {
                    own.push(Slot { name: self.reader.c_text(Address(name), 128).ok()?, offset });
                }
            }
            slots.splice(..0, own);
            Some(())
        };
        let mut bytes = found.bytes.clone();
        let mut heap = found.is_heap() && !found.made_by_c;
        for _ in 0..BASES {
            if !heap {
                break;
            }
            let _ = of_class(&bytes);
            let base = self.objects.type_base.address(&bytes).unwrap_or_default();
            let Ok(base) = self.type_at(base) else { break };
            heap = base.is_heap() && !base.made_by_c;
            bytes = base.bytes.clone();
        }
        slots
    }
}
