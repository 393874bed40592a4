//! What `str()` of an exception gives, where its bytes tell.
//!
//! The function that makes it is known by the type's slot: the outermost class that has the same one is where it is from.
//! When that is none of Python's own exceptions, code of a class makes the text, and nothing is said.

use super::objects::Object;
use super::quote::{Style, quoted};
use super::types::Family;
use super::{Lack, Values};
use crate::layout::{Field, Names};
use crate::text;
use pyst_snapshot::{Address, Text};

/// How many characters of a string are shown.
const SHOWN: u64 = 1000;

/// How many exceptions are followed that are made of nothing but another one.
const NESTED: usize = 8;

/// How many arguments are spelled.
const ARGUMENTS: u64 = 16;

/// How many bases up a function is looked for.
const BASES: usize = 32;

/// What an exception says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: Text,
    /// Whether it says more than that.
    pub(crate) truncated: bool,
}

/// Whose `__str__` an exception has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// `BaseException`: its arguments.
    Arguments,
    /// `KeyError`: `repr()` of its only argument.
    Key,
    /// `OSError`, and `EnvironmentError` of Python 2.
    System,
    Import,
    Syntax,
    Decoding,
    Encoding,
    Group,
    /// That of another class.
    Unknown,
}

impl Message {
    fn of(text: impl Into<String>) -> Message {
        Message { text: Text(text.into().into_bytes()), truncated: false }
    }

    /// Adds text, unless this is cut.
    fn and(mut self, text: &str) -> Message {
        if !self.truncated {
            self.text.0.extend_from_slice(text.as_bytes());
        }
        self
    }

    fn join(mut self, more: Message) -> Message {
        if !self.truncated {
            self.text.0.extend(more.text.0);
            self.truncated = more.truncated;
        }
        self
    }
}

