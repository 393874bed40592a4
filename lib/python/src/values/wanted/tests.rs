use super::*;
use crate::fake::{Fake, tables};
use crate::layout::{self, Attributes, Field, Names, Objects};
use pyst_memory::{MemoryExt, Recorder};

const TEXT: u64 = 1 << 28;
const BYTES: u64 = 1 << 27;
const DICT: u64 = 1 << 29;
const TYPE: u64 = 1 << 31;
const HEAP: u64 = 1 << 9;
const MANAGED_DICT: u64 = 1 << 4;
const INLINE_VALUES: u64 = 1 << 2;

/// How many values an instance may have, and how many slots its keys have.
const CAPACITY: u64 = 10;
const SLOTS: u64 = 16;

/// Types, and a class whose instances have attributes.
struct Made {
    fake: Fake,
    objects: Objects,
    root: Address,
    text: Address,
    dict: Address,
    class: Address,
}

impl Made {
    fn new(table: &'static layout::Table) -> Made {
        let objects = table.layout(table.patches[0]).objects.unwrap();
        let [root, text, dict, class] = [Address(0); 4];
        let mut made = Made { fake: Fake::new(table), objects, root, text, dict, class };
        made.root = made.new_type("type", TYPE, 0);
        made.fake.put(made.root, table.offsets.object_type, made.root.0);
        made.text = match table.semantics.names {
            Names::Bytes => made.new_type("str", BYTES, table.offsets.bytes_data.get().unwrap()),
            Names::Text => made.new_type("str", TEXT, table.offsets.text_ascii_data.get().unwrap()),
        };
        made.dict = made.new_type("dict", DICT, 64);
        made.class = made.new_type("Class", HEAP | MANAGED_DICT | INLINE_VALUES, 48);
        // Where versions have the pointer inside of the object, behind what it has from its bases.
        let dict_offset = if made.attributes() == Attributes::Dict { 32 } else { 0 };
        made.fake.put(made.class, objects.type_dict_offset, dict_offset);
        made
    }

    fn attributes(&self) -> Attributes {
        self.fake.table.semantics.attributes
    }

    fn has_shared_keys(&self) -> bool {
        self.objects.dict_table.get().is_none()
    }

    fn new_type(&mut self, name: &str, flags: u64, size: u64) -> Address {
        let objects = self.objects;
        let whole = objects.type_size.get().unwrap().max(objects.type_heap_size.get().unwrap_or(0));
        let made = self.fake.allocate(whole);
        let text = self.fake.allocate(64);
        self.fake.put_bytes(text, Field(0), name.as_bytes());
        self.fake.put(made, self.fake.table.offsets.type_name, text.0);
        self.fake.put(made, self.fake.table.offsets.object_type, self.root.0);
        self.fake.put(made, objects.type_flags, flags);
        self.fake.put(made, objects.type_basic_size, size);
        made
    }

    fn string(&mut self, text: &str) -> Address {
        let made = self.fake.text(text);
        self.fake.put(made, self.fake.table.offsets.object_type, self.text.0);
        made
    }

    /// Keys with these entries; where `shared`, of the kind that instances share.
    fn keys(&mut self, entries: &[(Address, u64)], shared: bool) -> Address {
        let objects = self.objects;
        let indices = objects.keys_indices.get().unwrap();
        let keys = self.fake.allocate(indices + SLOTS + 24 * SLOTS);
        self.fake.put(keys, objects.keys_size, SLOTS);
        self.fake.put(keys, objects.keys_entries, entries.len() as u64);
        let has_hashes = objects.keys_kind.get().is_none();
        if !has_hashes {
            self.fake.put_bytes(keys, objects.keys_log2_size, &[4]);
            self.fake.put_bytes(keys, objects.keys_log2_index_bytes, &[4]);
            self.fake.put_bytes(keys, objects.keys_kind, &[if shared { 2 } else { 1 }]);
        }
        let (size, key_at) = if has_hashes { (24, 8) } else { (16, 0) };
        for (index, (key, value)) in (0..).zip(entries) {
            let place = Address(keys.0 + indices + SLOTS + index * size + key_at);
            self.fake.put(place, Field(0), key.0);
            self.fake.put(place, Field(8), *value);
        }
        keys
    }

