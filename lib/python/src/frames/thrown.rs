//! Generators and coroutines that an exception is thrown through: `throw()` of one that awaits another goes on to the innermost, and
//! those on the way (`_gen_throw`) are put into the chain of frames, inside of the frame that called it, for tracebacks to have
//! them. No evaluation loop runs them. A loop that runs a generator, be it in the same loop as the caller, makes the generator's
//! exception state the thread's innermost one, which `_gen_throw` does not: so it can be told.

use super::{FRAMES_OF_A_THREAD, Frames};
use crate::chain::{Chain, Cycles};
use pyst_memory::MemoryExt;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{AnchorKind, FrameOwner, PythonRun};
use std::collections::HashSet;

impl Frames<'_> {
    /// Takes the frames that are in a run by the chain, but run in no loop, out of it: each is a run of its own, without an anchor. If
    /// it cannot be told, all stays as it is.
    pub(super) fn part_thrown_through(&self, chain: &mut Chain, thread: &[u8]) {
        let is_generator = FrameOwner(self.layout.semantics.generator_owner.into());
        let mut running = None;
        let mut parted = Vec::with_capacity(chain.runs.len());
        let mut start = 0_usize;
        for run in &chain.runs {
            let end = start.saturating_add(run.frames as usize);
            let frames = chain.frames.get(start..end).unwrap_or_default();
            // The outermost is what the loop was entered for. The thread's innermost is just being left, if it is not running.
            let inside = frames.iter().enumerate().rev().skip(1).filter(|(index, _)| start + index > 0);
            let generators = inside.filter(|(_, frame)| frame.owner == is_generator);
            let mut thrown = 0;
            for (index, frame) in generators {
                let running = running.get_or_insert_with(|| self.running_generators(thread));
                let Some((running, state)) = running.as_ref().zip(self.exception_state(frame.address)) else { break };
                if !running.contains(&state) {
                    thrown = index + 1;
                    break;
                }
            }
            let alone = PythonRun { frames: 1, anchor: None, anchor_kind: AnchorKind::default() };
            parted.extend(std::iter::repeat_n(alone, thrown));
            parted.push(PythonRun { frames: run.frames.saturating_sub(u32::try_from(thrown).unwrap_or(0)), ..*run });
            start = end;
        }
        chain.runs = parted;
    }

    /// The exception state of the generator whose frame this is.
    fn exception_state(&self, frame: Address) -> Option<Address> {
        let offsets = &self.layout.offsets;
        let generator = Address(frame.0.checked_sub(offsets.generator_frame.get()?)?);
        offsets.generator_exception.of(generator)
    }

    /// The exception states of what runs on a thread, one inside of the other; `None` if they cannot be had.
    fn running_generators(&self, thread: &[u8]) -> Option<HashSet<Address>> {
        let mut states = HashSet::new();
        let mut cycles = Cycles::default();
        let mut state = self.layout.offsets.thread_exception.address(thread)?;
        while !state.is_null() {
            if cycles.found_at(state) || states.len() > FRAMES_OF_A_THREAD {
                return None;
            }
            states.insert(state);
            state = self.memory.read_address(self.layout.offsets.exception_previous.of(state)?).ok()?;
        }
        Some(states)
    }
}
