//! Who has the GIL of an interpreter, who waits for it, and whether its garbage is being collected.
//!
//! No symbol is needed: the holder stands in the GIL, and who waits sleeps on a futex inside it. What must hold: a state is
//! said to hold the GIL, or not to, only when the GIL was not just passing from one to another.

use crate::layout::Layout;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{Attachment, FoundRuntime, GilState, Thread};
use pyst_snapshot::{Address, Range};

/// No GIL is larger. CPython's have some 200 bytes.
const GIL: u64 = 4096;

/// The same, of a garbage collector's state: some hundred bytes, with what later versions keep there some thousand.
const GC: u64 = 16 << 10;

/// `futex(2)` on x86_64, and the DWARF number of the register with its first argument, rdi. On aarch64 the kernel does not
/// tell what the argument was before the call.
const FUTEX: u64 = 202;
const FIRST_ARGUMENT: u16 = 5;

/// Where a runtime is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runtime {
    pub(crate) address: Address,
    /// Where the variable is that says which thread state has the GIL, in versions that have one.
    pub(crate) current_state: Option<Address>,
}

impl From<&FoundRuntime> for Runtime {
    fn from(found: &FoundRuntime) -> Runtime {
        Runtime { address: found.address, current_state: found.current_state }
    }
}

/// What an interpreter says of its locks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    /// Absent where it is not known where the GIL is, as before 3.7.
    gil: Option<Gil>,
    /// The thread state that has the GIL, where a variable says so; null when none does.
    current: Option<Address>,
    /// Whether its garbage is being collected.
    pub(crate) collecting: Option<bool>,
    /// The frame that made the collection start (3.15).
    collector: Option<Address>,
    /// Whether all its threads but one were asked to stop, and did (builds without a GIL).
    pub(crate) world_stopped: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Gil {
    range: Range,
    /// The part of it that a thread sleeps in which gave the GIL away and waits for another to take it: `FORCE_SWITCHING`.
    switch: Range,
    /// Whether it is one: builds without a GIL have the structure, too.
    enabled: bool,
    locked: bool,
    /// Who took it last: it has it while it is locked.
    last_holder: Address,
    /// The thread that holds the mutex of the structure, and so may be writing to it, in its own pid namespace.
    writer: Option<u32>,
}

/// What a thread state says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnWord {
    attachment: Option<u32>,
    holds_gil: Option<bool>,
    gil_requested: Option<bool>,
}

impl OwnWord {
    /// Of a thread state's bytes.
    pub(crate) fn of_state(layout: &Layout, bytes: &[u8]) -> OwnWord {
        let offsets = &layout.offsets;
        let flag = |value: Option<u32>| value.filter(|value| *value <= 1).map(|value| value == 1);
        OwnWord {
            attachment: offsets.thread_attachment.u32(bytes),
            holds_gil: flag(offsets.thread_holds_gil.u32(bytes)),
            gil_requested: flag(offsets.thread_gil_requested.u32(bytes)),
        }
    }

    /// `_Py_THREAD_DETACHED`, `…_ATTACHED`, `…_SUSPENDED` of 3.13 and later.
    pub(crate) fn attachment(self) -> Option<Attachment> {
        [Attachment::DETACHED, Attachment::ATTACHED, Attachment::SUSPENDED, Attachment::SHUTTING_DOWN]
            .get(usize::try_from(self.attachment?).ok()?)
            .copied()
    }
}

impl Locks {
    /// Of the interpreter at `interpreter` of the runtime at `runtime`.
    pub(crate) fn read(layout: &Layout, runtime: Runtime, interpreter: Address, memory: &dyn Memory) -> Locks {
        let Runtime { address: runtime, current_state } = runtime;
        let offsets = &layout.offsets;
        let (gc, collector) = gc(layout, runtime, interpreter, memory);
        let stop = offsets.interpreter_stop.of(interpreter).and_then(|stop| offsets.stop_of_world.of(stop));
        let world_stopped =
            stop.filter(|_| layout.table.free_threaded).and_then(|stop| memory.read_array::<1>(stop).ok());
        Locks {
            gil: Gil::read(layout, runtime, interpreter, memory),
            current: current_state.and_then(|place| memory.read_address(place).ok()),
            collecting: gc,
            collector,
            world_stopped: world_stopped.map(|[stopped]| stopped != 0),
        }
    }

    /// The address of the thread state that holds the GIL; `None` when none does or it is not known.
    pub(crate) fn holder(&self) -> Option<Address> {
        if let Some(current) = self.current {
            return Some(current).filter(|current| !current.is_null());
        }
        self.gil.filter(|gil| gil.enabled && gil.locked && gil.writer.is_none()).map(|gil| gil.last_holder)
    }

