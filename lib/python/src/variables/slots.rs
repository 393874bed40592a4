//! Which variables a function has, and where in its frames they are.

use crate::layout::{Field, Layout, Objects, Offsets};
use crate::object;
use crate::text;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::VariableKind;
use pyst_snapshot::{Address, Text};

/// How many variables of a function are shown.
const SHOWN: u64 = 256;

/// How many a function may have.
const MOST: u64 = 64 << 10;

/// The largest header of a code object or frame.
const HEADER: u64 = 4096;

// `co_flags`.
const OPTIMIZED: u32 = 0x1;
const VARARGS: u32 = 0x4;
const VARKEYWORDS: u32 = 0x8;

// `co_localspluskinds`.
const CELL: u8 = 0x40;
const FREE: u8 = 0x80;

/// The variables of a function.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// In the order in which they are shown.
    pub(super) list: Vec<Slot>,
    /// How many there are more.
    pub(super) more: u32,
    /// How many words of a frame they are in.
    pub(super) words: u64,
    /// Whether the code has no variables of its own, but names in a namespace.
    pub(super) is_namespace: bool,
}

/// A variable of a function.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: Text,
    pub(super) kind: VariableKind,
    /// The word that it is in.
    pub(super) index: usize,
    /// Whether a cell holds its value.
    pub(super) is_cell: bool,
}

/// What a code object says of its variables.
struct Header<'a> {
    offsets: &'a Offsets,
    objects: &'a Objects,
    bytes: Vec<u8>,
    memory: &'a dyn Memory,
    layout: &'a Layout,
}

/// The variables of a code object.
pub(super) fn of_code(layout: &Layout, code: Address, memory: &dyn Memory) -> Option<Slots> {
    let (offsets, objects) = (&layout.offsets, layout.objects.as_ref()?);
    let size = offsets.code_instructions.get().or(offsets.code_size.get())?;
    let bytes = memory.read_bytes(code, size, HEADER).ok()?;
    let header = Header { offsets, objects, bytes, memory, layout };
    let flags = offsets.code_flags.u32(&header.bytes)?;
    if flags & OPTIMIZED == 0 {
        return Some(Slots { is_namespace: true, ..Slots::default() });
    }
    let arguments = header.arguments(flags)?;
    if offsets.code_local_kinds.get().is_some() {
        header.of_one_list(&arguments)
    } else {
        header.of_three_lists(&arguments)
    }
}