    /// A dict that has its keys for itself.
    fn combined(&mut self, entries: &[(Address, u64)]) -> Address {
        let dict = self.fake.allocate(64);
        self.fake.put(dict, self.fake.table.offsets.object_type, self.dict.0);
        let used = entries.iter().filter(|(_, value)| *value != 0).count() as u64;
        self.fake.put(dict, self.objects.dict_used, used);
        if self.has_shared_keys() {
            let keys = self.keys(entries, false);
            self.fake.put(dict, self.objects.dict_keys, keys.0);
        } else {
            let table = self.fake.allocate(24 * SLOTS);
            for (index, (key, value)) in (0..).zip(entries) {
                self.fake.put(Address(table.0 + 24 * index), Field(8), key.0);
                self.fake.put(Address(table.0 + 24 * index), Field(16), *value);
            }
            self.fake.put(dict, self.objects.dict_mask, SLOTS - 1);
            self.fake.put(dict, self.objects.dict_table, table.0);
        }
        dict
    }

    /// Writes values for shared keys at `place`, in the order of the keys.
    fn put_values(&mut self, place: Address, values: &[u64]) {
        let objects = self.objects;
        let first = objects.values_first.of(place).unwrap_or(place);
        let order: Vec<u8> = (0..).zip(values).filter(|(_, value)| **value != 0).map(|(index, _)| index).collect();
        for (index, value) in (0..).zip(values) {
            self.fake.put(Address(first.0 + 8 * index), Field(0), *value);
        }
        match self.fake.table.semantics.split_order {
            SplitOrder::Keys => {}
            SplitOrder::BeforeValues => {
                let size = u8::try_from(order.len()).unwrap();
                let backwards: Vec<u8> = order.into_iter().rev().chain([size, 0]).collect();
                self.fake.put_bytes(Address(place.0 - backwards.len() as u64), Field(0), &backwards);
            }
            SplitOrder::AfterValues => {
                self.fake.put_bytes(place, objects.values_capacity, &[u8::try_from(CAPACITY).unwrap()]);
                self.fake.put_bytes(place, objects.values_size, &[u8::try_from(order.len()).unwrap()]);
                self.fake.put_bytes(place, objects.values_valid, &[1]);
                self.fake.put_bytes(Address(first.0 + 8 * CAPACITY), Field(0), &order);
            }
        }
    }

    /// An instance, and where the pointers before it end.
    fn instance(&mut self) -> Address {
        let instance = Address(self.fake.allocate(512).0 + 64);
        self.fake.put(instance, self.fake.table.offsets.object_type, self.class.0);
        instance
    }

    /// An instance whose attributes are in a dict.
    fn with_dict(&mut self, dict: Address) -> Address {
        let instance = self.instance();
        let free_threaded = self.fake.table.free_threaded;
        let place = match self.attributes() {
            Attributes::Dict => instance.0 + 32,
            Attributes::Inline if free_threaded => instance.0 - 8,
            _ => instance.0 - 24,
        };
        self.fake.put(Address(place), Field(0), dict.0);
        instance
    }

    /// An instance whose attributes have their names in keys that the class has.
    fn with_values(&mut self, keys: Address, values: &[u64]) -> Address {
        self.fake.put(self.class, self.objects.type_cached_keys, keys.0);
        let apart = Address(self.fake.allocate(256).0 + 64);
        match self.attributes() {
            Attributes::Dict => {
                let dict = self.fake.allocate(64);
                self.fake.put(dict, self.fake.table.offsets.object_type, self.dict.0);
                self.fake.put(dict, self.objects.dict_used, values.iter().filter(|value| **value != 0).count() as u64);
                self.fake.put(dict, self.objects.dict_keys, keys.0);
                self.fake.put(dict, self.objects.dict_values, apart.0);
                self.put_values(apart, values);
                self.with_dict(dict)
            }
            Attributes::ValuesOrDict => {
                let instance = self.instance();
                self.put_values(apart, values);
                self.fake.put(Address(instance.0 - 32), Field(0), apart.0);
                instance
            }
            Attributes::Tagged => {
                let instance = self.instance();
                self.put_values(apart, values);
                self.fake.put(Address(instance.0 - 24), Field(0), apart.0 - 1);
                instance
            }
            Attributes::Inline => {
                let instance = self.instance();
                self.put_values(Address(instance.0 + 48), values);
                instance
            }
        }
    }

