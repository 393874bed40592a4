//! The walk over runtimes made by hand, by a table of each minor version.

use super::*;
use crate::fake::{Fake, tables};
use crate::layout::Runs;
use pyst_snapshot::Range;
use pyst_snapshot::payload::{AnchorKind, RuntimePhase};

/// What is shown of each frame: its name and line.
fn shown(python: &Python, state: usize) -> Vec<(String, u32)> {
    let frame = |frame: &pyst_snapshot::payload::PythonFrame| {
        (python.codes[frame.code as usize].function.escaped(), frame.line.unwrap())
    };
    python.states[state].frames.iter().map(frame).collect()
}

/// One thread with two evaluation loops: `inner` called by C code called by `outer`.
fn two_loops(fake: &mut Fake, ident: u64) -> (Address, [Address; 2]) {
    let (outer, inner) = (fake.code("outer"), fake.code("inner"));
    let bottom = fake.shim(outer, Address(0));
    let outer_frame = fake.frame(outer, 3, bottom);
    let between = fake.shim(inner, outer_frame);
    let middle = fake.frame(inner, 4, between);
    let innermost = fake.frame(inner, 5, middle);
    let interpreter = if ident == 1 { fake.interpreter(0) } else { fake.interpreter(ident) };
    fake.state(interpreter, ident, &[innermost, outer_frame]);
    (interpreter, [innermost, outer_frame])
}

#[test]
fn frames_come_innermost_first_in_one_run_for_each_loop() {
    for table in tables() {
        let mut fake = Fake::new(table);
        two_loops(&mut fake, 1);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(walked.diagnostics, [], "{}", table.name);
        assert!(!walked.unsettled);
        let python = walked.python;
        let expected = [("inner", 16), ("inner", 15), ("outer", 14)].map(|(name, line)| (name.to_owned(), line));
        assert_eq!(shown(&python, 0), expected, "{}", table.name);
        let state = &python.states[0];
        assert_eq!(state.end, FrameChainEnd::COMPLETE);
        let (kind, frames) = match table.semantics.runs {
            Runs::CFrames => (AnchorKind::C_FRAME, vec![2, 1]),
            Runs::Shims { .. } => (AnchorKind::SHIM_FRAME, vec![2, 1]),
            Runs::FrameObjects { .. } => (AnchorKind::default(), vec![1, 1, 1]),
        };
        assert_eq!(state.runs.iter().map(|run| run.frames).collect::<Vec<_>>(), frames);
        let is_anchored = kind != AnchorKind::default();
        assert!(state.runs.iter().all(|run| run.anchor.is_some() == is_anchored && run.anchor_kind == kind));
        assert_eq!(python.phase, RuntimePhase::RUNNING);
    }
}

#[test]
fn a_frame_that_is_just_being_made_is_not_shown() {
    for table in tables().into_iter().filter(|table| table.offsets.code_first_traceable.get().is_some()) {
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let bottom = fake.shim(code, Address(0));
        let outer = fake.frame(code, 2, bottom);
        let new = fake.frame(code, 0, outer);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[new]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(walked.diagnostics, []);
        assert!(walked.unsettled);
        assert_eq!(shown(&walked.python, 0), [("f".to_owned(), 13)], "{}", table.name);
    }
}

/// `_Py_InitCleanup` of 3.13 has three instructions, of which the fourth would be the first to trace.
#[test]
fn the_frame_that_checks_what_init_returns_is_passed_over() {
    for table in tables().into_iter().filter(|table| table.offsets.code_first_traceable.get().is_some()) {
        let mut fake = Fake::new(table);
        let (init, cleanup, caller) = (fake.code("__init__"), fake.code("cleanup"), fake.code("caller"));
        fake.put(cleanup, table.offsets.code_units, 3);
        fake.put32(cleanup, table.offsets.code_first_traceable, 4);
        let bottom = fake.shim(caller, Address(0));
        let outer = fake.frame(caller, 2, bottom);
        let hidden = fake.frame(cleanup, 1, outer);
        let inner = fake.frame(init, 2, hidden);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[inner]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(walked.diagnostics, []);
        let expected = ["__init__", "caller"].map(|name| (name.to_owned(), 13));
        assert_eq!(shown(&walked.python, 0), expected, "{}", table.name);
    }
}

