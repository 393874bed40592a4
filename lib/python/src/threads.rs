//! Which thread of the process runs a thread state.

use crate::evidence::{self, Verdict};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{PythonFrame, PythonRun, Thread};
use pyst_snapshot::{Address, Ident, Range, Tid};
use std::collections::HashMap;

/// What a state says of the thread that runs it.
pub(crate) struct Claim<'a> {
    pub(crate) ident: Ident,
    /// Whether it is a state of the main interpreter.
    pub(crate) of_main: bool,
    pub(crate) frames: &'a [PythonFrame],
}

/// Which thread runs a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// This one.
    Thread(Tid),
    /// None of the process's, or none at the moment.
    None,
    /// One of them, and nothing tells which.
    Unknown(&'static str),
}

/// The threads of the process, searchable by what thread states say of them.
pub(crate) struct ThreadIndex<'a> {
    threads: &'a [Thread],
    /// By thread pointer: on x86_64 the same as the ident.
    by_ident: HashMap<u64, Tid>,
    /// By the id in the target's own pid namespace.
    by_native_id: HashMap<u64, Tid>,
    /// The thread pointers that lie on top of the stacks of their threads, ascending, each with the mapping of the stack. It may
    /// hold other threads' stacks too: glibc 2.42 and later put no mapping of a guard between them.
    tops: Vec<(Address, Range, Tid)>,
    /// The mappings that the other stacks are in, ascending: the main thread's, and side stacks.
    stacks: Vec<(Range, Tid)>,
}

