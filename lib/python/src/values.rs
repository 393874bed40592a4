//! Values: what `repr()` of an object would say, from its bytes alone.
//!
//! What must hold:
//!
//! - **Right or absent.** A value is what the object's bytes say by the layout of its very type, or it is not shown. A type
//!   is what its type object says it is: a class that is only called `deque` is no deque.
//! - **Bounded before read.** How much of an object is read, how many objects, how deep and how long the text may be, are
//!   limits that no target can move; what is left out is marked.
//! - Nothing recurses: an explicit stack of what is still to be written.

mod callables;
mod classes;
mod clock;
mod instances;
mod mappings;
mod messages;
mod numbers;
mod numpy;
mod objects;
mod pandas;
mod pieces;
mod printable;
mod quote;
mod reader;
mod sequences;
mod sets;
mod stdlib;
mod strings;
mod types;
mod wanted;

use crate::layout::{Layout, Objects};
use messages::Says;
pub(crate) use objects::Object;
use pieces::{Piece, Pieces};
use pyst_memory::{Memory, ReadError};
use pyst_snapshot::Address;
use pyst_snapshot::payload::ValueAbsence;
use reader::Reader;
use std::cell::RefCell;
use std::collections::HashMap;
pub(crate) use types::Family;
use types::Types;
pub(crate) use wanted::Wanted;

/// How many objects deep a value is shown.
const DEPTH: usize = 6;

/// How many items of a container are shown.
pub(crate) const ITEMS: usize = 48;

/// How many objects one value may show in all.
const OBJECTS: usize = 400;

/// How long the text of a value may get, in bytes. The longest single piece, a string all of whose characters are escaped,
/// fits.
const LENGTH: usize = 2400;

/// Why a value cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Bytes of it cannot be had.
    Read(ReadError),
    /// What is there is no object, or none that can be.
    Invalid,
    /// More would have to be read than is allowed.
    Limit,
}

impl Lack {
    /// The same on the wire.
    pub(crate) fn absence(self) -> ValueAbsence {
        match self {
            Lack::Read(ReadError::Unreadable(_)) => ValueAbsence::UNREADABLE,
            Lack::Read(ReadError::NotRecorded(_)) => ValueAbsence::NOT_RECORDED,
            Lack::Read(ReadError::TooLong { .. }) | Lack::Invalid => ValueAbsence::INVALID,
            Lack::Limit => ValueAbsence::LIMIT,
        }
    }
}

/// A value as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The type, with its module unless that is `builtins`.
    pub(crate) type_name: String,
    /// The value.
    pub(crate) repr: String,
    /// Whether it has more than that.
    pub(crate) truncated: bool,
    /// Whether an object inside it was not read.
    pub(crate) has_unread: bool,
}

/// What shows values.
pub(crate) struct Values<'a> {
    layout: &'a Layout,
    objects: Objects,
    reader: Reader<'a>,
    types: Types,
    /// The names that were met.
    names: RefCell<HashMap<Address, String>>,
    /// How many bytes a character of `unicode` has, Python 2.
    width: Option<u64>,
    /// What exceptions of the classes that were met say.
    said: RefCell<HashMap<Address, Says>>,
}

/// What is still to be written.
enum Step {
    Piece(Piece),
    /// All of the innermost open object has been written.
    Leave,
}