/// Between two instructions of an evaluation loop that starts, `tstate->cframe` is set and `cframe.current_frame` is not.
#[test]
fn a_loop_that_is_just_being_entered_costs_nothing_but_itself() {
    for table in tables().into_iter().filter(|table| table.offsets.cframe_size.get().is_some()) {
        let mut fake = Fake::new(table);
        let (outer, other) = (fake.code("outer"), fake.code("other"));
        let bottom = fake.shim(outer, Address(0));
        let frame = fake.frame(outer, 3, bottom);
        let bottom = fake.shim(other, Address(0));
        let elsewhere = fake.frame(other, 3, bottom);
        let interpreter = fake.interpreter(0);
        for (left_behind, severity) in [(Address(2), Severity::INFO), (elsewhere, Severity::WARNING)] {
            fake.state(interpreter, 1, &[left_behind, frame]);
            let walked = walk(&fake.found(), &[], &fake.image());
            assert_eq!(shown(&walked.python, 0), [("outer".to_owned(), 14)], "{}", table.name);
            assert_eq!(walked.python.states[0].end, FrameChainEnd::COMPLETE);
            assert_eq!(walked.diagnostics[0].code, "python-function-entered");
            assert_eq!(walked.diagnostics[0].severity, severity);
            assert!(walked.unsettled);
        }
    }
}

/// 3.12.1 takes a generator's caller from it when it yields, an instruction before it makes the caller the one that runs;
/// and it makes a new frame the one that runs three instructions before it writes down the caller.
#[test]
fn frames_that_lead_to_no_loop_are_not_all_there_are() {
    for table in tables().into_iter().filter(|table| matches!(table.semantics.runs, Runs::Shims { .. })) {
        // Units of its code: the generator is at any, the new frame at none yet.
        for (unit, visible) in [(3, 1), (0, 0)] {
            let mut fake = Fake::new(table);
            let (outer, cut_off) = (fake.code("outer"), fake.code("cut_off"));
            let bottom = fake.shim(outer, Address(0));
            let outer_frame = fake.frame(outer, 3, bottom);
            let cut = fake.frame(cut_off, unit, Address(0));
            let interpreter = fake.interpreter(0);
            fake.state(interpreter, 1, &[cut]);
            fake.state(interpreter, 2, &[cut, outer_frame]);
            let walked = walk(&fake.found(), &[], &fake.image());
            assert!(walked.unsettled);
            let codes = walked.diagnostics.iter().map(|diagnostic| (diagnostic.code.as_str(), diagnostic.severity));
            assert_eq!(codes.collect::<Vec<_>>(), [("python-frames-lost", Severity::LOSS); 2], "{}", table.name);
            let alone = &walked.python.states[1];
            assert_eq!((alone.frames.len(), alone.end), (visible, FrameChainEnd::INVALID));
            if table.offsets.cframe_size.get().is_some() {
                assert_eq!(shown(&walked.python, 0), [("outer".to_owned(), 14)], "{}", table.name);
            }
        }
    }
}

#[test]
fn a_loop_that_knows_nothing_yet_is_not_believed() {
    for table in tables().into_iter().filter(|table| table.offsets.cframe_size.get().is_some()) {
        let mut fake = Fake::new(table);
        let code = fake.code("elsewhere");
        let elsewhere = fake.frame(code, 3, Address(0));
        let cframe = fake.allocate(table.offsets.cframe_size.get().unwrap());
        fake.put(cframe, table.offsets.cframe_current_frame, elsewhere.0);
        let interpreter = fake.interpreter(0);
        let state = fake.state(interpreter, 1, &[]);
        fake.put(state, table.offsets.thread_cframe, cframe.0);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(shown(&walked.python, 0), []);
        assert_eq!(walked.python.states[0].end, FrameChainEnd::INVALID);
        assert_eq!(walked.diagnostics[0].severity, Severity::LOSS);
    }
}

