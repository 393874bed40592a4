//! Dicts, in all the forms that versions keep them in, and what is derived from them.

use super::objects::Object;
use super::pieces::Pieces;
use super::{ITEMS, Lack, Values};
use crate::layout::SplitOrder;
use pyst_snapshot::Address;

/// How many entries are gone through for the items of a dict where no more are asked for: most of them are in use, but a dict
/// may begin with any number of deleted ones.
const ENTRIES: u64 = 1024;

/// How many entries are read at once.
const STEP: u64 = 64;

/// The kinds of keys (3.11 and later): any, strings, and strings that instances share. The first has hashes.
const GENERAL: u8 = 0;
const UNICODE: u8 = 1;
const SPLIT: u8 = 2;

/// How many items the values of instances can have.
pub(super) const SHARED: u64 = 254;

/// The first items of a dict.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) pairs: Vec<(Address, Address)>,
    /// How many it has in all.
    count: u64,
}

impl Items {
    /// How many are not among the first.
    pub(crate) fn more(&self) -> u64 {
        self.count.saturating_sub(self.pairs.len() as u64)
    }
}

/// Where a dict has its items.
pub(super) enum Table {
    /// With its keys.
    Own(Keys),
    /// The keys are shared among instances, the values apart.
    Split { keys: Address, values: Address },
}

/// The keys of a dict, apart from their entries.
pub(super) struct Keys {
    /// Where the entries are.
    entries: Address,
    pub(super) count: u64,
    /// The size of an entry, and where in it key and value are.
    size: u64,
    key: u64,
}

