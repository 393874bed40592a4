//! What a runtime says before anything is walked: its phase, its interpreters, and where they keep their threads.

use super::INTERPRETERS;
use crate::chain::Cycles;
use crate::layout::{self, Field, Layout};
use crate::naming;
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{ActiveThreads, FoundRuntime, RuntimePhase};

/// The largest thread state. CPython's have some hundred bytes.
const STATE_SIZE: u64 = 64 << 10;

/// What is read of the runtime's structure: its phase, its list of interpreters, and in older versions the GIL.
const RUNTIME_HEAD: u64 = 1024;

/// Where the interpreters of a runtime keep their threads.
pub(crate) fn active_threads(found: &FoundRuntime, memory: &dyn Memory) -> Vec<ActiveThreads> {
    let Some(layout) = layout::of_runtime(found, memory) else { return Vec::new() };
    let offsets = &layout.offsets;
    let word = |field: Field, base| field.of(base).and_then(|place| memory.read_address(place).ok());
    let mut interpreters = Vec::new();
    let mut cycles = Cycles::default();
    let mut next = word(offsets.runtime_interpreters_head, found.address).unwrap_or_default();
    while !next.is_null() && interpreters.len() < INTERPRETERS && !cycles.found_at(next) {
        interpreters.push(next);
        next = word(offsets.interpreter_next, next).unwrap_or_default();
    }
    naming::active_threads(&layout, &interpreters, memory)
}

/// What a first look at a runtime shows.
pub(crate) struct Look {
    pub(crate) phase: RuntimePhase,
    /// The newest interpreter; null while there is none.
    pub(crate) first: Address,
    /// The main interpreter; null while there is none, absent where nothing tells which it is.
    pub(crate) main: Option<Address>,
    /// Fields that are 0 or 1 in a runtime.
    pub(crate) flags: Vec<u32>,
}

/// Looks at the runtime at `address`.
pub(crate) fn look(layout: &Layout, address: Address, memory: &dyn Memory) -> Result<Look, ReadError> {
    let offsets = &layout.offsets;
    let head = runtime_head(layout, address, memory)?;
    let flags = [offsets.runtime_core_initialized, offsets.runtime_initialized];
    Ok(Look {
        phase: phase_of(layout, &head),
        first: offsets.runtime_interpreters_head.address(&head).unwrap_or_default(),
        main: offsets.runtime_interpreters_main.address(&head),
        flags: flags.iter().filter_map(|flag| flag.u32(&head)).collect(),
    })
}

pub(crate) fn runtime_head(layout: &Layout, address: Address, memory: &dyn Memory) -> Result<Vec<u8>, ReadError> {
    let length = layout.offsets.runtime_size.get().unwrap_or(RUNTIME_HEAD).min(RUNTIME_HEAD);
    memory.read_bytes(address, length, RUNTIME_HEAD)
}

/// What is read of a thread state at most, as long as the walk needs no more: all of it up to 3.13 (3.11 has the largest, with 360
/// bytes). With 3.14 the buffers of a remote debugger's script begin there, 516 bytes (in 3.15 from 344 on), and in free-threaded
/// builds the allocator's, some 17 KiB: a third of a snapshot of many threads, and of what would be read in their stop.
const WITHOUT_BUFFERS: u64 = 360;

/// A thread state without its buffers; if that can't be had, as much of it as the walk needs.
pub(crate) fn read_state(
    layout: &Layout,
    address: Address,
    memory: &dyn Memory,
    bytes: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let offsets = &layout.offsets;
    let whole = offsets.thread_size.get().unwrap_or(0).min(WITHOUT_BUFFERS);
    let fields = [
        offsets.thread_next,
        offsets.thread_interpreter,
        offsets.thread_ident,
        offsets.thread_native_id,
        offsets.thread_frame,
        offsets.thread_cframe,
        offsets.thread_current_frame,
        offsets.thread_base_frame,
        offsets.thread_executor,
        offsets.thread_chunk,
        offsets.thread_chunk_top,
        offsets.thread_attachment,
        offsets.thread_holds_gil,
        offsets.thread_gil_requested,
        offsets.thread_exception,
    ];
    let needed = fields.iter().filter_map(|field| field.get()?.checked_add(8)).max().unwrap_or(0).min(STATE_SIZE);
    let mut read = |length: u64| {
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        memory.read(address, bytes)
    };
    read(whole.max(needed)).or_else(|_| read(needed))
}

/// `sys.is_finalizing()` tells the last phase.
pub(super) fn phase_of(layout: &Layout, head: &[u8]) -> RuntimePhase {
    let offsets = &layout.offsets;
    let unset = |field: Field| field.u32(head) == Some(0);
    // 3.6 and older keep no such things together with the list of interpreters.
    let has_no_flags = offsets.runtime_initialized.get().is_none();
    let is_empty = || offsets.runtime_interpreters_head.address(head).is_none_or(Address::is_null);
    if offsets.runtime_finalizing.address(head).is_some_and(|thread| !thread.is_null()) {
        RuntimePhase::FINALIZING
    } else if unset(offsets.runtime_core_initialized)
        || unset(offsets.runtime_initialized)
        || (has_no_flags && is_empty())
    {
        RuntimePhase::STARTING
    } else {
        RuntimePhase::RUNNING
    }
}