#[test]
fn frames_that_go_in_circles_are_shown_once() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let outermost = fake.frame(code, 2, Address(0));
        let mut frame = outermost;
        for _ in 0..100 {
            frame = fake.frame(code, 2, frame);
        }
        fake.put(outermost, table.offsets.frame_previous, frame.0);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[frame]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(walked.python.states[0].frames.len(), 101);
        assert_eq!(walked.python.states[0].end, FrameChainEnd::LOOP);
        assert_eq!(walked.diagnostics[0].code, "python-frames-lost");
        assert_eq!(walked.diagnostics[0].severity, Severity::LOSS);
    }
}

#[test]
fn a_generator_that_leads_nowhere_is_not_taken_for_the_outermost_frame() {
    for table in tables() {
        let Runs::FrameObjects { throwing_unlinks, .. } = table.semantics.runs else { continue };
        const CO_COROUTINE: u32 = 0x80;
        let mut fake = Fake::new(table);
        let (coroutine, called) = (fake.code("coroutine"), fake.code("called"));
        fake.put32(coroutine, table.offsets.code_flags, CO_COROUTINE);
        let outer = fake.frame(coroutine, 3, Address(0));
        let innermost = fake.frame(called, 4, outer);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[innermost]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(shown(&walked.python, 0).len(), 2);
        // Elsewhere a coroutine has no caller where C code drives it on a thread that runs no Python.
        assert_eq!(walked.python.states[0].end == FrameChainEnd::INVALID, throwing_unlinks, "{}", table.name);
        assert_eq!(walked.diagnostics.len(), usize::from(throwing_unlinks));
    }
}

#[test]
fn lists_that_go_in_circles_end() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let interpreter = fake.interpreter(0);
        let state = fake.state(interpreter, 1, &[]);
        fake.put(state, table.offsets.thread_next, state.0);
        fake.put(interpreter, table.offsets.interpreter_next, interpreter.0);
        let walked = walk(&fake.found(), &[], &fake.image());
        let codes: Vec<&str> = walked.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect();
        assert_eq!(codes, ["python-states-lost", "python-interpreters-lost"]);
        assert_eq!(walked.python.interpreters.len(), 1);
    }
}

#[test]
fn a_frame_that_is_lost_costs_no_other_thread() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let (_, [_, outer]) = two_loops(&mut fake, 1);
        two_loops(&mut fake, 2);
        fake.parts.remove(&outer.0);
        let mut image = fake.image();
        let walked = walk(&fake.found(), &[], &image);
        let ends = |walked: &Walked| walked.python.states.iter().map(|state| state.end).collect::<Vec<_>>();
        assert_eq!(ends(&walked), [FrameChainEnd::COMPLETE, FrameChainEnd::NOT_RECORDED], "{}", table.name);
        assert_eq!(shown(&walked.python, 1).len(), 2);
        assert_eq!(walked.diagnostics.len(), 1);
        image.extend_unreadable([Range::sized(outer, 8).unwrap()]);
        let walked = walk(&fake.found(), &[], &image);
        assert_eq!(ends(&walked), [FrameChainEnd::COMPLETE, FrameChainEnd::UNREADABLE]);
    }
}

#[test]
fn a_frame_that_runs_no_code_is_no_frame() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let (code, other) = (fake.code("f"), fake.code("g"));
        let outer = fake.frame(code, 2, Address(0));
        let inner = fake.frame(code, 2, outer);
        if table.offsets.code_instructions.get().is_some() {
            // Its instruction is in another code object.
            fake.put(outer, table.offsets.frame_code, other.0);
        } else {
            fake.put32(outer, table.offsets.frame_instruction, 17);
        }
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[inner]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(shown(&walked.python, 0).len(), 1);
        assert_eq!(walked.python.states[0].end, FrameChainEnd::INVALID);
    }
}

