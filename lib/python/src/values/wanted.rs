//! A few attributes of many instances: of each is read where these attributes are, and no more.
//!
//! Instances of a class have their attributes at the same places as a rule, and the names of these places in keys that they
//! share. So names are looked for once for each of these keys, and then only values are read. A process may have thousands
//! of threads, each with a `threading.Thread` of a dozen attributes.

use super::classes::Slot;
use super::instances::Storage;
use super::mappings::{SHARED, Table};
use super::objects::Object;
use super::types::Type;
use super::{ITEMS, Lack, Values};
use crate::layout::SplitOrder;
use pyst_snapshot::Address;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How many names, keys and classes are kept of each: with more, what a target repeats is read again.
const KEPT: usize = 4096;

/// The names of the attributes that are wanted, and where they were found so far.
pub(crate) struct Wanted<const N: usize> {
    names: [&'static str; N],
    /// By the address of a string: which of the names it is, if any.
    strings: RefCell<HashMap<Address, Option<usize>>>,
    /// By the address of shared keys: at which of them each name is.
    shared: RefCell<HashMap<Address, [Option<u64>; N]>>,
    slots: RefCell<HashMap<*const Type, Slots>>,
}

/// The slots of a class that are wanted, each with the index of its name.
struct Slots {
    /// While it is kept, no other type is at its place.
    _its_type: Rc<Type>,
    list: Rc<[(usize, Slot)]>,
}

impl<const N: usize> Wanted<N> {
    pub(crate) fn new(names: [&'static str; N]) -> Wanted<N> {
        Wanted { names, strings: RefCell::default(), shared: RefCell::default(), slots: RefCell::default() }
    }
}

impl<const N: usize> Wanted<N> {
    fn is_complete(found: &[Option<impl Sized>; N]) -> bool {
        found.iter().all(Option::is_some)
    }
}

impl Values<'_> {
    /// The values of the wanted attributes of an instance: what [`Values::attributes`] has under these names.
    pub(crate) fn wanted<const N: usize>(
        &self,
        object: &Object,
        wanted: &Wanted<N>,
    ) -> Result<[Option<Address>; N], Lack> {
        let mut found = [None; N];
        // A slot comes before what is elsewhere.
        for (index, slot) in self.wanted_slots(&object.its_type, wanted).iter() {
            let Some(place) = slot.place_in(object) else { continue };
            let value = Some(self.reader.word(place)?).filter(|value| *value != 0);
            put(&mut found, *index, value.map(Address));
        }
        match self.storage_of(object)? {
            Storage::None => {}
            Storage::Values { keys, values } => self.add_wanted_values(keys, values, wanted, &mut found)?,
            Storage::Dict(dict) => match self.table_of(&self.object(dict)?)? {
                (Table::Split { keys, values }, _) => self.add_wanted_values(keys, values, wanted, &mut found)?,
                (Table::Own(keys), used) => self.each_pair(&keys, used, ITEMS, |key, value| {
                    if let Some(index) = self.which(key, wanted) {
                        put(&mut found, index, Some(value));
                    }
                    !Wanted::is_complete(&found)
                })?,
            },
        }
        Ok(found)
    }

    /// The slots of a class that are wanted. Of two of a name the one of the derived class counts.
    fn wanted_slots<const N: usize>(&self, its_type: &Rc<Type>, wanted: &Wanted<N>) -> Rc<[(usize, Slot)]> {
        let place = Rc::as_ptr(its_type);
        if let Some(known) = wanted.slots.borrow().get(&place) {
            return Rc::clone(&known.list);
        }
        let named = |slot: Slot| Some((wanted.names.iter().position(|name| *name == slot.name)?, slot));
        let list: Rc<[(usize, Slot)]> = self.slots_of(its_type).into_iter().rev().filter_map(named).collect();
        let mut known = wanted.slots.borrow_mut();
        if known.len() < KEPT {
            known.insert(place, Slots { _its_type: Rc::clone(its_type), list: Rc::clone(&list) });
        }
        list
    }

    /// Adds what values whose names are shared have.
    fn add_wanted_values<const N: usize>(
        &self,
        keys: Address,
        values: Address,
        wanted: &Wanted<N>,
        found: &mut [Option<Address>; N],
    ) -> Result<(), Lack> {
        let places = self.wanted_places(keys, wanted)?;
        let range = places.iter().flatten().min().zip(places.iter().flatten().max());
        let Some((lowest, highest)) = range else { return Ok(()) };
        if self.layout.semantics.split_order == SplitOrder::AfterValues {
            let head = self.reader.bytes(values, 8)?;
            let capacity = self.objects.values_capacity.u8(&head).ok_or(Lack::Invalid)?;
            if *highest >= capacity.into() {
                return Err(Lack::Invalid);
            }
        }
        let first = self.objects.values_first.of(values).unwrap_or(values);
        let first = first.checked_add(lowest * 8).ok_or(Lack::Invalid)?;
        let words = self.reader.words(first, highest - lowest + 1)?;
        for (index, place) in places.iter().enumerate() {
            let word = place.and_then(|place| words.get(usize::try_from(place - lowest).ok()?));
            // Values that are not there, or were deleted, are null.
            put(found, index, word.filter(|word| **word != 0).map(|word| Address(*word)));
        }
        Ok(())
    }

    /// At which of the shared keys the names are. Of keys that are the same, which only damaged ones are, the first counts.
    fn wanted_places<const N: usize>(&self, keys: Address, wanted: &Wanted<N>) -> Result<[Option<u64>; N], Lack> {
        if let Some(known) = wanted.shared.borrow().get(&keys) {
            return Ok(*known);
        }
        let table = self.keys(keys)?;
        let mut places = [None; N];
        for (place, (key, _)) in (0..).zip(self.entries(&table, 0, table.count.min(SHARED))?) {
            if let Some(index) = self.which(key, wanted) {
                put(&mut places, index, Some(place));
            }
            if Wanted::is_complete(&places) {
                break;
            }
        }
        let mut known = wanted.shared.borrow_mut();
        if known.len() < KEPT {
            known.insert(keys, places);
        }
        Ok(places)
    }

    /// Which of the names a string is.
    fn which<const N: usize>(&self, key: Address, wanted: &Wanted<N>) -> Option<usize> {
        if let Some(known) = wanted.strings.borrow().get(&key) {
            return *known;
        }
        let which = wanted.names.iter().position(|name| self.is_text(key, name));
        let mut known = wanted.strings.borrow_mut();
        if known.len() < KEPT {
            known.insert(key, which);
        }
        which
    }
}

/// Puts in what is found where nothing has been.
fn put<T: Copy, const N: usize>(found: &mut [Option<T>; N], index: usize, value: Option<T>) {
    if let Some(place) = found.get_mut(index) {
        *place = place.or(value);
    }
}

#[cfg(test)]
mod tests;
