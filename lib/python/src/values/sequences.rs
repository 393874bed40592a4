//! Lists, tuples, deques, ranges and slices.

use super::objects::Object;
use super::pieces::Pieces;
use super::{ITEMS, Lack, Values};
use pyst_snapshot::Address;

/// How many items one may have at most: more do not fit an address space.
const MOST: u64 = 1 << 44;

impl Values<'_> {
    pub(crate) fn list(&self, object: &Object) -> Result<Pieces, Lack> {
        let count = self.item_count(object)?;
        let items = object.pointer(self.objects.list_items)?;
        Ok(self.sequence("[", items, count, "]")?.inside(self.derived(object)))
    }

    pub(crate) fn tuple(&self, object: &Object) -> Result<Pieces, Lack> {
        let (items, count) = self.items_of_tuple(object)?;
        let class = self.class_of(&object.its_type);
        if let Some(fields) = class.fields.as_ref().filter(|fields| fields.len() as u64 == count) {
            let full = self.type_name(&object.its_type);
            let name = full.rsplit_once('.').map_or(full.as_str(), |(_, name)| name);
            let mut pieces = Pieces::text(format!("{name}("));
            for (index, (field, item)) in fields.iter().zip(self.reader.words(items, count)?).enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                pieces = pieces.and(format!("{comma}{field}=")).object(Address(item));
            }
            return Ok(pieces.close(")"));
        }
        let closing = if count == 1 { ",)" } else { ")" };
        Ok(self.sequence("(", items, count, closing)?.inside(self.derived(object)))
    }

    /// Where the items of a tuple are, and how many.
    pub(crate) fn items_of_tuple(&self, object: &Object) -> Result<(Address, u64), Lack> {
        const TUPLE: u64 = 1 << 26;
        if object.its_type.flags & TUPLE == 0 {
            return Err(Lack::Invalid);
        }
        let items = self.objects.tuple_items.of(object.address).ok_or(Lack::Invalid)?;
        Ok((items, self.item_count(object)?))
    }

    fn item_count(&self, object: &Object) -> Result<u64, Lack> {
        object.count(self.objects.object_items).ok().filter(|count| *count < MOST).ok_or(Lack::Invalid)
    }

    fn sequence(
        &self,
        opening: &'static str,
        items: Address,
        count: u64,
        closing: &'static str,
    ) -> Result<Pieces, Lack> {
        let shown = count.min(ITEMS as u64);
        let items = if shown == 0 { Vec::new() } else { self.reader.words(items, shown)? };
        let items = items.into_iter().map(Address);
        Ok(Pieces::text(opening).objects(items).more(ITEMS, count - shown).close(closing))
    }

    pub(crate) fn deque(&self, object: &Object) -> Result<Pieces, Lack> {
        let objects = &self.objects;
        let block = objects.deque_block_size.get().ok_or(Lack::Invalid)? / 8;
        let count = object.count(objects.deque_length).ok().filter(|count| *count < MOST).ok_or(Lack::Invalid)?;
        let longest = objects.deque_max_length.u64(&object.bytes).ok_or(Lack::Invalid)? as i64;
        let mut at = object.pointer(objects.deque_left_block)?;
        let mut index = object.count(objects.deque_left_index)?;
        let mut items = Vec::new();
        let wanted = count.min(ITEMS as u64);
        while (items.len() as u64) < wanted {
            if index >= block {
                at = Address(self.reader.word(objects.deque_block_right.of(at).ok_or(Lack::Invalid)?)?);
                index = 0;
            }
            let now = (block - index).min(wanted - items.len() as u64);
            let items_of_block = objects.deque_block_items.of(at);
            let place = items_of_block.and_then(|first| first.checked_add(index * 8)).ok_or(Lack::Invalid)?;
            items.extend(self.reader.words(place, now)?.into_iter().map(Address));
            index += now;
        }
        let name = self.derived(object).unwrap_or_else(|| "deque".to_owned());
        let closing = if longest < 0 { "])".to_owned() } else { format!("], maxlen={longest})") };
        Ok(Pieces::text(format!("{name}([")).objects(items).more(ITEMS, count - wanted).close(closing))
    }

    pub(crate) fn range(&self, object: &Object) -> Result<Pieces, Lack> {
        if self.layout.semantics.spelling.python_2 {
            return self.machine_range(object);
        }
        let part = |words| object.pointer_after(self.objects.range_start, words);
        let step = self.object(part(2)?)?;
        let pieces = Pieces::text("range(").object(part(0)?).and(", ").object(part(1)?);
        let pieces = if self.small_int(&step) == Some(1) { pieces } else { pieces.and(", ").object(part(2)?) };
        Ok(pieces.close(")"))
    }

    /// `xrange` of Python 2: start, step and length, numbers of the machine.
    fn machine_range(&self, object: &Object) -> Result<Pieces, Lack> {
        let part = |words| object.pointer_after(self.objects.range_start, words).map(|word| word.0 as i64);
        let (start, step, length) = (part(0)?, part(1)?, part(2)?);
        let stop = length.checked_mul(step).and_then(|steps| start.checked_add(steps)).ok_or(Lack::Invalid)?;
        Ok(Pieces::text(match (start, step) {
            (0, 1) => format!("xrange({stop})"),
            (start, 1) => format!("xrange({start}, {stop})"),
            (start, step) => format!("xrange({start}, {stop}, {step})"),
        }))
    }

    pub(crate) fn slice(&self, object: &Object) -> Result<Pieces, Lack> {
        let objects = &self.objects;
        let parts = [objects.slice_start, objects.slice_stop, objects.slice_step];
        let parts: Vec<Address> = parts.into_iter().map(|part| object.pointer(part)).collect::<Result<_, _>>()?;
        Ok(Pieces::text("slice(").objects(parts).close(")"))
    }
}