/// 3.6 and older do not number them.
#[test]
fn interpreters_have_their_ids_or_their_age() {
    for table in tables() {
        let mut fake = Fake::new(table);
        for id in 0..3 {
            fake.interpreter(id);
        }
        let walked = walk(&fake.found(), &[], &fake.image());
        let ids: Vec<i64> = walked.python.interpreters.iter().map(|interpreter| interpreter.id).collect();
        assert_eq!(ids, [2, 1, 0], "{}", table.name);
    }
}

#[test]
fn a_name_that_is_lost_leaves_its_frame() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let bottom = fake.shim(code, Address(0));
        let frame = fake.frame(code, 2, bottom);
        fake.put(code, table.offsets.code_name, 0x10);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[frame]);
        let walked = walk(&fake.found(), &[], &fake.image());
        assert_eq!(shown(&walked.python, 0), [("<name not readable>".to_owned(), 13)]);
        assert_eq!(walked.diagnostics[0].code, "python-code-lost");
    }
}

/// Frames without end: wherever one is read, it leads to one further on.
struct Endless {
    image: pyst_memory::Image<'static>,
    frame: Vec<u8>,
    previous: usize,
}

impl Memory for Endless {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        if address.0 >> 60 != 1 || buffer.len() != self.frame.len() {
            return self.image.read(address, buffer);
        }
        buffer.copy_from_slice(&self.frame);
        buffer[self.previous..self.previous + 8].copy_from_slice(&(address.0 + 128).to_le_bytes());
        Ok(())
    }
}

#[test]
fn frames_without_end_are_cut_at_the_stated_limit() {
    let table = tables().into_iter().next_back().unwrap();
    let mut fake = Fake::new(table);
    let code = fake.code("f");
    let frame = fake.frame(code, 2, Address(1 << 60));
    let interpreter = fake.interpreter(0);
    fake.state(interpreter, 1, &[frame]);
    fake.state(interpreter, 2, &[frame]);
    let bytes = fake.parts[&frame.0].clone();
    let previous = usize::try_from(table.offsets.frame_previous.get().unwrap()).unwrap();
    let walked = walk(&fake.found(), &[], &Endless { image: fake.image(), frame: bytes, previous });
    assert_eq!(walked.python.states[0].frames.len(), crate::frames::FRAMES_IN_ALL);
    assert_eq!(walked.python.states[1].frames.len(), 0);
    assert!(walked.python.states.iter().all(|state| state.end == FrameChainEnd::FRAME_LIMIT));
    assert!(walked.diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::WARNING));
}

/// Notes what a walk says that it will read.
struct Told {
    image: pyst_memory::Image<'static>,
    ranges: std::cell::RefCell<pyst_memory::RangeSet>,
}

impl Memory for Told {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.image.read(address, buffer)
    }

    fn expect_only(&self, ranges: pyst_memory::RangeSet) {
        ranges.into_merged().into_iter().for_each(|range| self.ranges.borrow_mut().insert(range));
    }

    fn reads_ahead(&self) -> bool {
        true
    }
}