impl<'a> ThreadIndex<'a> {
    pub(crate) fn new(threads: &'a [Thread]) -> ThreadIndex<'a> {
        let pointer = |thread: &Thread| thread.registers.as_ref()?.thread_pointer;
        let by_ident = threads.iter().filter_map(|thread| Some((pointer(thread)?.0, thread.tid))).collect();
        let native_id = |thread: &Thread| thread.namespace_tid.unwrap_or(thread.tid.0).into();
        let by_native_id = threads.iter().map(|thread| (native_id(thread), thread.tid)).collect();
        let (mut tops, mut stacks) = (Vec::new(), Vec::new());
        for thread in threads {
            let Some(mapping) = thread.stack.map(|stack| stack.mapping) else { continue };
            match pointer(thread).filter(|pointer| mapping.contains(*pointer)) {
                Some(top) => tops.push((top, mapping, thread.tid)),
                None => stacks.push((mapping, thread.tid)),
            }
        }
        tops.sort_unstable();
        stacks.sort_unstable();
        ThreadIndex { threads, by_ident, by_native_id, tops, stacks }
    }

    /// For each state the thread that runs it, in versions that keep nothing of frames on the C stack.
    ///
    /// They know no more of the thread than its ident, and a state that `_xxsubinterpreters.create()` or
    /// `Py_NewInterpreter()` has made keeps that of the thread which made it, whichever thread runs it then. A state that
    /// a thread is started with has the ident of the one that starts it, until it runs.
    pub(crate) fn by_evidence(&self, claims: &[Claim<'_>], memory: &dyn Memory) -> Vec<Runner> {
        let mut with_ident: HashMap<u64, usize> = HashMap::new();
        for claim in claims.iter().filter(|claim| !claim.frames.is_empty()) {
            *with_ident.entry(claim.ident.0).or_default() += 1;
        }
        let others = |claim: &Claim<'_>| {
            let all = with_ident.get(&claim.ident.0).copied().unwrap_or(0);
            all.saturating_sub(usize::from(!claim.frames.is_empty()))
        };
        let is_doubtful = |claim: &Claim<'_>| !claim.of_main || others(claim) > 0;
        let doubtful = |claim: &&Claim<'_>| is_doubtful(claim) && !claim.frames.is_empty();
        let innermost = |claim: &Claim<'_>| {
            claim.frames.iter().take(evidence::FRAMES).map(|frame| frame.address).collect::<Vec<Address>>()
        };
        let chains: Vec<Vec<Address>> = claims.iter().filter(doubtful).map(innermost).collect();
        let verdicts = if chains.is_empty() { Vec::new() } else { evidence::threads_of(&chains, self.threads, memory) };
        let mut verdicts = verdicts.into_iter();
        let runner = |claim: &Claim<'_>| {
            let by_ident = || {
                let known = self.by_ident.get(&claim.ident.0).copied();
                known.or_else(|| self.by_descriptor(claim.ident, memory)).map_or(Runner::None, Runner::Thread)
            };
            if !is_doubtful(claim) {
                return by_ident();
            }
            if claim.frames.is_empty() {
                // An idle interpreter's, or one that a thread will be started with.
                return Runner::None;
            }
            match verdicts.next().unwrap_or(Verdict::Nowhere) {
                Verdict::On(tid) => Runner::Thread(tid),
                // The others of that ident are those of interpreters that the same thread has made.
                _ if claim.of_main => by_ident(),
                _ if self.threads.is_empty() => Runner::None,
                Verdict::Several => Runner::Unknown("several threads have traces of its frames on their stacks"),
                Verdict::Nowhere if self.stacks.is_empty() && self.tops.is_empty() => Runner::Unknown(
                    "the stacks, which would tell, were not captured: take the snapshot without --python-only",
                ),
                Verdict::Nowhere => Runner::Unknown("no thread has a trace of its frames on its stack"),
            }
        };
        claims.iter().map(runner).collect()
    }

    /// The thread that glibc's descriptor at `ident` (`struct pthread` of x86_64) is of, for one whose registers could not
    /// be had. Such a descriptor names itself twice, so nothing else is taken for one.
    fn by_descriptor(&self, ident: Ident, memory: &dyn Memory) -> Option<Tid> {
        const ITSELF: [u64; 2] = [0, 16];
        const TID: u64 = 720;
        if self.by_ident.len() >= self.threads.len() {
            return None;
        }
        let at = |offset: u64| Address(ident.0).checked_add(offset);
        let is_one = ITSELF.iter().all(|offset| {
            at(*offset).and_then(|place| memory.read_u64(place).ok()).is_some_and(|itself| itself == ident.0)
        });
        let bytes = at(TID).filter(|_| is_one).and_then(|place| memory.read_array::<4>(place).ok())?;
        let tid = *self.by_native_id.get(&u32::from_le_bytes(bytes).into())?;
        let is_another = self.by_ident.values().any(|other| *other == tid);
        (!is_another).then_some(tid)
    }

    /// The thread that runs a state. Where its frames have a trace on a thread's stack, that tells: before 3.13 a
    /// sub-interpreter's state keeps the ids of the thread that created it, whichever thread runs it.
    pub(crate) fn find(&self, ident: Ident, native_id: Option<u64>, runs: &[PythonRun]) -> Option<Tid> {
        let anchored = runs.iter().find_map(|run| run.anchor).and_then(|anchor| self.by_stack(anchor));
        let by_ident = || self.by_ident.get(&ident.0).copied();
        let by_native_id = || self.by_native_id.get(&native_id?).copied();
        anchored.or_else(by_ident).or_else(by_native_id)
    }

    /// The thread with this id. The payload has them by ascending tid.
    pub(crate) fn get(&self, tid: Tid) -> Option<&'a Thread> {
        let at = self.threads.binary_search_by_key(&tid, |thread| thread.tid).ok()?;
        self.threads.get(at)
    }

    /// The one thread whose stack `address` is on. Stacks that share a mapping tell nothing, unless their tops are known.
    fn by_stack(&self, address: Address) -> Option<Tid> {
        let above = self.tops.partition_point(|(top, ..)| *top <= address);
        if let Some((_, mapping, tid)) = self.tops.get(above)
            && mapping.contains(address)
        {
            return Some(*tid);
        }
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
        let threads = [thread(101, Some(0x7000), None), thread(102, None, None)];
        let index = ThreadIndex::new(&threads);
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

    /// How states with this ident, of the main interpreter or not, with as many frames, are distributed when no stack tells.
    fn without_stacks(states: &[(u64, bool, u64)]) -> Vec<Runner> {
        let threads = [thread(101, Some(0x7000), None), thread(102, Some(0x8000), None)];
        let frame = |number: u64| PythonFrame { address: Address(number << 12), ..PythonFrame::default() };
        let frames: Vec<Vec<PythonFrame>> =
            states.iter().map(|(_, _, count)| (0..*count).map(frame).collect()).collect();
        let claims = states.iter().zip(&frames).map(|((ident, of_main, _), frames)| Claim {
            ident: Ident(*ident),
            of_main: *of_main,
            frames,
        });
        let claims: Vec<Claim<'_>> = claims.collect();
        ThreadIndex::new(&threads).by_evidence(&claims, &pyst_memory::Image::new())
    }

    #[test]
    fn an_ident_alone_tells_of_the_main_interpreters_states_only() {
        let [first, second] = [101, 102].map(|tid| Runner::Thread(Tid(tid)));
        assert_eq!(without_stacks(&[(0x7000, true, 2), (0x8000, true, 0)]), [first, second]);
        assert_eq!(without_stacks(&[(0x7000, true, 2), (0x9000, true, 3)]), [first, Runner::None]);
        let with_others = without_stacks(&[(0x7000, false, 2), (0x7000, true, 2), (0x8000, false, 1)]);
        assert!(matches!(with_others[..], [Runner::Unknown(_), one, Runner::Unknown(_)] if one == first));
    }

    #[test]
    fn a_thread_without_registers_is_known_by_its_descriptor() {
        let threads = [thread(101, Some(0x7000), None), thread(102, None, None)];
        let frames = [PythonFrame { address: Address(0x1000), ..PythonFrame::default() }];
        let runner = |itself: u64, tid: u32| {
            let mut descriptor = vec![0; 1024];
            descriptor[..8].copy_from_slice(&0x8000_u64.to_le_bytes());
            descriptor[16..24].copy_from_slice(&itself.to_le_bytes());
            descriptor[720..724].copy_from_slice(&tid.to_le_bytes());
            let mut image = pyst_memory::Image::new();
            image.extend([(Address(0x8000), descriptor.into())]);
            let claim = Claim { ident: Ident(0x8000), of_main: true, frames: &frames };
            ThreadIndex::new(&threads).by_evidence(&[claim], &image)[0]
        };
        // Ids are those of the target's own namespace.
        assert_eq!(runner(0x8000, 2), Runner::Thread(Tid(102)));
        assert_eq!(runner(0x8008, 2), Runner::None);
        assert_eq!(runner(0x8000, 7), Runner::None);
        assert_eq!(runner(0x8000, 1), Runner::None, "whose thread pointer is another");
    }

    #[test]
    fn idle_states_and_those_that_are_about_to_run_belong_to_no_thread() {
        let first = Runner::Thread(Tid(101));
        assert_eq!(without_stacks(&[(0x7000, false, 0), (0x7000, true, 2)]), [Runner::None, first]);
        assert_eq!(without_stacks(&[(0x7000, true, 0), (0x7000, true, 2)]), [Runner::None, first]);
    }

    #[test]
    fn stacks_in_one_mapping_are_told_apart_by_the_thread_pointers_on_top_of_them() {
        let shared = |tid, pointer, end| thread(tid, Some(pointer), Some((0x1000, end)));
        // The mapping is stated up to the thread's own top where it was running, and whole in a core.
        for ends in [[0x2000, 0x3000], [0x4000, 0x4000]] {
            let threads = [shared(102, 0x2f00, ends[1]), shared(101, 0x1f00, ends[0])];
            let index = ThreadIndex::new(&threads);
            assert_eq!(index.find(Ident(0x2f00), None, &[run(0x2800)]), Some(Tid(102)));
            assert_eq!(index.find(Ident(0x2f00), None, &[run(0x1800)]), Some(Tid(101)));
            assert_eq!(index.find(Ident(0x2f00), None, &[run(0x3800)]), Some(Tid(102)), "by its ident");
        }
    }

    #[test]
    fn stacks_in_one_mapping_tell_nothing() {
        let threads = [thread(101, Some(0x7000), Some((0x1000, 0x2000))), thread(102, None, Some((0x1000, 0x2000)))];
        assert_eq!(ThreadIndex::new(&threads).find(Ident(0x7000), None, &[run(0x1800)]), Some(Tid(101)));
    }
}
