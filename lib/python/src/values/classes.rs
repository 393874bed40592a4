//! What a class says of its instances in its own namespace: its module, whether it is a namedtuple, a dataclass, an enum.

use super::objects::Object;
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

/// What a class says of its instances, by its bases too.
#[derive(Debug, Default)]
pub(crate) struct Class {
    /// `_fields` of a namedtuple.
    pub(crate) fields: Option<Vec<String>>,
    /// Whether it is a dataclass.
    pub(crate) is_dataclass: bool,
    /// Whether `enum.EnumMeta` made it.
    pub(crate) is_enum: bool,
}

/// What a class says in its own namespace.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// `__module__`.
    pub(crate) module: Option<String>,
    fields: Option<Vec<String>>,
    is_dataclass: bool,
}

/// A slot.
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) offset: u64,
}

impl Slot {
    /// Where an instance has it; `None` where that would be outside of it.
    pub(crate) fn place_in(&self, object: &Object) -> Option<Address> {
        let is_inside = self.offset.checked_add(8).is_some_and(|end| end <= object.its_type.basic_size);
        object.address.checked_add(self.offset).filter(|_| is_inside)
    }
}

impl Values<'_> {
    /// What a class says of its instances.
    pub(crate) fn class_of(&self, found: &Rc<Type>) -> Rc<Class> {
        if let Some(class) = found.class.borrow().as_ref() {
            return Rc::clone(class);
        }
        let mut class = Class { is_enum: !found.made_by_c && self.is_enum(found), ..Class::default() };
        let mut at = Rc::clone(found);
        for _ in 0..BASES {
            if at.made_by_c {
                break;
            }
            let own = self.own_class(&at);
            class.is_dataclass |= own.is_dataclass;
            if class.fields.is_none() {
                class.fields.clone_from(&own.fields);
            }
            match self.base_of(&at) {
                Some(base) => at = base,
                None => break,
            }
        }
        let class = Rc::new(class);
        *found.class.borrow_mut() = Some(Rc::clone(&class));
        class
    }

    /// What a class says in its own namespace.
    pub(crate) fn own_class(&self, found: &Type) -> Rc<Own> {
        if let Some(own) = found.own.borrow().as_ref() {
            return Rc::clone(own);
        }
        let own = Rc::new(if found.made_by_c { Own::default() } else { self.reader.apart(|| self.read_class(found)) });
        *found.own.borrow_mut() = Some(Rc::clone(&own));
        own
    }

    fn read_class(&self, found: &Type) -> Own {
        let mut own = Own::default();
        let Ok(names) = self.namespace(found) else { return own };
        for (key, value) in names.into_iter().take(NAMES) {
            let Ok(name) = self.name(key) else { continue };
            match name.as_str() {
                "__module__" => own.module = self.name(value).ok(),
                "_fields" => own.fields = self.names_in(value).ok(),
                "__dataclass_fields__" => own.is_dataclass = true,
                _ => {}
            }
        }
        own
    }

    /// Whether `enum.EnumMeta` or a class derived from it made the class.
    fn is_enum(&self, found: &Type) -> bool {
        let its_type = self.layout.offsets.object_type.address(&found.bytes).unwrap_or_default();
        let mut meta = self.type_at(its_type).ok();
        for _ in 0..BASES {
            let Some(at) = meta.filter(|meta| !meta.made_by_c) else { return false };
            let is_named = matches!(at.name.as_str(), "EnumMeta" | "EnumType");
            if is_named && self.own_class(&at).module.as_deref() == Some("enum") {
                return true;
            }
            meta = self.base_of(&at);
        }
        false
    }

    /// The base of a class whose layout it extends.
    fn base_of(&self, found: &Type) -> Option<Rc<Type>> {
        let base = self.objects.type_base.address(&found.bytes).filter(|base| !base.is_null())?;
        self.type_at(base).ok()
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
    pub(crate) fn slots_of(&self, found: &Rc<Type>) -> Vec<Slot> {
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
        let mut at = Some(Rc::clone(found));
        for _ in 0..BASES {
            let Some(class) = at.filter(|class| class.is_heap() && !class.made_by_c) else { break };
            let _ = of_class(&class.bytes);
            at = self.base_of(&class);
        }
        slots
    }
}