#[test]
fn the_newest_chunk_and_the_frames_that_entered_it_are_expected_before_they_are_read() {
    for table in tables().into_iter().filter(|table| table.offsets.thread_chunk.get().is_some()) {
        let offsets = table.offsets;
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        // The first word of a first chunk is not used.
        let (data, length) = (offsets.chunk_data.get().unwrap() + 8, offsets.frame_locals.get().unwrap());
        let chunk = fake.allocate(data + 2 * length);
        let frames = [Address(chunk.0 + data), Address(chunk.0 + data + length)];
        // C code called the one, and its function, by way of other C code, the other.
        let mut entries = Vec::new();
        let mut previous = Address(0);
        for frame in frames {
            let entry = fake.shim(code, previous);
            let template = fake.frame(code, 2, entry);
            let bytes = fake.parts.remove(&template.0).unwrap();
            let place = usize::try_from(frame.0 - chunk.0).unwrap();
            fake.parts.get_mut(&chunk.0).unwrap()[place..place + bytes.len()].copy_from_slice(&bytes);
            entries.push(entry);
            previous = frame;
        }
        let interpreter = fake.interpreter(0);
        let state = fake.state(interpreter, 1, &[frames[1]]);
        fake.put(state, offsets.thread_chunk, chunk.0);
        fake.put(state, offsets.thread_chunk_top, chunk.0 + data + 2 * length);
        let memory = Told { image: fake.image(), ranges: pyst_memory::RangeSet::default().into() };
        let walked = walk(&fake.found(), &[], &memory);
        assert_eq!(shown(&walked.python, 0).len(), 2, "{}", table.name);
        let told = memory.ranges.into_inner().into_merged();
        let is_told = |address: &Address| told.iter().any(|range| range.contains(*address));
        let last = Address(chunk.0 + data + 2 * length - 1);
        assert!([chunk, frames[0], frames[1], last].iter().all(is_told), "{}", table.name);
        if matches!(table.semantics.runs, Runs::Shims { .. }) {
            // Where there is a `_PyCFrame`, they lie beside that on the C stack, and here they do not.
            let is_followed = offsets.thread_cframe.get().is_none();
            assert_eq!([is_told(&entries[0]), is_told(&entries[1])], [is_followed; 2], "{}", table.name);
        }
    }
}

#[test]
fn frames_in_data_stack_chunks_are_found_and_kept_with_their_chunk() {
    for table in tables().into_iter().filter(|table| table.offsets.thread_chunk.get().is_some()) {
        let offsets = table.offsets;
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let size = offsets.frame_locals.get().unwrap() + 64;
        let data = offsets.chunk_data.get().unwrap();
        // Two chunks of ten frames each, whose templates come from frames elsewhere.
        let chunks = [fake.allocate(data + 10 * size), fake.allocate(data + 20 * size)];
        let mut previous = fake.shim(code, Address(0));
        for (at, chunk) in chunks.iter().enumerate() {
            for index in 0..10 {
                let template = fake.frame(code, 2 + at as u64, previous);
                let bytes = fake.parts.remove(&template.0).unwrap();
                let place = usize::try_from(data + index * size).unwrap();
                fake.parts.get_mut(&chunk.0).unwrap()[place..place + bytes.len()].copy_from_slice(&bytes);
                previous = Address(chunk.0 + data + index * size);
            }
        }
        fake.put(chunks[0], offsets.chunk_top, 10 * size / 8);
        fake.put(chunks[1], offsets.chunk_previous, chunks[0].0);
        let interpreter = fake.interpreter(0);
        let state = fake.state(interpreter, 1, &[previous]);
        fake.put(state, offsets.thread_chunk, chunks[1].0);
        fake.put(state, offsets.thread_chunk_top, chunks[1].0 + data + 10 * size);
        let recorder = pyst_memory::Recorder::new(fake.image());
        let walked = walk(&fake.found(), &[], &recorder);
        assert_eq!(walked.diagnostics, []);
        assert_eq!(shown(&walked.python, 0).len(), 20, "{}", table.name);
        let ranges = recorder.ranges();
        for chunk in chunks {
            let used = Range::sized(chunk, data + 10 * size).unwrap();
            assert!(ranges.contains(&used), "{}: {used} is not among {ranges:?}", table.name);
        }
        assert_eq!(walk(&fake.found(), &[], &recorder.into_image()), walked);
    }
}

