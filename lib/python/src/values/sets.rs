//! Sets.

use super::objects::Object;
use super::pieces::Pieces;
use super::{ITEMS, Lack, Values};
use pyst_snapshot::Address;

/// How many slots of a set's table are gone through: a set that was emptied may have any number of free ones.
const SLOTS: u64 = 1024;

/// How many are read at once.
const STEP: u64 = 64;

impl Values<'_> {
    pub(crate) fn set(&self, object: &Object, frozen: bool) -> Result<Pieces, Lack> {
        let python_2 = self.layout.semantics.spelling.python_2;
        let used = object.count(self.objects.set_used)?;
        let (items, more) = self.items_of_set(object, used)?;
        let own = if frozen { "frozenset" } else { "set" };
        let name = self.derived(object).unwrap_or_else(|| own.to_owned());
        if used == 0 {
            return Ok(Pieces::text(if python_2 { format!("{name}([])") } else { format!("{name}()") }));
        }
        let (opening, closing) = match (python_2, object.its_type.is_own && !frozen) {
            (true, _) => (format!("{name}(["), "])"),
            (false, true) => ("{".to_owned(), "}"),
            (false, false) => (format!("{name}({{"), "})"),
        };
        let shown = items.len();
        Ok(Pieces::text(opening).objects(items).more(shown, more).close(closing))
    }

    /// The first members of a set, in the order of its table, and how many there are more.
    fn items_of_set(&self, object: &Object, used: u64) -> Result<(Vec<Address>, u64), Lack> {
        let slots = object.count(self.objects.set_mask)?.checked_add(1).ok_or(Lack::Invalid)?;
        let table = object.pointer(self.objects.set_table)?;
        if used > slots {
            return Err(Lack::Invalid);
        }
        let python_2 = self.layout.semantics.spelling.python_2;
        let wanted = used.min(ITEMS as u64);
        let mut items: Vec<Address> = Vec::new();
        let mut index = 0;
        while (items.len() as u64) < wanted && index < slots.min(SLOTS) {
            let step = STEP.min(slots - index);
            let place = table.checked_add(index * 16).ok_or(Lack::Invalid)?;
            for entry in self.reader.words(place, step * 2)?.as_chunks::<2>().0 {
                // Python 2 has the hash in front.
                let [key, hash] = if python_2 { [entry[1], entry[0]] } else { *entry };
                if key != 0 && !self.is_deleted(Address(key), hash, object) && (items.len() as u64) < wanted {
                    items.push(Address(key));
                }
            }
            index += step;
        }
        let more = used - items.len() as u64;
        Ok((items, more))
    }

    /// Whether a slot holds what stands for a member that was removed: in Python 3 no member has the hash -1.
    fn is_deleted(&self, slot_key: Address, hash: u64, set: &Object) -> bool {
        if !self.layout.semantics.spelling.python_2 {
            return hash == u64::MAX;
        }
        let fill = set.count(self.objects.set_fill).unwrap_or(0);
        let used = set.count(self.objects.set_used).unwrap_or(0);
        fill > used && self.name(slot_key).is_ok_and(|text| text == "<dummy key>")
    }
}