impl Values<'_> {
    /// What `str()` of the exception at `address` gives; `None` where its bytes do not tell.
    pub(crate) fn message(&self, address: Address) -> Result<Option<Message>, Lack> {
        let mut object = self.object(address)?;
        for _ in 0..NESTED {
            if object.its_type.family != Family::Exception {
                return self.spelled(&object);
            }
            let says = self.says(&object)?;
            match says {
                Says::Unknown => return Ok(None),
                Says::Arguments | Says::Key => {}
                _ => match self.own_message(says, &object)? {
                    Own::Said(message) => return Ok(message),
                    Own::Arguments => {}
                },
            }
            let arguments = self.object(object.pointer(self.objects.exception_args)?)?;
            let (items, count) = self.items_of_tuple(&arguments)?;
            if count > ARGUMENTS {
                return Ok(None);
            }
            let items = if count == 0 { Vec::new() } else { self.reader.words(items, count)? };
            match items.as_slice() {
                [] => return Ok(Some(Message::default())),
                [only] if says == Says::Key => return self.quoted(Address(*only)),
                [only] => object = self.object(Address(*only))?,
                several => return self.several(several),
            }
        }
        Ok(None)
    }

    /// `repr()` of the tuple of these.
    fn several(&self, items: &[u64]) -> Result<Option<Message>, Lack> {
        let mut message = Message::of("(");
        for (index, item) in items.iter().enumerate() {
            let Some(item) = self.quoted(Address(*item))? else { return Ok(None) };
            message = message.and(if index == 0 { "" } else { ", " }).join(item);
        }
        Ok(Some(message.and(")")))
    }

    /// Whose `__str__` an exception has.
    fn says(&self, exception: &Object) -> Result<Says, Lack> {
        let Some(own) = self.layout.offsets.object_type.address(&exception.bytes) else { return Err(Lack::Invalid) };
        if let Some(known) = self.said.borrow().get(&own) {
            return Ok(*known);
        }
        let says = self.reader.apart(|| self.find_says(own, &exception.its_type.bytes))?;
        self.said.borrow_mut().insert(own, says);
        Ok(says)
    }

    fn find_says(&self, own: Address, its_type: &[u8]) -> Result<Says, Lack> {
        let slot = self.objects.type_str.u64(its_type).ok_or(Lack::Invalid)?;
        let mut says = Says::Unknown;
        let mut at = own;
        for _ in 0..BASES {
            if at.is_null() {
                break;
            }
            let base = self.bare_type(at)?;
            if self.objects.type_str.u64(&base.bytes) == Some(slot) {
                says = match base.made_by_c && !base.is_heap() {
                    true => self.says_by_name(&base.name, base.basic_size),
                    false => Says::Unknown,
                };
            }
            at = self.base_address(&base);
        }
        Ok(says)
    }

    /// By the name of a class of Python's own, whose instances have this size.
    fn says_by_name(&self, name: &str, size: u64) -> Says {
        let python_2 = self.layout.semantics.spelling.python_2;
        let own = self.objects.exception_size.get().and_then(|base| size.checked_sub(base)).map(|own| own / 8);
        let Some(own) = own else { return Says::Unknown };
        match (name.strip_prefix("exceptions.").unwrap_or(name), own) {
            ("BaseException", 0) => Says::Arguments,
            ("KeyError", 0) => Says::Key,
            ("OSError", 5) | ("EnvironmentError", 3) => Says::System,
            ("ImportError", 3..=4) if !python_2 => Says::Import,
            ("SyntaxError", 6..=9) => Says::Syntax,
            ("UnicodeDecodeError", 5) => Says::Decoding,
            ("UnicodeEncodeError", 5) => Says::Encoding,
            ("BaseExceptionGroup", 2..=3) => Says::Group,
            _ => Says::Unknown,
        }
    }

    /// What an exception with fields of its own says by them.
    fn own_message(&self, says: Says, exception: &Object) -> Result<Own, Lack> {
        let field = |index: u64| -> Result<u64, Lack> {
            let base = self.objects.exception_size.get().ok_or(Lack::Invalid)?;
            let place = u32::try_from(base.saturating_add(index * 8)).map_err(|_| Lack::Invalid)?;
            Field(place).u64(&exception.bytes).ok_or(Lack::Invalid)
        };
        let pointer = |index: u64| field(index).map(Address);
        match says {
            Says::System => self.system([pointer(0)?, pointer(1)?, pointer(2)?, pointer(3).unwrap_or_default()]),
            Says::Import => {
                let message = pointer(0)?;
                if message.is_null() {
                    return Ok(Own::Arguments);
                }
                let message = self.object(message)?;
                let is_text = message.its_type.is_own && message.its_type.family == Family::Text;
                if is_text { self.spelled(&message).map(Own::Said) } else { Ok(Own::Arguments) }
            }
            Says::Syntax => self.syntax([pointer(0)?, pointer(1)?, pointer(2)?]).map(Own::Said),
            Says::Decoding | Says::Encoding => {
                let texts = [pointer(0)?, pointer(1)?, pointer(4)?];
                self.codec(says == Says::Encoding, texts, field(2)?, field(3)?).map(Own::Said)
            }
            Says::Group => self.group(pointer(0)?, pointer(1)?).map(Own::Said),
            Says::Arguments | Says::Key | Says::Unknown => Ok(Own::Arguments),
        }
    }

    /// `OSError_str`.
    fn system(&self, [number, what, file, other]: [Address; 4]) -> Result<Own, Lack> {
        if file.is_null() && (number.is_null() || what.is_null()) {
            return Ok(Own::Arguments);
        }
        let spelled = |address: Address| match address.is_null() {
            true => Ok(Some(Message::of("None"))),
            false => self.spelled(&self.object(address)?),
        };
        let (Some(number), Some(what)) = (spelled(number)?, spelled(what)?) else { return Ok(Own::Said(None)) };
        let mut message = Message::of("[Errno ").join(number).and("] ").join(what);
        for (between, name) in [(": ", file), (" -> ", other)] {
            // Python 2 has no second one.
            if name.is_null() || (between != ": " && (file.is_null() || self.layout.semantics.spelling.python_2)) {
                continue;
            }
            let Some(name) = self.quoted(name)? else { return Ok(Own::Said(None)) };
            message = message.and(between).join(name);
        }
        Ok(Own::Said(Some(message)))
    }

    /// `SyntaxError_str`.
    fn syntax(&self, [what, file, line]: [Address; 3]) -> Result<Option<Message>, Lack> {
        let what = match what.is_null() {
            true => Some(Message::of("None")),
            false => self.spelled(&self.object(what)?)?,
        };
        let Some(what) = what else { return Ok(None) };
        let mut within = String::new();
        if !file.is_null() {
            let file = self.object(file)?;
            let is_text = match self.layout.semantics.names {
                Names::Text => file.its_type.family == Family::Text,
                Names::Bytes => file.its_type.family == Family::Bytes,
            };
            if is_text {
                let Some(path) = self.characters(&file)?.filter(|path| !path.truncated) else { return Ok(None) };
                let Ok(path) = String::from_utf8(path.text.0) else { return Ok(None) };
                within.push_str(path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name));
            }
        }
        if !line.is_null() {
            let line = self.object(line)?;
            if line.its_type.is_own && matches!(line.its_type.family, Family::Int | Family::MachineInt) {
                let Some(line) = self.small_int(&line) else { return Ok(None) };
                let comma = if within.is_empty() { "" } else { ", " };
                within.push_str(&format!("{comma}line {line}"));
            }
        }
        Ok(Some(if within.is_empty() { what } else { what.and(" (").and(&within).and(")") }))
    }

    /// `UnicodeDecodeError_str` and `UnicodeEncodeError_str`.
    fn codec(
        &self,
        encodes: bool,
        [codec, object, why]: [Address; 3],
        start: u64,
        end: u64,
    ) -> Result<Option<Message>, Lack> {
        if codec.is_null() || object.is_null() || why.is_null() {
            return Ok(None);
        }
        let characters = |address: Address| self.characters(&self.object(address)?);
        let (Some(codec), Some(why)) = (characters(codec)?, characters(why)?) else { return Ok(None) };
        let object = self.object(object)?;
        let Some((place, length, width)) = self.string_of(&object)? else { return Ok(None) };
        // What lies outside is moved inside, by rules that differ.
        if start >= end || end > length || encodes == (object.its_type.family == Family::Bytes) {
            return Ok(None);
        }
        let verb = if encodes { "encode" } else { "decode" };
        let what = if end - start > 1 {
            let what = if encodes { "characters" } else { "bytes" };
            format!("{what} in position {start}-{}", end - 1)
        } else {
            let place = start.checked_mul(width).and_then(|offset| place.checked_add(offset)).ok_or(Lack::Invalid)?;
            let bytes = self.reader.bytes(place, width)?;
            let point = bytes.iter().rev().fold(0u32, |point, byte| point << 8 | u32::from(*byte));
            let prefix = if self.layout.semantics.spelling.python_2 { "u" } else { "" };
            let what = match point {
                _ if !encodes => format!("byte 0x{point:02x}"),
                0..=0xff => format!("character {prefix}'\\x{point:02x}'"),
                0x100..=0xffff => format!("character {prefix}'\\u{point:04x}'"),
                _ => format!("character {prefix}'\\U{point:08x}'"),
            };
            format!("{what} in position {start}")
        };
        let message = Message::of("'").join(codec).and(&format!("' codec can't {verb} {what}: "));
        Ok(Some(message.join(why)))
    }

    /// `BaseExceptionGroup_str`.
    fn group(&self, message: Address, inside: Address) -> Result<Option<Message>, Lack> {
        let Some(message) = self.spelled(&self.object(message)?)? else { return Ok(None) };
        let (_, count) = self.items_of_tuple(&self.object(inside)?)?;
        let plural = if count == 1 { "" } else { "s" };
        Ok(Some(message.and(&format!(" ({count} sub-exception{plural})"))))
    }

    /// `str()` of an object of one of the types whose values say it.
    fn spelled(&self, object: &Object) -> Result<Option<Message>, Lack> {
        let python_2 = self.layout.semantics.spelling.python_2;
        if !object.its_type.is_own {
            return Ok(None);
        }
        match object.its_type.family {
            Family::Text | Family::WideText => self.characters(object),
            Family::Bytes if python_2 => self.characters(object),
            Family::Float | Family::Complex if python_2 => Ok(None),
            Family::Int if python_2 => {
                let long = self.quoted(object.address)?;
                Ok(long.map(|mut long| {
                    long.text.0.pop_if(|last| *last == b'L');
                    long
                }))
            }
            _ => self.quoted(object.address),
        }
    }

    /// `repr()` of an object of one of the types whose values say it, unless it is too long.
    fn quoted(&self, address: Address) -> Result<Option<Message>, Lack> {
        let object = self.object(address)?;
        if !object.its_type.is_own {
            return Ok(None);
        }
        let python_2 = self.layout.semantics.spelling.python_2;
        let (prefix, style) = match object.its_type.family {
            Family::Text => ("", Style::Text),
            Family::WideText => ("u", Style::AsciiText),
            Family::Bytes if python_2 => ("", Style::Bytes),
            Family::Bytes => ("b", Style::Bytes),
            Family::None | Family::Bool | Family::Int | Family::MachineInt | Family::Float | Family::Complex => {
                let shown = self.show(address)?;
                return Ok((!shown.truncated).then(|| Message::of(shown.repr)));
            }
            _ => return Ok(None),
        };
        let (points, length) = self.points_of(&object)?;
        let is_whole = points.len() as u64 == length;
        Ok(is_whole.then(|| Message::of(format!("{prefix}{}", quoted(points.into_iter(), style)))))
    }

    /// The characters of a string.
    fn characters(&self, object: &Object) -> Result<Option<Message>, Lack> {
        let (points, length) = self.points_of(object)?;
        let truncated = (points.len() as u64) < length;
        let text = match object.its_type.family {
            Family::Bytes => {
                let bytes: Vec<u8> = points.into_iter().filter_map(|point| u8::try_from(point).ok()).collect();
                text::decode_bytes(&bytes)
            }
            _ => text::of_points(&points).ok_or(Lack::Invalid)?,
        };
        Ok(Some(Message { text, truncated }))
    }

    /// The first code points of a string, or bytes of bytes, and how many it has.
    fn points_of(&self, object: &Object) -> Result<(Vec<u32>, u64), Lack> {
        match object.its_type.family {
            Family::Text => self.points(object, SHOWN),
            Family::WideText => self.wide_points(object, SHOWN),
            Family::Bytes => {
                let offsets = &self.layout.offsets;
                let length = object.count(offsets.bytes_length)?;
                let data = offsets.bytes_data.of(object.address).ok_or(Lack::Invalid)?;
                let bytes = self.reader.bytes(data, length.min(SHOWN))?;
                Ok((bytes.into_iter().map(u32::from).collect(), length))
            }
            _ => Err(Lack::Invalid),
        }
    }

    /// Where a string or bytes has what it is made of, how many of them, and how large each is.
    fn string_of(&self, object: &Object) -> Result<Option<(Address, u64, u64)>, Lack> {
        let offsets = &self.layout.offsets;
        match object.its_type.family {
            Family::Bytes => {
                let data = offsets.bytes_data.of(object.address).ok_or(Lack::Invalid)?;
                Ok(Some((data, object.count(offsets.bytes_length)?, 1)))
            }
            Family::Text => {
                let found = text::locate(offsets, object.address, &object.bytes).ok_or(Lack::Invalid)?;
                let data = match found.place {
                    text::Place::Inside(data) => data,
                    text::Place::Pointer(place) => Address(self.reader.word(place)?),
                    text::Place::Wide { .. } => return Ok(None),
                };
                Ok(Some((data, found.length, found.kind.into())))
            }
            Family::WideText => {
                let length = object.count(self.objects.unicode_length)?;
                Ok(Some((object.pointer(self.objects.unicode_data)?, length, self.width.ok_or(Lack::Invalid)?)))
            }
            _ => Ok(None),
        }
    }

    /// What the class of an exception is called.
    pub(crate) fn name_of_exception(&self, exception: &Object) -> Result<String, Lack> {
        if exception.its_type.family == Family::OldInstance {
            return self.old_class_name(&self.object(exception.pointer(self.objects.instance_class)?)?);
        }
        // Where the module of a class could not be read, its name is not the whole one.
        if !exception.its_type.made_by_c && self.own_class(&exception.its_type).module.is_none() {
            return Err(Lack::Limit);
        }
        Ok(self.type_name(&exception.its_type))
    }

    /// What the class at `address` is called.
    pub(crate) fn name_of_class(&self, address: Address) -> Result<String, Lack> {
        let class = self.object(address)?;
        match class.its_type.family {
            Family::OldClass => self.old_class_name(&class),
            Family::Type => Ok(self.type_name(&*self.type_at(address)?)),
            _ => Err(Lack::Invalid),
        }
    }
}

/// What an exception with fields of its own says.
enum Own {
    /// This.
    Said(Option<Message>),
    /// Its arguments, as one without.
    Arguments,
}