    /// The values of `name` and `daemon`, each time by what is known of earlier ones.
    fn wanted(&self, instances: &[Address]) -> Vec<Result<[Option<u64>; 2], Lack>> {
        let (layout, image) = (self.fake.table.layout(self.fake.table.patches[0]), self.fake.image());
        let values = Values::new(&layout, &image, 1 << 20).unwrap();
        values.start_without_part();
        let wanted = Wanted::new(["_name", "_daemonic"]);
        let of_one = |instance: &Address| {
            let found = values.wanted(&values.object(*instance)?, &wanted)?;
            Ok(found.map(|value| value.map(|value| value.0)))
        };
        instances.iter().map(of_one).collect()
    }

    /// The same by all attributes.
    fn among_all(&self, instance: Address) -> Result<[Option<u64>; 2], Lack> {
        let (layout, image) = (self.fake.table.layout(self.fake.table.patches[0]), self.fake.image());
        let values = Values::new(&layout, &image, 1 << 20).unwrap();
        let found = values.attributes(&values.object(instance)?)?;
        Ok(["_name", "_daemonic"].map(|name| found.get(name).map(|value| value.0)))
    }
}

fn each(mut test: impl FnMut(Made)) {
    let mut count = 0;
    for table in tables().into_iter().filter(|table| table.layout(table.patches[0]).objects.is_some()) {
        test(Made::new(table));
        count += 1;
    }
    assert!(count > 5, "{count}");
}

#[test]
fn a_dict_gives_what_is_wanted_wherever_it_stands() {
    each(|mut made| {
        let [other, name, daemon] = ["_target", "_name", "_daemonic"].map(|text| made.string(text));
        let first = made.combined(&[(other, 0x100), (name, 0x200), (daemon, 0x300)]);
        // Another string of the same text, one that was deleted, and none of the second attribute.
        let same = made.string("_name");
        let second = made.combined(&[(daemon, 0), (other, 0x110), (same, 0x210)]);
        let instances = [first, second, Address(0)].map(|dict| made.with_dict(dict));
        let expected = [Ok([Some(0x200), Some(0x300)]), Ok([Some(0x210), None]), Ok([None, None])];
        let name = made.fake.table.name;
        // In 3.13 and later an object without a dict has its values inside; here they are not valid.
        assert_eq!(made.wanted(&instances), expected, "{name}");
        assert_eq!(instances.map(|instance| made.among_all(instance)), expected, "{name}");
    });
}

#[test]
fn values_apart_from_their_keys_are_read_at_the_places_of_the_names() {
    each(|mut made| {
        if !made.has_shared_keys() {
            return;
        }
        let keys = ["_target", "_name", "_args", "_daemonic", "_ident"].map(|text| (made.string(text), 0));
        let keys = made.keys(&keys, true);
        let all = [
            vec![0x100, 0x200, 0x300, 0x400, 0x500],
            // Deleted, and not there yet.
            vec![0x110, 0, 0x310, 0x410, 0],
            vec![0x120, 0x220],
        ];
        let instances: Vec<Address> = all.iter().map(|values| made.with_values(keys, values)).collect();
        let expected = [Ok([Some(0x200), Some(0x400)]), Ok([None, Some(0x410)]), Ok([Some(0x220), None])];
        let name = made.fake.table.name;
        assert_eq!(made.wanted(&instances), expected, "{name}");
        let among_all: Vec<_> = instances.iter().map(|instance| made.among_all(*instance)).collect();
        assert_eq!(among_all, expected, "{name}");
    });
}

#[test]
fn of_a_name_that_is_there_twice_the_first_counts() {
    each(|mut made| {
        let [name, same, daemon] = ["_name", "_name", "_daemonic"].map(|text| made.string(text));
        let dict = made.combined(&[(name, 0x100), (same, 0x200), (daemon, 0x300)]);
        let mut instances = vec![made.with_dict(dict)];
        if made.has_shared_keys() {
            let keys = made.keys(&[(name, 0), (same, 0), (daemon, 0)], true);
            instances.push(made.with_values(keys, &[0x100, 0x200, 0x300]));
        }
        for found in made.wanted(&instances) {
            assert_eq!(found, Ok([Some(0x100), Some(0x300)]), "{}", made.fake.table.name);
        }
    });
}