impl Values<'_> {
    pub(crate) fn dict(&self, object: &Object) -> Result<Pieces, Lack> {
        Ok(self.dict_alone(object)?.inside(self.derived(object)))
    }

    /// A dict without the class that is derived from it.
    fn dict_alone(&self, object: &Object) -> Result<Pieces, Lack> {
        let items = self.items_of(object, ITEMS)?;
        let (shown, more) = (items.pairs.len(), items.more());
        Ok(Pieces::text("{").pairs(items.pairs, ": ").more(shown, more).close("}"))
    }

    pub(crate) fn default_dict(&self, object: &Object) -> Result<Pieces, Lack> {
        let factory = object.pointer(self.objects.defaultdict_factory)?;
        let name = self.derived(object).unwrap_or_else(|| "defaultdict".to_owned());
        let pieces = Pieces::text(format!("{name}("));
        let pieces = if factory.is_null() { pieces.and("None") } else { pieces.object(factory) };
        Ok(append(pieces.and(", "), self.dict_alone(object)?).close(")"))
    }

    /// An OrderedDict made by C code, whose order is its own.
    pub(crate) fn ordered_dict(&self, object: &Object) -> Result<Pieces, Lack> {
        let name = self.derived(object).unwrap_or_else(|| "OrderedDict".to_owned());
        let items = self.items_of(object, ITEMS.saturating_mul(4))?;
        if items.count == 0 {
            return Ok(Pieces::text(format!("{name}()")));
        }
        let mut order = Vec::new();
        let mut node = object.pointer(self.objects.ordered_first)?;
        while !node.is_null() && order.len() < ITEMS && (order.len() as u64) < items.count {
            // _odictnode: key, hash, next, previous.
            let words = self.reader.words(node, 3)?;
            let [key, _, next] = words[..] else { return Err(Lack::Invalid) };
            order.push(Address(key));
            node = Address(next);
        }
        // An item whose value lies beyond what was read ends what is shown.
        let value = |key: &Address| items.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| (*key, *value));
        let pairs: Vec<_> = order.iter().map_while(value).collect();
        let (shown, more) = (pairs.len(), items.count.saturating_sub(pairs.len() as u64));
        if !self.layout.semantics.spelling.ordered_as_list {
            return Ok(Pieces::text(format!("{name}({{")).pairs(pairs, ": ").more(shown, more).close("})"));
        }
        let mut pieces = Pieces::text(format!("{name}(["));
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            let opening = if index == 0 { "(" } else { ", (" };
            pieces = pieces.and(opening).object(key).and(", ").object(value).close(")");
        }
        Ok(pieces.more(shown, more).close("])"))
    }

    pub(crate) fn mapping_proxy(&self, object: &Object) -> Result<Pieces, Lack> {
        let mapping = object.pointer(self.objects.proxy_mapping)?;
        Ok(Pieces::text("mappingproxy(").object(mapping).close(")"))
    }

    /// The first items of a dict, no more than `limit`.
    pub(crate) fn items_of(&self, dict: &Object, limit: usize) -> Result<Items, Lack> {
        let (table, used) = self.table_of(dict)?;
        let keys = match table {
            Table::Own(keys) => keys,
            Table::Split { keys, values } => return self.split_items(keys, values, Some(used), limit),
        };
        let mut items = Items { count: used, pairs: Vec::new() };
        self.each_pair(&keys, used, limit, |key, value| {
            items.pairs.push((key, value));
            true
        })?;
        Ok(items)
    }

    /// The first items of a dict, no more than `limit`, up to where they can be had.
    pub(crate) fn items_at_hand(&self, dict: &Object, limit: usize) -> Vec<(Address, Address)> {
        let mut pairs = Vec::new();
        match self.table_of(dict) {
            Ok((Table::Own(keys), used)) => {
                let _ = self.each_pair(&keys, used, limit, |key, value| {
                    pairs.push((key, value));
                    true
                });
            }
            Ok((Table::Split { keys, values }, used)) => {
                let items = self.split_items(keys, values, Some(used), limit);
                pairs.extend(items.into_iter().flat_map(|items| items.pairs));
            }
            Err(_) => {}
        }
        pairs
    }

    /// Where a dict has its items, and how many they are.
    pub(super) fn table_of(&self, dict: &Object) -> Result<(Table, u64), Lack> {
        /// Of type flags: a dict, or a class derived from it.
        const DICT: u64 = 1 << 29;
        if dict.its_type.flags & DICT == 0 {
            return Err(Lack::Invalid);
        }
        let used = dict.count(self.objects.dict_used)?;
        if self.objects.dict_table.get().is_some() {
            return Ok((Table::Own(self.keys_of_table(dict, used)?), used));
        }
        let keys = dict.pointer(self.objects.dict_keys)?;
        let values = dict.pointer(self.objects.dict_values)?;
        let table = if values.is_null() { Table::Own(self.keys(keys)?) } else { Table::Split { keys, values } };
        Ok((table, used))
    }

    /// The first items of a dict that has `used`, no more than `limit`, for as long as `each` wants more.
    pub(super) fn each_pair(
        &self,
        keys: &Keys,
        used: u64,
        limit: usize,
        mut each: impl FnMut(Address, Address) -> bool,
    ) -> Result<(), Lack> {
        let mut left = used.min(limit as u64);
        let end = keys.count.min(ENTRIES.max(limit as u64));
        let mut index = 0;
        while left > 0 && index < end {
            let step = STEP.min(keys.count - index);
            for (key, value) in self.entries(keys, index, step)? {
                if value.is_null() || key.is_null() {
                    continue;
                }
                left -= 1;
                if !each(key, value) || left == 0 {
                    return Ok(());
                }
            }
            index += step;
        }
        Ok(())
    }

    /// The items whose keys are shared among instances and whose values are apart.
    pub(crate) fn split_items(
        &self,
        keys: Address,
        values: Address,
        used: Option<u64>,
        limit: usize,
    ) -> Result<Items, Lack> {
        let keys = self.keys(keys)?;
        let first = self.objects.values_first.of(values).unwrap_or(values);
        let count = keys.count.min(SHARED);
        let order: Vec<u64> = match self.layout.semantics.split_order {
            SplitOrder::Keys => (0..count).collect(),
            SplitOrder::BeforeValues => {
                let place = |before: u64| values.0.checked_sub(before).map(Address).ok_or(Lack::Invalid);
                let size = self.reader.bytes(place(2)?, 1)?.first().copied().unwrap_or(0).into();
                let mut order = self.reader.bytes(place(size + 2)?, size)?;
                order.reverse();
                order.into_iter().map(u64::from).collect()
            }
            SplitOrder::AfterValues => {
                let head = self.reader.bytes(values, 8)?;
                let byte = |field: crate::layout::Field| field.u8(&head).map(u64::from).ok_or(Lack::Invalid);
                let (capacity, size) = (byte(self.objects.values_capacity)?, byte(self.objects.values_size)?);
                let place = first.checked_add(capacity * 8).ok_or(Lack::Invalid)?;
                self.reader.bytes(place, size.min(capacity))?.into_iter().map(u64::from).collect()
            }
        };
        if order.iter().any(|index| *index >= count) {
            return Err(Lack::Invalid);
        }
        let names = self.entries(&keys, 0, count)?;
        let words = self.reader.words(first, count)?;
        let at = |index: u64| -> Option<(Address, Address)> {
            let index = usize::try_from(index).ok()?;
            Some((names.get(index)?.0, Address(*words.get(index)?)))
        };
        let all = order.into_iter().filter_map(at).filter(|(key, value)| !key.is_null() && !value.is_null());
        let mut pairs: Vec<_> = all.collect();
        let count = used.unwrap_or(pairs.len() as u64);
        if (pairs.len() as u64) < count.min(SHARED) {
            return Err(Lack::Invalid);
        }
        pairs.truncate(limit);
        Ok(Items { pairs, count })
    }

    /// The keys object at `address`.
    pub(super) fn keys(&self, address: Address) -> Result<Keys, Lack> {
        let objects = &self.objects;
        let indices = objects.keys_indices.get().ok_or(Lack::Invalid)?;
        let header = self.reader.bytes(address, indices)?;
        let count = objects.keys_entries.u64(&header).ok_or(Lack::Invalid)?;
        let log2 = |field: crate::layout::Field| field.u8(&header).filter(|bits| *bits < 48);
        let (bytes, slots, general) = match objects.keys_kind.u8(&header) {
            Some(kind @ (GENERAL | UNICODE | SPLIT)) => {
                let bytes = 1 << log2(objects.keys_log2_index_bytes).ok_or(Lack::Invalid)?;
                (bytes, 1 << log2(objects.keys_log2_size).ok_or(Lack::Invalid)?, kind == GENERAL)
            }
            Some(_) => return Err(Lack::Invalid),
            None => {
                let slots = objects.keys_size.u64(&header).filter(|slots| *slots < 1 << 48).ok_or(Lack::Invalid)?;
                let each = match slots {
                    0..=0xff => 1,
                    0x100..=0xffff => 2,
                    0x1_0000..=0xffff_ffff => 4,
                    _ => 8,
                };
                (slots * each, slots, true)
            }
        };
        if count > slots {
            return Err(Lack::Invalid);
        }
        let entries = address.checked_add(indices).and_then(|at| at.checked_add(bytes)).ok_or(Lack::Invalid)?;
        let (size, key) = if general { (24, 8) } else { (16, 0) };
        Ok(Keys { entries, count, size, key })
    }

    /// Key and value of `count` entries from the one at `index` on.
    pub(super) fn entries(&self, keys: &Keys, index: u64, count: u64) -> Result<Vec<(Address, Address)>, Lack> {
        let place = index.checked_mul(keys.size).and_then(|offset| keys.entries.checked_add(offset));
        let words = keys.size / 8;
        let words_of_all = count.checked_mul(words).ok_or(Lack::Invalid)?;
        let all = self.reader.words(place.ok_or(Lack::Invalid)?, words_of_all)?;
        let key = usize::try_from(keys.key / 8).unwrap_or(0);
        let pair = |entry: &[u64]| Some((Address(*entry.get(key)?), Address(*entry.get(key + 1)?)));
        Ok(all.chunks_exact(usize::try_from(words).unwrap_or(1)).filter_map(pair).collect())
    }

    /// The keys of a dict of Python 2, a table of hash, key and value.
    fn keys_of_table(&self, dict: &Object, used: u64) -> Result<Keys, Lack> {
        let slots = dict.count(self.objects.dict_mask)?.checked_add(1).ok_or(Lack::Invalid)?;
        let entries = dict.pointer(self.objects.dict_table)?;
        if used > slots {
            return Err(Lack::Invalid);
        }
        Ok(Keys { entries, count: slots, size: 24, key: 8 })
    }
}

/// One after the other.
fn append(mut first: Pieces, second: Pieces) -> Pieces {
    first.truncated |= second.truncated;
    first.list.extend(second.list);
    first
}
