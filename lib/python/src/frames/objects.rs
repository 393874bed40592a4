//! The frames of 3.10 and older: objects of their own, linked by `f_back`, the innermost named by the thread state.
//!
//! A new frame has its `f_back` before the thread state names it, and a generator's frame too; one that is left loses it
//! after. So at every instruction the chain is whole, as Python itself would show it; 3.9 aside, which cuts it, and shows
//! it cut, while an exception is thrown through generators. Every frame has an evaluation loop
//! of its own, so each is a run.

use super::{FRAMES_OF_A_THREAD, Frames, WORDS_OF_A_FRAME};
use crate::chain::{Chain, ChainError, Cycles};
use crate::layout::OwnLine;
use crate::location::Location;
use crate::object;
use pyst_memory::MemoryExt;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{AnchorKind, FrameOwner, PythonFrame};

/// How a version's frame objects tell where they are.
#[derive(Clone, Copy)]
pub(super) struct Reckoning {
    pub(super) instruction_unit: u8,
    pub(super) own_line: OwnLine,
    pub(super) throwing_unlinks: bool,
}

impl Frames<'_> {
    /// Follows the frames of the thread whose state has these bytes.
    pub(super) fn follow_objects(
        &mut self,
        chain: &mut Chain,
        thread: &[u8],
        reckoning: Reckoning,
    ) -> Result<(), ChainError> {
        let mut cycles = Cycles::default();
        let mut address = self.layout.offsets.thread_frame.address(thread).unwrap_or_default();
        while !address.is_null() {
            if chain.frames.len() >= FRAMES_OF_A_THREAD || self.left == 0 {
                return Err(ChainError::TooMany(chain.frames.len()));
            }
            self.left -= 1;
            if cycles.found_at(address) {
                chain.forget_repetition();
                return Err(ChainError::Loop(address));
            }
            let object = self.read_object(address)?;
            self.add_object(chain, address, &object, reckoning)?;
            chain.close_run(None, AnchorKind::default());
            address = self.layout.offsets.frame_previous.address(&object).ok_or(ChainError::NoFrame(address))?;
        }
        match chain.frames.last() {
            Some(outermost) if reckoning.throwing_unlinks && outermost.owner == FrameOwner::GENERATOR => {
                Err(ChainError::Unlinked(outermost.address))
            }
            _ => Ok(()),
        }
    }

    /// The frame object at `address`, as far as the walk looks at it. Locals, cells and the evaluation stack follow that;
    /// nothing shown depends on them, but a later version looks at them. They are read with it, as many as the frame
    /// inside has: recursion is what makes stacks deep.
    fn read_object(&mut self, address: Address) -> Result<Vec<u8>, ChainError> {
        let no_frame = ChainError::NoFrame(address);
        let offsets = &self.layout.offsets;
        let Some(size) = offsets.frame_locals.get() else { return Err(no_frame) };
        let expected = size.saturating_add(self.frame_words.saturating_mul(8));
        let object = match self.memory.read_bytes(address, expected, WORDS_OF_A_FRAME * 8) {
            Ok(object) => object,
            Err(_) => self.memory.read_bytes(address, size, WORDS_OF_A_FRAME * 8)?,
        };
        let its_type = offsets.object_type.address(&object);
        if self.frame_type != its_type {
            if !object::may_be(offsets, &object, "frame", self.shared) {
                return Err(no_frame);
            }
            self.frame_type = its_type;
        }
        let words = offsets.frame_words.u64(&object).unwrap_or(0).min(WORDS_OF_A_FRAME);
        if let Some(values) = offsets.frame_locals.of(address).filter(|_| words > self.frame_words) {
            let _ = self.memory.read_bytes(values, words * 8, WORDS_OF_A_FRAME * 8);
        }
        self.frame_words = words;
        Ok(object)
    }

    fn add_object(
        &mut self,
        chain: &mut Chain,
        address: Address,
        object: &[u8],
        reckoning: Reckoning,
    ) -> Result<(), ChainError> {
        let offsets = &self.layout.offsets;
        let no_frame = || ChainError::NoFrame(address);
        let code = offsets.frame_code.address(object).ok_or_else(no_frame)?;
        let steps = offsets.frame_instruction.i32(object).ok_or_else(no_frame)?;
        let own_line = own_line(reckoning.own_line, offsets.frame_trace.u64(object), offsets.frame_line.i32(object));
        let (id, code) = self.codes.get(code).map_err(|error| ChainError::Code { frame: address, error })?;
        // -1 before the first instruction. Code made by C code for its tracebacks has no instructions at all.
        let offset = i64::from(steps) * i64::from(reckoning.instruction_unit);
        if steps < -1 || offset > i64::try_from(code.length).unwrap_or(i64::MAX) {
            return Err(no_frame());
        }
        let owner = if code.is_generator { FrameOwner::GENERATOR } else { FrameOwner::FRAME_OBJECT };
        let location = match own_line {
            Some(line) => Location { line: u32::try_from(line).ok(), ..Location::default() },
            None => self.codes.location(id, offset),
        };
        chain.frames.push(PythonFrame {
            address,
            code: self.codes.show(id),
            owner,
            instruction: u32::try_from(offset).ok(),
            line: location.line,
            ..PythonFrame::default()
        });
        Ok(())
    }
}