#[test]
fn damaged_keys_name_nothing() {
    each(|mut made| {
        if !made.has_shared_keys() {
            return;
        }
        let [name, daemon] = ["_name", "_daemonic"].map(|text| (made.string(text), 0));
        // A key that is no string, and one that is nowhere.
        let class = made.class;
        let keys = made.keys(&[(class, 0), (Address(0x10), 0), name, (Address(0xdead_0000), 0), daemon], true);
        let instance = made.with_values(keys, &[1, 2, 0x100, 3, 0x200]);
        assert_eq!(made.wanted(&[instance]), [Ok([Some(0x100), Some(0x200)])], "{}", made.fake.table.name);
        // More entries than places for them.
        made.fake.put(keys, made.objects.keys_entries, SLOTS + 1);
        assert_eq!(made.wanted(&[instance, instance]), [Err(Lack::Invalid); 2], "{}", made.fake.table.name);
        // Keys that cannot be read.
        made.fake.parts.remove(&keys.0);
        assert!(matches!(made.wanted(&[instance])[..], [Err(Lack::Read(_))]), "{}", made.fake.table.name);
    });
}

#[test]
fn values_end_where_they_say() {
    each(|mut made| {
        if made.fake.table.semantics.split_order != SplitOrder::AfterValues {
            return;
        }
        let keys = ["_name", "_a", "_b", "_daemonic"].map(|text| (made.string(text), 0));
        let keys = made.keys(&keys, true);
        let instance = made.with_values(keys, &[0x100, 0x200, 0x300, 0x400]);
        made.fake.put_bytes(Address(instance.0 + 48), made.objects.values_capacity, &[3]);
        assert_eq!(made.wanted(&[instance]), [Err(Lack::Invalid)], "{}", made.fake.table.name);
    });
}

#[test]
fn what_was_recorded_suffices_to_find_it_again() {
    each(|mut made| {
        let [other, name, daemon] = ["_target", "_name", "_daemonic"].map(|text| made.string(text));
        let dict = made.combined(&[(other, 0x100), (name, 0x200), (daemon, 0x300)]);
        let mut instances = vec![made.with_dict(dict)];
        if made.has_shared_keys() {
            let keys = made.keys(&[(other, 0), (name, 0), (daemon, 0)], true);
            instances.push(made.with_values(keys, &[0x110, 0x210, 0x310]));
            instances.push(made.with_values(keys, &[0x120, 0x220, 0x320]));
        }
        let (layout, image) = (made.fake.table.layout(made.fake.table.patches[0]), made.fake.image());
        let find = |memory: &dyn pyst_memory::Memory| -> Vec<[Option<Address>; 2]> {
            let values = Values::new(&layout, memory, 1 << 20).unwrap();
            let wanted = Wanted::new(["_name", "_daemonic"]);
            instances.iter().map(|it| values.wanted(&values.object(*it).unwrap(), &wanted).unwrap()).collect()
        };
        let recorder = Recorder::new(&image);
        let found = find(&recorder);
        assert!(found.iter().flatten().all(Option::is_some));
        let recorded = recorder.into_image();
        assert_eq!(find(&recorded), found, "{}", made.fake.table.name);
    });
}

#[test]
fn of_a_dict_that_breaks_off_the_first_items_are_at_hand() {
    each(|mut made| {
        let key = made.string("key");
        let dict = made.combined(&[(key, 0x100); SLOTS as usize]);
        let end = match made.has_shared_keys() {
            true => made.fake.image().read_u64(made.objects.dict_keys.of(dict).unwrap()).unwrap(),
            false => made.fake.image().read_u64(made.objects.dict_table.of(dict).unwrap()).unwrap(),
        };
        // It says that it has hundreds, of which the first 64 are there to be read.
        let many = 1 << 9;
        made.fake.put(dict, made.objects.dict_used, many);
        made.fake.put(dict, made.objects.dict_mask, many - 1);
        made.fake.put(Address(end), made.objects.keys_size, many);
        made.fake.put(Address(end), made.objects.keys_entries, many);
        if made.objects.keys_kind.get().is_some() {
            made.fake.put_bytes(Address(end), made.objects.keys_log2_size, &[9]);
        }
        let bytes = made.fake.parts.get_mut(&end).unwrap();
        bytes.resize(8192, 0x88);
        bytes[64..].fill(0x88);
        let (layout, image) = (made.fake.table.layout(made.fake.table.patches[0]), made.fake.image());
        let values = Values::new(&layout, &image, 1 << 20).unwrap();
        let dict = values.object(dict).unwrap();
        assert!(values.items_of(&dict, 1000).is_err(), "{}", made.fake.table.name);
        let at_hand = values.items_at_hand(&dict, 1000).len();
        assert!((64..1 << 9).contains(&at_hand), "{at_hand} {}", made.fake.table.name);
    });
}
