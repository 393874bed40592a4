//! Which thread of the process runs a thread state.

use pyst_snapshot::payload::{PythonRun, Thread};
use pyst_snapshot::{Address, Ident, Range, Tid};
use std::collections::HashMap;

/// The threads of the process, searchable by what thread states say of them.
pub(crate) struct ThreadIndex {
    /// By thread pointer: on x86_64 the same as the ident.
    by_ident: HashMap<u64, Tid>,
    /// By the id in the target's own pid namespace.
    by_native_id: HashMap<u64, Tid>,
    /// The mappings that stacks are in, ascending.
    stacks: Vec<(Range, Tid)>,
}

impl ThreadIndex {
    pub(crate) fn new(threads: &[Thread]) -> ThreadIndex {
        let pointer = |thread: &Thread| thread.registers.as_ref()?.thread_pointer;
        let by_ident = threads.iter().filter_map(|thread| Some((pointer(thread)?.0, thread.tid))).collect();
        let native_id = |thread: &Thread| thread.namespace_tid.unwrap_or(thread.tid.0).into();
        let by_native_id = threads.iter().map(|thread| (native_id(thread), thread.tid)).collect();
        let stack = |thread: &Thread| Some((thread.stack?.mapping, thread.tid));
        let mut stacks: Vec<(Range, Tid)> = threads.iter().filter_map(stack).collect();
        stacks.sort_unstable();
        ThreadIndex { by_ident, by_native_id, stacks }
    }

    /// The thread that runs a state. Where its frames have a trace on a thread's stack, that tells: before 3.13 a
    /// sub-interpreter's state keeps the ids of the thread that created it, whichever thread runs it.
    pub(crate) fn find(&self, ident: Ident, native_id: Option<u64>, runs: &[PythonRun]) -> Option<Tid> {
        let anchored = runs.iter().find_map(|run| run.anchor).and_then(|anchor| self.by_stack(anchor));
        let by_ident = || self.by_ident.get(&ident.0).copied();
        let by_native_id = || self.by_native_id.get(&native_id?).copied();
        anchored.or_else(by_ident).or_else(by_native_id)
    }

    /// The one thread whose stack `address` is on. Stacks that share a mapping tell nothing.
    fn by_stack(&self, address: Address) -> Option<Tid> {
        let after = self.stacks.partition_point(|(range, _)| range.start <= address);
        let (range, tid) = self.stacks.get(after.checked_sub(1)?)?;
        let shared = after.checked_sub(2).and_then(|before| self.stacks.get(before)).is_some_and(|(r, _)| r == range);
        (range.contains(address) && !shared).then_some(*tid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_snapshot::payload::{AnchorKind, Registers, StackV1};

    fn thread(tid: u32, pointer: Option<u64>, stack: Option<(u64, u64)>) -> Thread {
        let registers =
            pointer.map(|pointer| Registers { thread_pointer: Some(Address(pointer)), ..Registers::default() });
        let mapping = |(start, end)| Range { start: Address(start), end: Address(end) };
        let stack = stack.map(|range| StackV1 { mapping: mapping(range), ..StackV1::default() });
        Thread { tid: Tid(tid), namespace_tid: Some(tid - 100), registers, stack, ..Thread::default() }
    }

    fn run(anchor: u64) -> PythonRun {
        PythonRun { frames: 1, anchor: Some(Address(anchor)), anchor_kind: AnchorKind::SHIM_FRAME }
    }

    #[test]
    fn a_state_is_found_by_ident_and_else_by_the_id_in_its_own_namespace() {
        let index = ThreadIndex::new(&[thread(101, Some(0x7000), None), thread(102, None, None)]);
        assert_eq!(index.find(Ident(0x7000), Some(2), &[]), Some(Tid(101)));
        assert_eq!(index.find(Ident(0x8000), Some(2), &[]), Some(Tid(102)));
        assert_eq!(index.find(Ident(0x8000), None, &[]), None);
    }

    #[test]
    fn frames_on_a_stack_tell_more_than_ids() {
        let threads = [thread(101, Some(0x7000), Some((0x1000, 0x2000))), thread(102, None, Some((0x2000, 0x3000)))];
        let index = ThreadIndex::new(&threads);
        assert_eq!(index.find(Ident(0x7000), Some(1), &[run(0x2800)]), Some(Tid(102)));
        assert_eq!(index.find(Ident(0x7000), Some(1), &[run(0x3800)]), Some(Tid(101)));
    }

    #[test]
    fn stacks_in_one_mapping_tell_nothing() {
        let threads = [thread(101, Some(0x7000), Some((0x1000, 0x2000))), thread(102, None, Some((0x1000, 0x2000)))];
        assert_eq!(ThreadIndex::new(&threads).find(Ident(0x7000), None, &[run(0x1800)]), Some(Tid(101)));
    }
}
