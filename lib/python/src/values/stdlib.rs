//! The standard library's classes that have a form of their own: exceptions, weak references, locks and what is made of
//! them, queues and paths.

use super::instances::AttributesOf;
use super::objects::{Object, after};
use super::pieces::Pieces;
use super::types::Family;
use super::{ITEMS, Lack, Values};
use crate::layout::Field;
use pyst_snapshot::Address;

impl Values<'_> {
    pub(crate) fn exception(&self, object: &Object) -> Result<Pieces, Lack> {
        let name = self.type_name(&object.its_type);
        let name = name.rsplit_once('.').map_or(name.as_str(), |(_, name)| name);
        let arguments = self.object(object.pointer(self.objects.exception_args)?)?;
        let (items, count) = self.items_of_tuple(&arguments)?;
        let shown = count.min(ITEMS as u64);
        let items = if shown == 0 { Vec::new() } else { self.reader.words(items, shown)? };
        let comma = if count == 1 && self.layout.semantics.spelling.bare { ",)" } else { ")" };
        let pieces = Pieces::text(format!("{name}(")).objects(items.into_iter().map(Address));
        Ok(pieces.more(ITEMS, count - shown).close(comma))
    }

    pub(crate) fn weak_reference(&self, object: &Object) -> Result<Pieces, Lack> {
        let referent = object.pointer(self.objects.weakref_object)?;
        let target = self.object(referent)?;
        if target.its_type.family == Family::None {
            return Ok(Pieces::text(format!("<weakref at {}; dead>", object.address)));
        }
        let class = self.type_name(&target.its_type);
        Ok(Pieces::text(format!("<weakref at {}; to '{class}' at {referent}>", object.address)))
    }

    pub(crate) fn lock(&self, object: &Object) -> Result<Pieces, Lack> {
        let word = match self.is_locked(object)? {
            true => "locked",
            false => "unlocked",
        };
        Ok(Pieces::text(format!("<{word} _thread.lock object at {}>", object.address)))
    }

    fn is_locked(&self, object: &Object) -> Result<bool, Lack> {
        let ends_type = |field: Field| after(field, 8).and_then(Field::get) == Some(object.its_type.basic_size);
        // The byte is followed by what fills the word, and by nothing else.
        let [locked, mutex] = [self.objects.lock_locked, self.objects.lock_mutex];
        let byte = if ends_type(locked) {
            locked.u8(&object.bytes)
        } else if ends_type(mutex) {
            mutex.u8(&object.bytes).map(|bits| bits & 1)
        } else {
            None
        };
        match byte {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(Lack::Invalid),
        }
    }

    pub(crate) fn recursive_lock(&self, object: &Object) -> Result<Pieces, Lack> {
        let objects = &self.objects;
        let size = object.its_type.basic_size;
        let is_size = |last: Field, more| after(last, more).and_then(Field::get) == Some(size);
        let number = |field: Field| field.u64(&object.bytes).ok_or(Lack::Invalid);
        let (owner, count) = if is_size(objects.rlock_count, 16) {
            (number(objects.rlock_owner)?, number(objects.rlock_count)?)
        } else if is_size(objects.rlock_level, 8) {
            // The mutex counts how often it is held beyond once.
            let locked = objects.rlock_mutex.u8(&object.bytes).ok_or(Lack::Invalid)? & 1 == 1;
            let level = number(objects.rlock_level)?;
            (number(objects.rlock_thread)?, if locked { level.saturating_add(1) } else { 0 })
        } else {
            return Err(Lack::Invalid);
        };
        let (word, owner) = if count == 0 { ("unlocked", 0) } else { ("locked", owner) };
        let at = object.address;
        Ok(Pieces::text(format!("<{word} _thread.RLock object owner={owner} count={count} at {at}>")))
    }
}

/// `threading.Thread`: its name. What it runs, its frames show.
pub(crate) fn thread(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let name = attributes.get("_name").or_else(|| attributes.get("_Thread__name"))?;
    let class = values.type_name(&object.its_type);
    Some(Pieces::text(format!("<{class} at {}: {}>", object.address, values.name(name).ok()?)))
}

/// `threading.Event`: whether it is set.
pub(crate) fn event(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let flag = attributes.get("_flag").or_else(|| attributes.get("_Event__flag"))?;
    let flag = values.object(flag).ok().filter(|flag| flag.its_type.family == Family::Bool)?;
    let word = if values.small_int(&flag)? == 0 { "unset" } else { "set" };
    let name = values.type_name(&object.its_type);
    Some(Pieces::text(format!("<{name} at {}: {word}>", object.address)))
}

