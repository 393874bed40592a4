//! Type objects: which family of values a type makes, known by the type itself and never by its name alone.
//!
//! A name counts only where no Python code can have given it: on static types, on immutable ones, and on heap types that a
//! C module made (`ht_module`). A class statement makes none of these, whatever it is called. Where the size of a structure
//! is known, the type must state that very size.

use super::classes::{Class, Own};
use super::{Lack, Values};
use crate::layout::Field;
use pyst_snapshot::Address;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// How many bases up, and how many types of types, a type is followed.
const BASES: usize = 32;

/// How many types are kept.
const KEPT: usize = 4096;

/// The longest name of a type that is shown, in bytes.
const NAME: u64 = 256;

/// No instance is as large, nor has items as large.
const LARGEST: u64 = 1 << 24;

const HEAP: u64 = 1 << 9;
/// `Py_TPFLAGS_INT_SUBCLASS` of Python 2.
const MACHINE_INT: u64 = 1 << 23;
const LONG: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const TUPLE: u64 = 1 << 26;
const BYTES: u64 = 1 << 27;
const TEXT: u64 = 1 << 28;
const DICT: u64 = 1 << 29;
const EXCEPTION: u64 = 1 << 30;
const TYPE: u64 = 1 << 31;

/// What values a type makes, as far as its layout is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    None,
    Ellipsis,
    NotImplemented,
    Bool,
    Int,
    /// `int` of Python 2.
    MachineInt,
    Float,
    Complex,
    Text,
    /// `unicode` of Python 2.
    WideText,
    Bytes,
    ByteArray,
    List,
    Tuple,
    Deque,
    Range,
    Slice,
    Dict,
    DefaultDict,
    OrderedDict,
    MappingProxy,
    Set,
    FrozenSet,
    Type,
    Module,
    Function,
    Builtin,
    Method,
    Generator,
    Coroutine,
    AsyncGenerator,
    Cell,
    Exception,
    WeakReference,
    Lock,
    RecursiveLock,
    Date,
    DateTime,
    Time,
    Delta,
    Zone,
    Array,
    /// A scalar of numpy.
    Scalar,
    OldInstance,
    OldClass,
    /// Anything else.
    Instance,
}

impl Family {
    /// Whether its values hold others.
    pub(crate) fn is_container(self) -> bool {
        use Family::*;
        matches!(
            self,
            List | Tuple
                | Deque
                | Dict
                | DefaultDict
                | OrderedDict
                | MappingProxy
                | Set
                | FrozenSet
                | Exception
                | Instance
                | OldInstance
                | Slice
                | Method
        )
    }

    /// What stands for a value that is too deep inside others.
    pub(crate) fn without_items(self) -> &'static str {
        match self {
            Family::List => "[…]",
            Family::Tuple => "(…)",
            Family::Dict | Family::Set => "{…}",
            _ => "…",
        }
    }
}

/// A type.
pub(crate) struct Type {
    /// The bytes of the type object; of a heap type with what that has more.
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u64,
    pub(crate) basic_size: u64,
    pub(crate) item_size: u64,
    /// Its `tp_name`.
    pub(crate) name: String,
    /// Whether no Python code can have made it.
    pub(crate) made_by_c: bool,
    pub(crate) family: Family,
    /// Whether it is the type that the family is named for, not a class derived from it.
    pub(crate) is_own: bool,
    /// What it is called where it is shown, once that was asked for.
    shown: RefCell<Option<String>>,
    /// The facts that classes are told apart by, once that was asked for.
    pub(super) class: RefCell<Option<Rc<Class>>>,
    pub(super) own: RefCell<Option<Rc<Own>>>,
}

/// The types that were met.
#[derive(Default)]
pub(crate) struct Types {
    known: RefCell<HashMap<Address, Result<Rc<Type>, Lack>>>,
    /// `type` itself.
    root: Cell<Option<Address>>,
}

impl Type {
    pub(crate) fn is_heap(&self) -> bool {
        self.flags & HEAP != 0
    }
}