    /// What the state at `address`, which `thread` runs, does with the GIL.
    pub(crate) fn gil_state(&self, address: Address, word: OwnWord, thread: Option<&Thread>) -> Option<GilState> {
        if self.current == Some(address) {
            return Some(GilState::HOLDING);
        }
        let gil = self.gil?;
        if !gil.enabled {
            return Some(GilState::NONE);
        }
        if word.holds_gil.is_none() && gil.is_passing(address, thread) {
            return None;
        }
        if word.holds_gil.unwrap_or(gil.locked && gil.last_holder == address) {
            return Some(GilState::HOLDING);
        }
        match sleeps_on(thread?)? {
            Sleep::On(futex) if gil.switch.contains(futex) => Some(GilState::DROPPING),
            Sleep::On(futex) if gil.range.contains(futex) => Some(GilState::WAITING),
            _ if word.gil_requested == Some(true) => Some(GilState::WAITING),
            Sleep::OnOwnStack => None,
            Sleep::On(_) | Sleep::Elsewhere => Some(GilState::NONE),
        }
    }

    /// Whether a state with these frames collects the garbage; `is_alone` when the interpreter has no other.
    pub(crate) fn collects(&self, mut frames: impl Iterator<Item = Address>, is_alone: bool) -> Option<bool> {
        match (self.collecting?, self.collector) {
            (false, _) => Some(false),
            (true, Some(collector)) => Some(frames.any(|frame| frame == collector)),
            (true, None) => is_alone.then_some(true),
        }
    }
}

/// Whether garbage is being collected, and the frame that made it start.
fn gc(layout: &Layout, runtime: Address, interpreter: Address, memory: &dyn Memory) -> (Option<bool>, Option<Address>) {
    let offsets = &layout.offsets;
    let address = offsets.interpreter_gc.of(interpreter).or_else(|| offsets.runtime_gc.of(runtime));
    let read = |address| memory.read_bytes(address, offsets.gc_size.get()?.min(GC), GC).ok();
    let Some(bytes) = address.and_then(read) else { return (None, None) };
    let collecting = offsets.gc_collecting.u32(&bytes).filter(|collecting| *collecting <= 1);
    let frame = offsets.gc_frame.address(&bytes).filter(|frame| !frame.is_null());
    (collecting.map(|collecting| collecting == 1), frame)
}

impl Gil {
    /// `None` where there is none yet, or it is not where this layout has it.
    fn read(layout: &Layout, runtime: Address, interpreter: Address, memory: &dyn Memory) -> Option<Gil> {
        let offsets = &layout.offsets;
        let address = match offsets.interpreter_gil.of(interpreter) {
            Some(pointer) => memory.read_address(pointer).ok().filter(|gil| !gil.is_null())?,
            None => offsets.runtime_gil.of(runtime)?,
        };
        let size = offsets.gil_size.get()?.min(GIL);
        let bytes = memory.read_bytes(address, size, GIL).ok()?;
        let end = address.checked_add(size)?;
        // Never taken: -1.
        let locked = offsets.gil_locked.i32(&bytes).filter(|locked| (-1..=1).contains(locked))?;
        let held = offsets.gil_mutex.u32(&bytes).filter(|word| *word != 0);
        Some(Gil {
            range: Range { start: offsets.gil_condition.of(address)?, end },
            switch: Range { start: offsets.gil_switch_condition.of(address)?, end },
            enabled: offsets.gil_enabled.get().is_none() || offsets.gil_enabled.u32(&bytes).is_some_and(|on| on != 0),
            locked: locked == 1,
            last_holder: offsets.gil_holder.address(&bytes)?,
            writer: held.and_then(|_| offsets.gil_mutex_owner.u32(&bytes)),
        })
    }

    /// Whether the GIL may be passing to or from the state at `address`. Who takes it marks it as locked first, and only
    /// then writes down who has it, with its mutex held all the time.
    fn is_passing(&self, address: Address, thread: Option<&Thread>) -> bool {
        let Some(writer) = self.writer else { return false };
        let writes = thread.is_some_and(|thread| thread.namespace_tid.unwrap_or(thread.tid.0) == writer);
        // What the last holder itself has written is in order.
        self.locked && if self.last_holder == address { !writes } else { writes }
    }
}

/// What a thread sleeps on.
enum Sleep {
    On(Address),
    /// As waiters of musl's condition variables do, whatever they wait for.
    OnOwnStack,
    /// It sleeps in another system call, or not at all.
    Elsewhere,
}

