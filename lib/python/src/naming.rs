//! Python's own names of threads: `threading.Thread.name`, and whether they are daemons.
//!
//! `threading._active` is a dict from idents to `Thread` objects. Where it is stays the same for as long as its interpreter
//! lives, and to find it takes many reads, so it is looked for once, while the target runs; the walk then reads only the
//! objects of the threads there are.

use crate::layout::Layout;
use crate::text;
use crate::values::{Object, Values, Wanted};
use pyst_memory::Memory;
use pyst_snapshot::payload::ActiveThreads;
use pyst_snapshot::{Address, Ident, Text};
use std::cell::RefCell;
use std::collections::HashMap;

/// How much is read to find one of these dicts: some thousand modules.
const SEARCH: u64 = 1 << 20;

/// How many interpreters are asked.
const INTERPRETERS: usize = 64;

/// How many entries of a dict are looked at.
const ENTRIES: usize = 20_000;

/// How much is read of all `Thread` objects for each thread.
const OF_A_THREAD: u64 = 16 << 10;

/// How much is read besides of the dict and of its keys: it has an entry for each thread that has ended since it last grew, too.
const OF_THE_DICT: u64 = 1 << 20;

/// Of how many entries the objects are expected at once.
const EXPECTED: usize = 64;

/// How many bytes the names may have in all.
const NAMES: usize = 4 << 20;

/// How a thread is called, and whether it is a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) name: Option<Text>,
    pub(crate) daemon: Option<bool>,
}

/// Where the interpreters keep their threads; those are left out that have not imported `threading`.
pub(crate) fn active_threads(layout: &Layout, interpreters: &[Address], memory: &dyn Memory) -> Vec<ActiveThreads> {
    let of_one = |interpreter: &Address| {
        let mut values = Values::new(layout, memory, SEARCH)?;
        values.ask(*interpreter);
        values.start_without_part();
        let modules = find(&values, values.sys_dict(*interpreter).ok()?, "modules")?;
        let threading = values.module_dict(&values.object(find(&values, modules, "threading")?).ok()?).ok()?;
        Some(ActiveThreads { interpreter: *interpreter, dict: find(&values, threading, "_active")? })
    };
    interpreters.iter().take(INTERPRETERS).filter_map(of_one).collect()
}

/// The value of a name in a dict.
fn find(values: &Values, dict: Address, name: &str) -> Option<Address> {
    let items = values.items_at_hand(&values.object(dict).ok()?, ENTRIES);
    let mut pairs = items.chunks(EXPECTED).flat_map(|some| {
        values.expect_heads(some.iter().map(|(key, _)| *key));
        some
    });
    pairs.find(|(key, _)| values.is_text(*key, name)).map(|(_, value)| *value)
}

/// The names of an interpreter's threads.
#[derive(Default)]
pub(crate) struct Names {
    /// Ascending.
    idents: Vec<Ident>,
    /// Of each of them.
    namings: Vec<Naming>,
}

impl Names {
    /// Takes out how the thread with an ident is called: two states may have the same.
    pub(crate) fn take(&mut self, ident: Ident) -> Naming {
        let index = self.idents.binary_search(&ident).ok();
        index.and_then(|index| self.namings.get_mut(index)).map(std::mem::take).unwrap_or_default()
    }
}

/// What the dict of active threads at `dict` says of the threads with these idents.
pub(crate) fn names(
    layout: &Layout,
    interpreter: Address,
    dict: Address,
    mut idents: Vec<Ident>,
    memory: &dyn Memory,
) -> Names {
    idents.sort_unstable();
    idents.dedup();
    let limit = OF_A_THREAD.saturating_mul(idents.len() as u64).saturating_add(OF_THE_DICT);
    let Some(mut values) = Values::new(layout, memory, limit) else { return Names::default() };
    values.ask(interpreter);
    values.start_without_part();
    let attributes = Attributes::of(layout);
    let dict = values.object(dict);
    // What lies beyond a part that cannot be had, or that a capture left out, costs its own threads their names.
    let pairs = dict.map(|dict| values.items_at_hand(&dict, ENTRIES)).unwrap_or_default();
    let expected = pairs.chunks(EXPECTED).flat_map(|some| {
        values.expect(some.iter().flat_map(|(key, thread)| [*key, *thread]));
        some.iter().copied()
    });
    let named = expected.filter_map(|(key, thread)| {
        let ident = Ident(values.small_int(&values.object(key).ok()?)? as u64);
        let index = idents.binary_search(&ident).ok()?;
        let thread = values.object(thread).ok()?;
        Some((index, attributes.naming(&values, &thread, layout, memory)))
    });
    let mut left = NAMES;
    let named = named.take_while(|(_, naming)| {
        let length = naming.name.as_ref().map_or(0, |name| name.0.len());
        left.checked_sub(length).map(|rest| left = rest).is_some()
    });
    let mut namings = vec![Naming::default(); idents.len()];
    for (index, naming) in named {
        if let Some(place) = namings.get_mut(index) {
            *place = naming;
        }
    }
    Names { idents, namings }
}

/// The attributes of a `Thread` that say how it is called.
struct Attributes {
    wanted: Wanted<2>,
    /// What the objects mean that tell daemons, most often `True` and `False`.
    flags: RefCell<HashMap<Address, Option<bool>>>,
}

impl Attributes {
    fn of(layout: &Layout) -> Attributes {
        // Before 3.0 their names begin with that of the class.
        let names = match layout.semantics.spelling.python_2 {
            true => ["_Thread__name", "_Thread__daemonic"],
            false => ["_name", "_daemonic"],
        };
        Attributes { wanted: Wanted::new(names), flags: RefCell::default() }
    }

    fn naming(&self, values: &Values, thread: &Object, layout: &Layout, memory: &dyn Memory) -> Naming {
        let Ok([name, daemon]) = values.wanted(thread, &self.wanted) else { return Naming::default() };
        Naming {
            name: name.and_then(|name| text::read(layout, name, memory).ok()),
            daemon: daemon
                .and_then(|daemon| *self.flags.borrow_mut().entry(daemon).or_insert_with(|| flag(values, daemon))),
        }
    }
}

fn flag(values: &Values, object: Address) -> Option<bool> {
    values.small_int(&values.object(object).ok()?).map(|flag| flag != 0)
}