#[test]
fn phases_are_those_of_the_runtime() {
    for table in tables().into_iter().filter(|table| table.offsets.runtime_initialized.get().is_some()) {
        let mut fake = Fake::new(table);
        let phase = |fake: &Fake| walk(&fake.found(), &[], &fake.image()).python.phase;
        assert_eq!(phase(&fake), RuntimePhase::RUNNING);
        fake.put32(fake.runtime, table.offsets.runtime_initialized, 0);
        assert_eq!(phase(&fake), RuntimePhase::STARTING);
        fake.put(fake.runtime, table.offsets.runtime_finalizing, 0x1000);
        assert_eq!(phase(&fake), RuntimePhase::FINALIZING);
    }
}

/// Builds without a GIL from 3.14 on: each thread runs a copy of the instructions, and a frame says which.
#[test]
fn a_frame_that_runs_a_copy_of_its_instructions_has_its_line() {
    let with_copies: Vec<_> = tables().into_iter().filter(|table| table.offsets.code_copies.get().is_some()).collect();
    assert_eq!(with_copies.iter().map(|table| table.minor).collect::<Vec<_>>(), [(3, 14), (3, 15)]);
    for table in with_copies {
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let bottom = fake.shim(code, Address(0));
        let frame = fake.frame(code, 3, bottom);
        let interpreter = fake.interpreter(0);
        fake.state(interpreter, 1, &[frame]);
        assert_eq!(shown(&walk(&fake.found(), &[], &fake.image()).python, 0), [("f".to_owned(), 14)]);
        let copy = fake.allocate(16);
        fake.put32(frame, table.offsets.frame_code_copy, 1);
        fake.put(frame, table.offsets.frame_instruction, copy.0 + 2 * 4);
        let no_copy = walk(&fake.found(), &[], &fake.image());
        assert_eq!(no_copy.python.states[0].end, FrameChainEnd::NOT_RECORDED);
        let copies = pyst_memory::MemoryExt::read_address(&fake.image(), table.offsets.code_copies.of(code).unwrap());
        let second = table.offsets.code_copies_first.of(copies.unwrap()).unwrap().checked_add(8).unwrap();
        fake.put(second, Field(0), copy.0);
        assert_eq!(shown(&walk(&fake.found(), &[], &fake.image()).python, 0), [("f".to_owned(), 15)], "{}", table.name);
        fake.put32(frame, table.offsets.frame_code_copy, 2);
        assert_eq!(walk(&fake.found(), &[], &fake.image()).python.states[0].end, FrameChainEnd::INVALID);
    }
}

/// The frame below all others from 3.15 on is in no evaluation loop.
#[test]
fn the_frame_below_all_others_is_no_run_and_nothing_is_complete_without_it() {
    let table = tables().into_iter().find(|table| table.offsets.thread_base_frame.get().is_some()).unwrap();
    let mut fake = Fake::new(table);
    let code = fake.code("f");
    let bottom = fake.shim(code, Address(0));
    let frame = fake.frame(code, 3, bottom);
    let interpreter = fake.interpreter(0);
    let state = fake.state(interpreter, 1, &[frame]);
    let walked = walk(&fake.found(), &[], &fake.image());
    assert_eq!(walked.diagnostics, []);
    assert_eq!(walked.python.states[0].runs.iter().map(|run| run.anchor).collect::<Vec<_>>(), [Some(bottom)]);
    // A thread before its first frame and after its last one is in it.
    let base = pyst_memory::MemoryExt::read_u64(&fake.image(), table.offsets.thread_base_frame.of(state).unwrap());
    fake.put(state, table.offsets.thread_current_frame, base.unwrap());
    let idle = walk(&fake.found(), &[], &fake.image());
    assert_eq!((idle.diagnostics.len(), idle.python.states[0].runs.len(), idle.unsettled), (0, 0, false));
    // A shim that does not lead to its caller yet.
    fake.put(state, table.offsets.thread_current_frame, frame.0);
    fake.put(bottom, table.offsets.frame_previous, 0);
    let cut = walk(&fake.found(), &[], &fake.image());
    assert_eq!((cut.python.states[0].end, cut.unsettled), (FrameChainEnd::INVALID, true));
}