/// `None` where its registers do not tell.
fn sleeps_on(thread: &Thread) -> Option<Sleep> {
    let registers = thread.registers.as_ref()?;
    if registers.system_call != Some(FUTEX) {
        return Some(Sleep::Elsewhere);
    }
    let futex = Address(registers.get(FIRST_ARGUMENT)?);
    let own = thread.stack.is_some_and(|stack| stack.mapping.contains(futex));
    Some(if own { Sleep::OnOwnStack } else { Sleep::On(futex) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, tables};
    use crate::layout::Field;
    use pyst_snapshot::Tid;
    use pyst_snapshot::payload::{RegisterV1, RegistersV1, StackV1};

    /// An interpreter with two states, whose GIL the first has.
    struct Held {
        fake: Fake,
        interpreter: Address,
        gil: Address,
        states: [Address; 2],
    }

    impl Held {
        fn new(table: &'static crate::layout::Table) -> Option<Held> {
            let mut fake = Fake::new(table);
            let offsets = table.offsets;
            let size = offsets.gil_size.get()?;
            let interpreter = fake.interpreter(0);
            let states = [fake.state(interpreter, 1, &[]), fake.state(interpreter, 2, &[])];
            let gil = match offsets.runtime_gil.of(fake.runtime) {
                Some(gil) => gil,
                None => fake.allocate(size),
            };
            fake.put(interpreter, offsets.interpreter_gil, gil.0);
            fake.put32(gil, offsets.gil_enabled, 1);
            fake.put32(gil, offsets.gil_locked, 1);
            fake.put(gil, offsets.gil_holder, states[0].0);
            fake.put32(states[0], offsets.thread_holds_gil, 1);
            Some(Held { fake, interpreter, gil, states })
        }

        fn locks(&self) -> Locks {
            let layout = self.fake.table.layout(self.fake.table.patches[0]);
            let runtime = Runtime { address: self.fake.runtime, current_state: None };
            Locks::read(&layout, runtime, self.interpreter, &self.fake.image())
        }

        /// What a state does, whose thread sleeps on a futex at this address, if it does.
        fn does(&self, state: usize, futex: Option<Address>) -> Option<GilState> {
            let layout = self.fake.table.layout(self.fake.table.patches[0]);
            let size = layout.offsets.thread_size.get().unwrap();
            let bytes = self.fake.image().read_bytes(self.states[state], size, size).unwrap();
            let word = OwnWord::of_state(&layout, &bytes);
            self.locks().gil_state(self.states[state], word, Some(&thread(state, futex)))
        }
    }

    fn thread(state: usize, futex: Option<Address>) -> Thread {
        let register = |futex: Address| RegisterV1 { number: FIRST_ARGUMENT, value: futex.0 };
        let registers = RegistersV1 {
            values: futex.map(register).into_iter().collect(),
            system_call: futex.map(|_| FUTEX),
            ..RegistersV1::default()
        };
        let mapping = Range { start: Address(0x1000), end: Address(0x2000) };
        let stack = StackV1 { mapping, ..StackV1::default() };
        let tid = Tid(100 + u32::try_from(state).unwrap());
        Thread { tid, registers: Some(registers), stack: Some(stack), ..Thread::default() }
    }

    fn held() -> impl Iterator<Item = Held> {
        tables().into_iter().filter_map(Held::new)
    }

    #[test]
    fn a_sleeper_waits_for_the_gil_where_its_futex_is_in_it() {
        assert!(held().count() >= 9);
        for held in held() {
            let offsets = held.fake.table.offsets;
            let inside = |field: Field| Some(Address(field.of(held.gil).unwrap().0 + 8));
            assert_eq!(held.does(0, None), Some(GilState::HOLDING));
            assert_eq!(held.does(1, None), Some(GilState::NONE));
            assert_eq!(held.does(1, inside(offsets.gil_condition)), Some(GilState::WAITING));
            assert_eq!(held.does(1, inside(offsets.gil_switch_condition)), Some(GilState::DROPPING));
            assert_eq!(held.does(1, Some(Address(0x7000))), Some(GilState::NONE), "another futex");
            assert_eq!(held.does(1, Some(Address(0x1800))), None, "one on its own stack, as musl's are");
            assert_eq!(held.locks().holder(), Some(held.states[0]));
        }
    }

    #[test]
    fn who_had_the_gil_last_does_not_have_it_when_it_is_free() {
        for mut held in held() {
            let offsets = held.fake.table.offsets;
            held.fake.put32(held.gil, offsets.gil_locked, 0);
            held.fake.put32(held.states[0], offsets.thread_holds_gil, 0);
            assert_eq!(held.does(0, None), Some(GilState::NONE));
            assert_eq!(held.locks().holder(), None);
        }
    }

    #[test]
    fn while_the_gil_passes_from_one_to_the_other_neither_is_said_to_have_it() {
        for mut held in held() {
            let offsets = held.fake.table.offsets;
            held.fake.put32(held.gil, offsets.gil_mutex, 1);
            held.fake.put32(held.gil, offsets.gil_mutex_owner, 101);
            assert_eq!(held.locks().holder(), None);
            let states_it = offsets.thread_holds_gil.get().is_some();
            assert_eq!(held.does(0, None), states_it.then_some(GilState::HOLDING));
            assert_eq!(held.does(1, None), states_it.then_some(GilState::NONE));
            held.fake.put32(held.gil, offsets.gil_mutex_owner, 100);
            assert_eq!(held.does(0, None), Some(GilState::HOLDING), "who has it is giving it away");
        }
    }

    #[test]
    fn a_gil_that_is_off_is_none() {
        for mut held in held().filter(|held| held.fake.table.free_threaded) {
            held.fake.put32(held.gil, held.fake.table.offsets.gil_enabled, 0);
            assert_eq!((held.does(0, None), held.locks().holder()), (Some(GilState::NONE), None));
        }
    }

    #[test]
    fn before_3_7_a_variable_says_who_has_the_gil() {
        for table in tables().into_iter().filter(|table| table.offsets.gil_size.get().is_none()) {
            let mut fake = Fake::new(table);
            let interpreter = fake.interpreter(0);
            let states = [fake.state(interpreter, 1, &[]), fake.state(interpreter, 2, &[])];
            let variable = fake.allocate(8);
            for (value, holder) in [(states[1], Some(states[1])), (Address(0), None)] {
                fake.put(variable, Field(0), value.0);
                let runtime = Runtime { address: fake.runtime, current_state: Some(variable) };
                let locks = Locks::read(&table.layout(18), runtime, interpreter, &fake.image());
                let does = |state| locks.gil_state(state, OwnWord::default(), Some(&thread(0, None)));
                assert_eq!(locks.holder(), holder);
                assert_eq!((does(states[0]), does(states[1])), (None, holder.map(|_| GilState::HOLDING)));
            }
        }
    }

    #[test]
    fn garbage_is_collected_by_the_only_thread_or_by_the_one_with_the_frame_that_made_it_start() {
        for mut held in held() {
            let offsets = held.fake.table.offsets;
            assert_eq!(held.locks().collects([].into_iter(), true), Some(false));
            let gc = offsets.interpreter_gc.of(held.interpreter).or(offsets.runtime_gc.of(held.fake.runtime)).unwrap();
            held.fake.put32(gc, offsets.gc_collecting, 1);
            assert_eq!(held.locks().collecting, Some(true));
            assert_eq!(held.locks().collects([].into_iter(), true), Some(true));
            assert_eq!(held.locks().collects([].into_iter(), false), None);
            held.fake.put(gc, offsets.gc_frame, 0x5000);
            let with = held.locks().collects([Address(0x4000), Address(0x5000)].into_iter(), false);
            assert_eq!(with, offsets.gc_frame.get().map(|_| true));
            held.fake.put32(gc, offsets.gc_collecting, 7);
            assert_eq!(held.locks().collecting, None, "what can't be");
        }
    }

    #[test]
    fn a_state_says_whether_it_may_run_and_whether_the_world_stands_still() {
        for mut held in held().filter(|held| held.fake.table.offsets.thread_attachment.get().is_some()) {
            let table = held.fake.table;
            let expected =
                [Attachment::DETACHED, Attachment::ATTACHED, Attachment::SUSPENDED, Attachment::SHUTTING_DOWN];
            for (value, expected) in (0..).zip(expected.map(Some).into_iter().chain([None])) {
                held.fake.put32(held.states[1], table.offsets.thread_attachment, value);
                let bytes = held.fake.image().read_bytes(held.states[1], 64, 64).unwrap();
                assert_eq!(OwnWord::of_state(&table.layout(0), &bytes).attachment(), expected);
            }
            let stop = table.offsets.interpreter_stop.of(held.interpreter).unwrap();
            held.fake.put32(stop, table.offsets.stop_of_world, 1);
            assert_eq!(held.locks().world_stopped, table.free_threaded.then_some(true));
        }
    }
}