impl<'a> Values<'a> {
    /// What shows values by `layout`, reading no more than `limit` bytes in all; `None` where the layout has no fields of
    /// objects.
    pub(crate) fn new(layout: &'a Layout, memory: &'a dyn Memory, limit: u64) -> Option<Values<'a>> {
        let objects = layout.objects?;
        let reader = Reader::new(memory, limit);
        let types = Types::default();
        Some(Values {
            layout,
            objects,
            reader,
            types,
            names: RefCell::default(),
            width: None,
            said: RefCell::default(),
        })
    }

    /// Learns from an interpreter of Python 2 how it was built.
    pub(crate) fn ask(&mut self, interpreter: Address) {
        if self.layout.semantics.spelling.python_2 {
            self.width = self.width_of_characters(interpreter);
        }
    }

    /// Starts another variable: each has its own part of what may be read.
    pub(crate) fn start(&self) {
        self.reader.start();
    }

    /// The same for what may need all that is left of the limit.
    pub(crate) fn start_without_part(&self) {
        self.reader.start_without_part();
    }

    /// The same for one that has a smaller part.
    pub(crate) fn start_within(&self, limit: u64) {
        self.reader.start_within(limit);
    }

    /// Where objects have what their values are made of.
    pub(crate) fn objects(&self) -> Objects {
        self.objects
    }

    /// Says that the objects at these addresses will be looked at next.
    pub(crate) fn expect(&self, objects: impl Iterator<Item = Address>) {
        self.reader.expect(objects);
    }

    /// Says that it will be looked at what kind of objects there are at these addresses, and no further.
    pub(crate) fn expect_heads(&self, objects: impl Iterator<Item = Address>) {
        self.reader.expect_heads(objects);
    }

    /// Whether nothing more may be read, or next to nothing.
    pub(crate) fn is_spent(&self) -> bool {
        self.reader.is_spent()
    }

    /// What the cell at `address` holds; what is no cell yet is the value itself, as of a function that has just begun.
    pub(crate) fn cell_content(&self, address: Address) -> Result<Option<Address>, Lack> {
        let cell = self.object(address)?;
        if cell.its_type.family != Family::Cell {
            return Ok(Some(address));
        }
        let content = cell.pointer(self.objects.cell_value)?;
        Ok((!content.is_null()).then_some(content))
    }

    /// The first names of a namespace with their values, and how many there are more.
    pub(crate) fn names_of(&self, dict: Address, limit: usize) -> Result<(Vec<(String, Address)>, u64), Lack> {
        let items = self.items_of(&self.object(dict)?, limit)?;
        let more = items.more();
        let named = items.pairs.into_iter().map(|(key, value)| Ok((self.name(key)?, value)));
        Ok((named.collect::<Result<_, _>>()?, more))
    }

    /// The value of the object at `address`.
    pub(crate) fn show(&self, address: Address) -> Result<Shown, Lack> {
        let object = self.object(address)?;
        let type_name = self.type_name(&object.its_type);
        let mut shown = Shown { type_name, repr: String::new(), truncated: false, has_unread: false };
        let first = self.pieces(&object, &[])?;
        let mut open = vec![address];
        let mut stack = vec![Step::Leave];
        shown.truncated |= first.truncated;
        push(&mut stack, first);
        let (mut full, mut objects) = (false, 1);
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave => {
                    open.pop();
                }
                Step::Piece(Piece::Close(text)) => shown.repr.push_str(&text),
                Step::Piece(_) if full => {}
                Step::Piece(Piece::Text(text)) => {
                    full = shown.repr.len().saturating_add(text.len()) > LENGTH;
                    shown.repr.push_str(if full { "…" } else { &text });
                }
                Step::Piece(Piece::Object(_)) if objects >= OBJECTS => {
                    full = true;
                    shown.repr.push('…');
                }
                Step::Piece(Piece::Object(address)) => {
                    objects += 1;
                    match self.object(address).and_then(|object| self.pieces(&object, &open)) {
                        Ok(pieces) => {
                            shown.truncated |= pieces.truncated;
                            open.push(address);
                            stack.push(Step::Leave);
                            push(&mut stack, pieces);
                        }
                        Err(lack) => {
                            shown.truncated = true;
                            shown.has_unread |= matches!(lack, Lack::Read(ReadError::NotRecorded(_)));
                            shown.repr.push_str(&unavailable(address, lack));
                        }
                    }
                }
            }
        }
        shown.truncated |= full;
        Ok(shown)
    }

    /// What is written of an object inside those that are `open`.
    fn pieces(&self, object: &Object, open: &[Address]) -> Result<Pieces, Lack> {
        let family = object.its_type.family;
        if open.contains(&object.address) {
            return Ok(self.again(object, family));
        }
        if open.len() >= DEPTH && family.is_container() {
            let mut pieces = Pieces::text(family.without_items());
            pieces.truncated = true;
            return Ok(pieces);
        }
        if self.is_member(object) {
            return self.member(object);
        }
        let pieces = match family {
            Family::None => Pieces::text("None"),
            Family::Ellipsis => Pieces::text("Ellipsis"),
            Family::NotImplemented => Pieces::text("NotImplemented"),
            Family::Bool => self.bool(object)?,
            Family::Int | Family::MachineInt => self.int(object)?,
            Family::Float => self.float(object)?,
            Family::Complex => self.complex(object)?,
            Family::Text => self.string(object)?,
            Family::WideText => self.wide_string(object)?,
            Family::Bytes => self.bytes(object)?,
            Family::ByteArray => self.bytearray(object)?,
            Family::List => self.list(object)?,
            Family::Tuple => self.tuple(object)?,
            Family::Deque => self.deque(object)?,
            Family::Range => self.range(object)?,
            Family::Slice => self.slice(object)?,
            Family::Dict => self.dict(object)?,
            Family::DefaultDict => self.default_dict(object)?,
            Family::OrderedDict => self.ordered_dict(object)?,
            Family::MappingProxy => self.mapping_proxy(object)?,
            Family::Set => self.set(object, false)?,
            Family::FrozenSet => self.set(object, true)?,
            Family::Type => self.class(object)?,
            Family::Module => self.module(object)?,
            Family::Function => self.function(object)?,
            Family::Builtin => self.builtin(object)?,
            Family::Method => self.method(object)?,
            Family::Generator => self.generator(object, "generator")?,
            Family::Coroutine => self.generator(object, "coroutine")?,
            Family::AsyncGenerator => self.generator(object, "async_generator")?,
            Family::Cell => self.cell(object)?,
            Family::Exception => self.exception(object)?,
            Family::WeakReference => self.weak_reference(object)?,
            Family::Lock => self.lock(object)?,
            Family::RecursiveLock => self.recursive_lock(object)?,
            Family::Date | Family::DateTime | Family::Time | Family::Delta | Family::Zone => {
                self.clock(object, family)?
            }
            Family::Array => self.array(object)?,
            Family::Scalar => self.scalar(object)?,
            Family::OldInstance => self.old_instance(object)?,
            Family::OldClass => self.old_class(object)?,
            Family::Instance => self.instance(object, open.len())?,
        };
        Ok(pieces)
    }

    /// What is written of an object that contains itself.
    fn again(&self, object: &Object, family: Family) -> Pieces {
        match family {
            Family::List | Family::Deque => Pieces::text("[...]"),
            Family::Tuple => Pieces::text("(...)"),
            Family::Dict | Family::DefaultDict => Pieces::text("{...}"),
            Family::OrderedDict => Pieces::text("..."),
            Family::Set | Family::FrozenSet => Pieces::text(format!("{}(...)", self.type_name(&object.its_type))),
            _ => self.plain(object),
        }
    }

    /// The form of what has no other.
    fn plain(&self, object: &Object) -> Pieces {
        Pieces::text(format!("<{} at {}>", self.type_name(&object.its_type), object.address))
    }
}

fn push(stack: &mut Vec<Step>, pieces: Pieces) {
    stack.extend(pieces.list.into_iter().rev().map(Step::Piece));
}

/// What stands for an object inside another that cannot be had.
fn unavailable(address: Address, lack: Lack) -> String {
    match lack {
        Lack::Limit => "…".to_owned(),
        Lack::Read(ReadError::NotRecorded(_)) => format!("<not read at {address}>"),
        Lack::Read(_) | Lack::Invalid => format!("<not readable at {address}>"),
    }
}