/// Measured in 3.15.2 with PYTHON_JIT=1: of six lines of a hot loop, three never show while compiled code runs them.
#[test]
fn the_line_of_compiled_code_is_said_to_be_uncertain() {
    let compiling: Vec<_> =
        tables().into_iter().filter(|table| table.offsets.thread_executor.get().is_some()).collect();
    assert!(compiling.iter().any(|table| table.minor == (3, 15)));
    for table in compiling {
        let mut fake = Fake::new(table);
        let code = fake.code("f");
        let bottom = fake.shim(code, Address(0));
        let frame = fake.frame(code, 3, bottom);
        let interpreter = fake.interpreter(0);
        let state = fake.state(interpreter, 1, &[frame]);
        assert_eq!(walk(&fake.found(), &[], &fake.image()).diagnostics, []);
        fake.put(state, table.offsets.thread_executor, 0x1000);
        let walked = walk(&fake.found(), &[], &fake.image());
        let said = &walked.diagnostics[0];
        assert_eq!((said.severity, said.code.as_str()), (Severity::INFO, "python-line-of-compiled-code"));
        assert_eq!(shown(&walked.python, 0).len(), 1, "{}", table.name);
    }
}

/// A small generator of the same numbers on every machine (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

#[test]
fn no_damage_makes_the_walk_panic_or_run_on() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for table in tables() {
        let mut sound = Fake::new(table);
        two_loops(&mut sound, 1);
        two_loops(&mut sound, 2);
        let addresses: Vec<u64> = sound.parts.keys().copied().collect();
        let image = sound.image();
        let recorder = pyst_memory::Recorder::new(&image);
        let _ = walk(&sound.found(), &[], &recorder);
        // Only what is read is worth damaging.
        let read = recorder.ranges();
        let mut troubled = 0;
        for _ in 0..3000 {
            let mut parts = sound.parts.clone();
            for _ in 0..=numbers.below(4) {
                let range = read[numbers.below(read.len())];
                let at = range.start.0 + numbers.next() % range.len() / 8 * 8;
                let value = match numbers.below(4) {
                    0 => numbers.next(),
                    1 => numbers.next() % 64,
                    2 => u64::MAX - numbers.next() % 64,
                    _ => addresses[numbers.below(addresses.len())],
                };
                let (start, bytes) = parts.range_mut(..=at).next_back().unwrap();
                let place = bytes.iter_mut().skip(usize::try_from(at - start).unwrap());
                place.zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            let mut damaged = pyst_memory::Image::new();
            damaged.extend(parts.into_iter().map(|(start, bytes)| (Address(start), bytes.into())));
            troubled += usize::from(!walk(&sound.found(), &[], &damaged).diagnostics.is_empty());
        }
        // Or else this test tests nothing.
        assert!(troubled > 500, "{}: only {troubled} of 3000", table.name);
    }
}

#[test]
fn a_loop_that_leads_to_freed_memory_has_lost_its_frames() {
    let table = tables().into_iter().find(|table| table.minor == (3, 11)).unwrap();
    let mut fake = Fake::new(table);
    let code = fake.code("outer");
    let interpreter = fake.interpreter(0);
    let outer = fake.frame(code, 3, Address(0));
    fake.state(interpreter, 1, &[Address(0x6000_0000_0000), outer]);
    let walked = walk(&fake.found(), &[], &fake.image());
    assert_eq!(walked.python.states[0].frames.len(), 1);
    let lost = walked.diagnostics.iter().find(|diagnostic| diagnostic.code == "python-frames-lost").unwrap();
    assert_eq!(lost.severity, Severity::LOSS);
}