impl Values<'_> {
    /// The type at `address`.
    pub(crate) fn type_at(&self, address: Address) -> Result<Rc<Type>, Lack> {
        if let Some(known) = self.types.known.borrow().get(&address) {
            return known.clone();
        }
        let found = self.reader.apart(|| self.read_type(address));
        let mut known = self.types.known.borrow_mut();
        // That a limit was reached says nothing about the type.
        if known.len() < KEPT && found.as_ref().err() != Some(&Lack::Limit) {
            known.insert(address, found.clone());
        }
        found
    }

    fn read_type(&self, address: Address) -> Result<Rc<Type>, Lack> {
        let mut found = self.bare_type(address)?;
        self.check_type_of(&found)?;
        let mut family = self.family_of(&found);
        found.is_own = family.is_some();
        let mut base = self.base_address(&found);
        for _ in 0..BASES {
            if family.is_some() || base.is_null() {
                break;
            }
            let next = self.bare_type(base)?;
            family = self.family_of(&next);
            base = self.base_address(&next);
        }
        found.family = family.unwrap_or(Family::Instance);
        Ok(Rc::new(found))
    }

    /// A type object without what its bases tell.
    pub(crate) fn bare_type(&self, address: Address) -> Result<Type, Lack> {
        if address.is_null() || !address.0.is_multiple_of(8) {
            return Err(Lack::Invalid);
        }
        let objects = &self.objects;
        let size = objects.type_size.get().ok_or(Lack::Invalid)?;
        let mut bytes = self.reader.bytes(address, size)?;
        let flags = objects.type_flags.u64(&bytes).ok_or(Lack::Invalid)?;
        if flags & HEAP != 0 {
            let whole = objects.type_heap_size.get().unwrap_or(size);
            let rest = address.checked_add(size).ok_or(Lack::Invalid)?;
            bytes.extend(self.reader.bytes(rest, whole.saturating_sub(size))?);
        }
        let size_of = |field: Field| field.u64(&bytes).filter(|size| *size < LARGEST).ok_or(Lack::Invalid);
        let name = self.layout.offsets.type_name.address(&bytes).ok_or(Lack::Invalid)?;
        let name = self.reader.c_text(name, NAME)?;
        let module = objects.type_module.address(&bytes).unwrap_or_default();
        let made_by_c = flags & HEAP == 0 || flags & self.layout.semantics.immutable_type != 0 || !module.is_null();
        Ok(Type {
            flags,
            basic_size: size_of(objects.type_basic_size)?,
            item_size: size_of(objects.type_item_size)?,
            name,
            made_by_c,
            family: Family::Instance,
            is_own: false,
            shown: RefCell::default(),
            class: RefCell::default(),
            own: RefCell::default(),
            bytes,
        })
    }

    /// A type's type is a type, and its type is one, up to `type`, of which there is one only.
    fn check_type_of(&self, found: &Type) -> Result<(), Lack> {
        let objects = &self.objects;
        let mut at = self.layout.offsets.object_type.address(&found.bytes).ok_or(Lack::Invalid)?;
        for _ in 0..BASES {
            if Some(at) == self.types.root.get() {
                return Ok(());
            }
            if at.is_null() || !at.0.is_multiple_of(8) {
                return Err(Lack::Invalid);
            }
            let bytes = self.reader.bytes(at, objects.type_size.get().ok_or(Lack::Invalid)?)?;
            let flags = objects.type_flags.u64(&bytes).ok_or(Lack::Invalid)?;
            let its_type = self.layout.offsets.object_type.address(&bytes).ok_or(Lack::Invalid)?;
            // Old-style classes of Python 2 have a type that makes no types; that one's type does.
            if flags & TYPE == 0 {
                return Err(Lack::Invalid);
            }
            if its_type == at {
                return match self.types.root.replace(Some(at)) {
                    Some(other) if other != at => Err(Lack::Invalid),
                    _ => Ok(()),
                };
            }
            at = its_type;
        }
        Err(Lack::Invalid)
    }

    pub(crate) fn base_address(&self, found: &Type) -> Address {
        self.objects.type_base.address(&found.bytes).unwrap_or_default()
    }

    /// The family that a type is named for.
    fn family_of(&self, found: &Type) -> Option<Family> {
        if !found.made_by_c {
            return None;
        }
        let objects = &self.objects;
        let has = |flag: u64| found.flags & flag != 0;
        let is_size = |field: Field| field.get() == Some(found.basic_size);
        let python_2 = self.layout.semantics.spelling.python_2;
        let header = objects.object_size.get()?;
        let family = match found.name.as_str() {
            "NoneType" => Family::None,
            "ellipsis" => Family::Ellipsis,
            "NotImplementedType" => Family::NotImplemented,
            "bool" if has(LONG) || has(MACHINE_INT) => Family::Bool,
            "int" if python_2 && has(MACHINE_INT) => Family::MachineInt,
            "int" | "long" if has(LONG) => Family::Int,
            "float" => Family::Float,
            "complex" => Family::Complex,
            "str" if python_2 && has(BYTES) => Family::Bytes,
            "str" if has(TEXT) => Family::Text,
            "unicode" if has(TEXT) => Family::WideText,
            "bytes" if has(BYTES) => Family::Bytes,
            "bytearray" => Family::ByteArray,
            "list" if has(LIST) => Family::List,
            "tuple" if has(TUPLE) => Family::Tuple,
            "dict" if has(DICT) => Family::Dict,
            "set" => Family::Set,
            "frozenset" => Family::FrozenSet,
            "range" | "xrange" => Family::Range,
            "slice" => Family::Slice,
            "type" if has(TYPE) => Family::Type,
            "module" => Family::Module,
            "function" => Family::Function,
            "builtin_function_or_method" => Family::Builtin,
            "method" | "instancemethod" => Family::Method,
            "generator" => Family::Generator,
            "coroutine" => Family::Coroutine,
            "async_generator" => Family::AsyncGenerator,
            "cell" => Family::Cell,
            "BaseException" | "exceptions.BaseException" if has(EXCEPTION) => Family::Exception,
            "weakref" | "weakref.ReferenceType" => Family::WeakReference,
            "mappingproxy" => Family::MappingProxy,
            "instance" if python_2 => Family::OldInstance,
            "classobj" if python_2 => Family::OldClass,
            "collections.deque" if is_size(objects.deque_size) => Family::Deque,
            "collections.defaultdict" if has(DICT) && is_size(objects.defaultdict_size) => Family::DefaultDict,
            "collections.OrderedDict" if has(DICT) && is_size(objects.ordered_size) => Family::OrderedDict,
            "_thread.lock" => Family::Lock,
            "_thread.RLock" => Family::RecursiveLock,
            "datetime.date" if found.basic_size == header + 16 => Family::Date,
            "datetime.datetime" if found.basic_size == header + 32 => Family::DateTime,
            "datetime.time" if found.basic_size == header + 24 => Family::Time,
            "datetime.timedelta" if found.basic_size == header + 24 => Family::Delta,
            "datetime.timezone" if found.basic_size == header + 16 => Family::Zone,
            "numpy.ndarray" => Family::Array,
            name if super::numpy::scalar(name).is_some() => Family::Scalar,
            _ => return None,
        };
        Some(family)
    }

    /// What a type is called: with its module, unless that is `builtins`.
    pub(crate) fn type_name(&self, found: &Type) -> String {
        if let Some(name) = found.shown.borrow().as_ref() {
            return name.clone();
        }
        let name = self.full_name(found);
        *found.shown.borrow_mut() = Some(name.clone());
        name
    }

    /// The same without the module.
    pub(crate) fn qualname(&self, found: &Type) -> String {
        let name = self.type_name(found);
        let own = self.own_class(found);
        let short = own.module.as_ref().and_then(|module| name.strip_prefix(module.as_str())?.strip_prefix('.'));
        short.map(ToOwned::to_owned).unwrap_or(name)
    }

    fn full_name(&self, found: &Type) -> String {
        let own = |name: &str| {
            let name = name.strip_prefix("builtins.").or_else(|| name.strip_prefix("exceptions.")).unwrap_or(name);
            name.to_owned()
        };
        if found.made_by_c {
            return own(&found.name);
        }
        let qualname = self.objects.type_qualname.address(&found.bytes);
        let qualname = qualname.and_then(|name| self.name(name).ok()).unwrap_or_else(|| found.name.clone());
        match self.own_class(found).module.as_deref() {
            None | Some("builtins" | "__builtin__") => qualname,
            Some(module) => format!("{module}.{qualname}"),
        }
    }
}