/// `threading.Condition`: its lock, and how many wait.
pub(crate) fn condition(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let lock = attributes.get("_lock").or_else(|| attributes.get("_Condition__lock"))?;
    let waiters = attributes.get("_waiters").or_else(|| attributes.get("_Condition__waiters"))?;
    let waiters = values.object(waiters).ok()?;
    let count = match waiters.its_type.family {
        Family::Deque => waiters.count(values.objects.deque_length).ok()?,
        Family::List => waiters.count(values.objects.object_items).ok()?,
        _ => return None,
    };
    let name = values.type_name(&object.its_type);
    let opening = format!("<{name} at {}: {count} waiting, ", object.address);
    Some(Pieces::text(opening).object(lock).close(">"))
}

/// `queue.Queue`: its bound, and what is in it.
pub(crate) fn queue(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let name = values.type_name(&object.its_type);
    let pieces = Pieces::text(format!("<{name} at {}>(maxsize=", object.address));
    let pieces = pieces.object(attributes.get("maxsize")?).and(", queue=").object(attributes.get("queue")?);
    Some(pieces.and(", unfinished_tasks=").object(attributes.get("unfinished_tasks")?).close(")"))
}

/// A path of pathlib, by the text it has kept, or by its parts.
pub(crate) fn path(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let name = object.its_type.name.as_str();
    let kept = attributes.get("_str").and_then(|text| values.uncut(text).ok());
    let mut text: Vec<u32> = match kept {
        Some(text) => text,
        None => by_parts(values, attributes)?.chars().map(u32::from).collect(),
    };
    if name.contains("Windows") {
        // `as_posix()` is what it shows.
        text.iter_mut().filter(|point| **point == u32::from('\\')).for_each(|point| *point = u32::from('/'));
    }
    let quoted = super::quote::quoted(text.into_iter(), super::quote::Style::Text);
    Some(Pieces::text(format!("{name}({quoted})")))
}

/// A path that has not been asked for its text yet; `None` where a part has what names are not shown with as it is.
fn by_parts(values: &Values<'_>, attributes: &AttributesOf) -> Option<String> {
    let text = if attributes.get("_parts").is_some() {
        let parts = values.list_of_names(attributes.get("_parts")?)?;
        let root = values.name(attributes.get("_root")?).ok()?;
        let drive = values.name(attributes.get("_drv")?).ok()?;
        match (drive + &root, parts.split_first()) {
            (anchor, Some((_, rest))) if !anchor.is_empty() => anchor + &rest.join("/"),
            (_, Some(_)) => parts.join("/"),
            (_, None) => ".".to_owned(),
        }
    } else {
        normal(&values.list_of_names(attributes.get("_raw_paths")?)?)
    };
    (!text.contains('\\')).then_some(text)
}

/// The path that its parts make, as `str()` has it on POSIX: each absolute part starts anew.
fn normal(raw: &[String]) -> String {
    let mut joined = String::new();
    for part in raw.iter().filter(|part| !part.is_empty()) {
        if part.starts_with('/') {
            joined.clear();
        } else if !joined.is_empty() && !joined.ends_with('/') {
            joined.push('/');
        }
        joined.push_str(part);
    }
    let slashes = joined.len() - joined.trim_start_matches('/').len();
    let root = match slashes {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let parts: Vec<&str> = joined.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let text = format!("{root}{}", parts.join("/"));
    if text.is_empty() { ".".to_owned() } else { text }
}

impl Values<'_> {
    /// The strings of a short list.
    fn list_of_names(&self, list: Address) -> Option<Vec<String>> {
        let list = self.object(list).ok().filter(|list| list.its_type.family == Family::List)?;
        let count = list.count(self.objects.object_items).ok().filter(|count| *count <= ITEMS as u64)?;
        let items = list.pointer(self.objects.list_items).ok()?;
        let items = if count == 0 { Vec::new() } else { self.reader.words(items, count).ok()? };
        items.into_iter().map(|item| self.name(Address(item)).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    /// What `str(PurePosixPath(…))` of Python 3.12 said.
    #[test]
    fn paths_are_joined_as_pathlib_joins_them() {
        for (parts, expected) in [
            (&["a", "b"][..], "a/b"),
            (&["/a/", "./b//c/."], "/a/b/c"),
            (&["a", "/b"], "/b"),
            (&["//a"], "//a"),
            (&["///a"], "/a"),
            (&[""], "."),
            (&[], "."),
            (&["a/.."], "a/.."),
        ] {
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            assert_eq!(normal(&parts), expected);
        }
    }
}