impl Header<'_> {
    /// The indices of the arguments, in the order of the signature: `*args` stands before what is keyword-only, and lies
    /// behind it.
    fn arguments(&self, flags: u32) -> Option<Vec<usize>> {
        let count = |field: Field| field.i32(&self.bytes).and_then(|count| usize::try_from(count).ok());
        let positional = count(self.objects.code_arguments)?;
        let keyword = count(self.objects.code_keyword_arguments).unwrap_or(0);
        if positional.checked_add(keyword)? as u64 > MOST {
            return None;
        }
        let named = positional + keyword;
        let varargs = (flags & VARARGS != 0).then_some(named);
        let varkeywords = (flags & VARKEYWORDS != 0).then_some(named + usize::from(varargs.is_some()));
        Some((0..positional).chain(varargs).chain(positional..named).chain(varkeywords).collect())
    }

    /// From 3.11 on there is one list of names, with a kind for each.
    fn of_one_list(&self, arguments: &[usize]) -> Option<Slots> {
        let names = self.names(self.offsets.code_local_names)?;
        let count = self.offsets.code_locals.i32(&self.bytes).and_then(|count| u64::try_from(count).ok());
        let count = count.filter(|count| *count <= MOST)?;
        let kinds = self.offsets.code_local_kinds.address(&self.bytes)?;
        let (data, length) = object::bytes(self.offsets, kinds, self.memory).ok()??;
        if length < count {
            return None;
        }
        let kinds = self.memory.read_bytes(data, count.min(SHOWN), SHOWN).ok()?;
        let slot = |index: usize, argument: bool| -> Option<Slot> {
            let kind = *kinds.get(index)?;
            let name = names.get(index)?.clone();
            let shown = match kind {
                _ if argument => VariableKind::ARGUMENT,
                free if free & FREE != 0 => VariableKind::FREE,
                cell if cell & CELL != 0 => VariableKind::CELL,
                _ => VariableKind::LOCAL,
            };
            Some(Slot { name, kind: shown, index, is_cell: kind & (CELL | FREE) != 0 })
        };
        let of_arguments = arguments.iter().filter_map(|index| slot(*index, true));
        let others = (0..kinds.len()).filter(|index| !arguments.contains(index)).filter_map(|index| slot(index, false));
        let mut list: Vec<Slot> = of_arguments.chain(others).collect();
        let arguments = list.iter().filter(|slot| slot.kind == VariableKind::ARGUMENT).count();
        // Cells come after locals, whatever the order of their first use.
        list.get_mut(arguments..).unwrap_or_default().sort_by_key(|slot| slot.kind.0);
        Some(Slots { list, more: more(count), words: count.min(SHOWN), is_namespace: false })
    }

    /// Up to 3.10 there are names of locals, of cells and of free variables, in that order in the frame. An argument that
    /// an inner function uses has moved into its cell.
    fn of_three_lists(&self, arguments: &[usize]) -> Option<Slots> {
        let locals = self.names(self.objects.code_local_variables)?;
        let cells = self.names(self.objects.code_cell_variables)?;
        let free = self.names(self.objects.code_free_variables)?;
        let fast = self.objects.code_fast_locals.i32(&self.bytes).and_then(|count| usize::try_from(count).ok())?;
        if fast as u64 > MOST || (locals.len() as u64) < (fast as u64).min(SHOWN) {
            return None;
        }
        let plain = |index: usize, kind| {
            let name = locals.get(index)?.clone();
            Some(Slot { name, kind, index, is_cell: false })
        };
        let mut list: Vec<Slot> = Vec::new();
        for index in arguments {
            let slot = plain(*index, VariableKind::ARGUMENT)?;
            let cell = cells.iter().position(|cell| *cell == slot.name);
            list.push(match cell {
                Some(cell) => Slot { index: fast + cell, is_cell: true, ..slot },
                None => slot,
            });
        }
        let others = (0..fast.min(locals.len())).filter(|index| !arguments.contains(index));
        list.extend(others.filter_map(|index| plain(index, VariableKind::LOCAL)));
        let in_cell = |name: &Text, index, kind| Slot { name: name.clone(), kind, index, is_cell: true };
        for (index, name) in cells.iter().enumerate() {
            if !list.iter().any(|slot| slot.is_cell && slot.name == *name) {
                list.push(in_cell(name, fast + index, VariableKind::CELL));
            }
        }
        for (index, name) in free.iter().enumerate() {
            list.push(in_cell(name, fast + cells.len() + index, VariableKind::FREE));
        }
        let count = (fast + cells.len() + free.len()) as u64;
        list.retain(|slot| (slot.index as u64) < SHOWN);
        Some(Slots { list, more: more(count), words: count.min(SHOWN), is_namespace: false })
    }

    /// The strings of a tuple that the code object has.
    fn names(&self, field: Field) -> Option<Vec<Text>> {
        let tuple = field.address(&self.bytes)?;
        let count = self.memory.read_u64(self.objects.object_items.of(tuple)?).ok()?.min(SHOWN);
        let items = self.memory.read_bytes(self.objects.tuple_items.of(tuple)?, count * 8, SHOWN * 8).ok()?;
        let items = items.as_chunks().0.iter().map(|item| Address(u64::from_le_bytes(*item)));
        items.map(|item| text::read(self.layout, item, self.memory).ok()).collect()
    }
}

fn more(count: u64) -> u32 {
    u32::try_from(count.saturating_sub(SHOWN)).unwrap_or(u32::MAX)
}

/// The first words of the variables of the frame at `address`.
pub(super) fn words(layout: &Layout, address: Address, count: u64, memory: &dyn Memory) -> Option<Vec<u64>> {
    let place = layout.offsets.frame_locals.of(address)?;
    let bytes = memory.read_bytes(place, count * 8, SHOWN * 8).ok()?;
    Some(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// The namespace of the frame at `address`, if it has one that is not its module's; `None` where that cannot be read.
pub(super) fn namespace(layout: &Layout, address: Address, memory: &dyn Memory) -> Option<Option<Address>> {
    let objects = layout.objects.as_ref()?;
    let [names, globals] =
        [objects.frame_namespace, objects.frame_globals].map(|field| memory.read_address(field.of(address)?).ok());
    let tags = layout.semantics.reference_tags;
    let names = Address(names?.0 & !tags);
    let globals = globals?.0 & !tags;
    Some((!names.is_null() && names.0 != globals).then_some(names))
}