/// The line that the frame itself states, where that is the one that counts.
fn own_line(when: OwnLine, trace: Option<u64>, line: Option<i32>) -> Option<i32> {
    let counts = match when {
        OwnLine::WhenTraced => trace.is_some_and(|function| function != 0),
        OwnLine::WhenSet => line != Some(0),
    };
    line.filter(|_| counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, tables};
    use crate::layout::{Runs, Table};
    use crate::{Walked, walk};
    use pyst_memory::Recorder;
    use pyst_snapshot::Range;
    use pyst_snapshot::payload::FrameChainEnd;

    /// The tables of versions with frame objects.
    fn old_tables() -> Vec<&'static Table> {
        let is_old = |table: &&Table| matches!(table.semantics.runs, Runs::FrameObjects { .. });
        tables().into_iter().filter(is_old).collect()
    }

    /// The walk over one thread with these frames, of which the last is the innermost.
    fn walked(fake: &mut Fake, innermost: Address) -> Walked {
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[innermost]);
        walk(&fake.found(), &[], &fake.image())
    }

    #[test]
    fn a_frame_that_has_not_begun_is_on_its_first_line() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let code = fake.code("f");
            let frame = fake.frame(code, 0, Address(0));
            fake.put32(frame, table.offsets.frame_instruction, u32::MAX);
            let walked = walked(&mut fake, frame);
            let frame = walked.python.states[0].frames[0];
            assert_eq!((frame.line, frame.instruction), (Some(10), None), "{}", table.name);
            assert_eq!(walked.diagnostics, []);
        }
    }

    #[test]
    fn a_traced_frame_is_on_the_line_it_says() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let code = fake.code("f");
            let outer = fake.frame(code, 2, Address(0));
            let traced = fake.frame(code, 2, outer);
            fake.put(traced, table.offsets.frame_trace, 0x1000);
            fake.put32(traced, table.offsets.frame_line, 77);
            let walked = walked(&mut fake, traced);
            let lines: Vec<_> = walked.python.states[0].frames.iter().map(|frame| frame.line).collect();
            assert_eq!(lines, [Some(77), Some(13)], "{}", table.name);
        }
    }

    #[test]
    fn an_object_of_another_type_is_no_frame() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let code = fake.code("f");
            let reused = fake.frame(code, 2, Address(0));
            let frame = fake.frame(code, 2, reused);
            fake.put_type(reused, "dict");
            let walked = walked(&mut fake, frame);
            let state = &walked.python.states[0];
            assert_eq!((state.frames.len(), state.end), (1, FrameChainEnd::INVALID), "{}", table.name);
            assert_eq!(walked.diagnostics.len(), 1);
        }
    }

    #[test]
    fn what_runs_another_object_than_code_is_no_frame() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let code = fake.code("f");
            let frame = fake.frame(code, 2, Address(0));
            fake.put_type(code, "codec");
            let walked = walked(&mut fake, frame);
            assert_eq!(walked.python.states[0].frames, [], "{}", table.name);
            assert_eq!(walked.python.states[0].end, FrameChainEnd::INVALID);
        }
    }

    #[test]
    fn generators_own_their_frames() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let (function, generator) = (fake.code("f"), fake.code("g"));
            fake.put32(generator, table.offsets.code_flags, 0x63);
            let outer = fake.frame(function, 2, Address(0));
            let inner = fake.frame(generator, 2, outer);
            let walked = walked(&mut fake, inner);
            let owners: Vec<_> = walked.python.states[0].frames.iter().map(|frame| frame.owner).collect();
            assert_eq!(owners, [FrameOwner::GENERATOR, FrameOwner::FRAME_OBJECT], "{}", table.name);
        }
    }

    #[test]
    fn a_recorder_has_frames_with_all_their_values_and_code_with_its_instructions() {
        for table in old_tables() {
            let mut fake = Fake::new(table);
            let code = fake.code("f");
            let mut frames = vec![Address(0)];
            for _ in 0..3 {
                frames.push(fake.frame(code, 2, *frames.last().unwrap()));
            }
            let interpreter = fake.interpreter(0);
            fake.state(interpreter, 1, &[*frames.last().unwrap()]);
            let recorder = Recorder::new(fake.image());
            let walked = walk(&fake.found(), &[], &recorder);
            let ranges = recorder.ranges();
            let is_whole = |start: Address, length: u64| {
                let wanted = Range::sized(start, length).unwrap();
                ranges.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
            };
            let size = table.offsets.frame_locals.get().unwrap() + 8 * fake.words_of_a_frame();
            assert!(frames.iter().skip(1).all(|frame| is_whole(*frame, size)), "{}", table.name);
            assert!(is_whole(code, table.offsets.code_size.get().unwrap()));
            assert_eq!(walk(&fake.found(), &[], &recorder.into_image()), walked);
        }
    }

    #[test]
    fn a_frames_own_line_counts_when_its_version_says_so() {
        assert_eq!(own_line(OwnLine::WhenTraced, Some(0), Some(7)), None);
        assert_eq!(own_line(OwnLine::WhenTraced, Some(0x1000), Some(7)), Some(7));
        assert_eq!(own_line(OwnLine::WhenSet, Some(0x1000), Some(0)), None);
        assert_eq!(own_line(OwnLine::WhenSet, Some(0), Some(7)), Some(7));
    }
}
