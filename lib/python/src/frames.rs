//! One thread's chain of frames.

use crate::chain::{Chain, ChainError, Cycles, Loop};
use crate::chunks::Chunks;
use crate::code::{CodeError, Codes};
use crate::layout::{Layout, Offsets, Runs};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{AnchorKind, FrameChainEnd, FrameOwner, PythonFrame, PythonRun};

mod ahead;
mod objects;
mod thrown;

pub(crate) use ahead::Ahead;

/// How many frames one thread may have. Python's own limit is 1,000; people raise it to a few hundred thousand.
const FRAMES_OF_A_THREAD: usize = 1_000_000;

/// For so many frames of a thread room is made at once.
const ROOM: usize = 64;

/// How many frames a walk goes through in all, hidden ones included.
pub(crate) const FRAMES_IN_ALL: usize = 1_000_000;

/// How much of one frame's locals and evaluation stack is read, in words.
const WORDS_OF_A_FRAME: u64 = 64 << 10;

/// How far behind its `_PyCFrame` an evaluation loop keeps the frame that it was entered with: it ends after 184 bytes in one 3.12.1.
const BEYOND_CFRAME: u64 = 192;

/// How many evaluation loops a thread can be entering at once; no more than one has been seen.
const ENTERED_AT_ONCE: usize = 2;

/// What walks frames; it keeps what threads share.
pub(crate) struct Frames<'a> {
    layout: &'a Layout,
    /// The memory that threads change when they call and return.
    memory: &'a dyn Memory,
    /// The same process's, for what they have in common.
    shared: &'a dyn Memory,
    chunks: Chunks<'a>,
    pub(crate) codes: Codes<'a>,
    /// What the thread's outermost frame leads to: null, or from 3.15 on a frame that runs nothing and lies on no stack.
    base: Address,
    /// The type of frame objects, once one was met.
    frame_type: Option<Address>,
    /// How many words of values the last frame object had.
    frame_words: u64,
    /// How many frames may still come.
    left: usize,
    /// How many the last thread had: those of a pool all have the same.
    usual: usize,
}

/// A frame's fields.
struct Raw {
    previous: Address,
    code: Address,
    instruction: Address,
    /// How many locals and temporaries it has, by its own account, which is stale or none at all while it runs.
    values: u64,
    /// Which copy of the instructions it runs.
    copy: Option<u32>,
    owner: u8,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(layout: &'a Layout, memory: &'a dyn Memory) -> Frames<'a> {
        Frames::apart(layout, memory, memory)
    }

    /// The same with a memory of its own for what a thread changes when it calls and returns: its frames and what links
    /// them. Code and types are read from `shared`.
    pub(crate) fn apart(layout: &'a Layout, memory: &'a dyn Memory, shared: &'a dyn Memory) -> Frames<'a> {
        Frames {
            layout,
            memory,
            shared,
            chunks: Chunks::new(&layout.offsets, memory),
            codes: Codes::new(layout, shared),
            base: Address::default(),
            frame_type: None,
            frame_words: 0,
            left: FRAMES_IN_ALL,
            usual: 0,
        }
    }

    /// The frames of the thread whose state lies at `address` and has these bytes.
    pub(crate) fn walk(&mut self, address: Address, thread: &[u8]) -> Chain {
        let mut chain = Chain::default();
        self.chunks.start(thread);
        self.base = self.layout.offsets.thread_base_frame.address(thread).unwrap_or_default();
        let result = self.fill(&mut chain, address, thread);
        chain.end = match &result {
            Ok(()) => FrameChainEnd::COMPLETE,
            Err(ChainError::Read(error) | ChainError::Code { error: CodeError::Read(error), .. }) => end_for(*error),
            Err(
                ChainError::Code { .. }
                | ChainError::NoFrame(_)
                | ChainError::Entering
                | ChainError::Cut(_)
                | ChainError::Unlinked(_),
            ) => FrameChainEnd::INVALID,
            Err(ChainError::Loop(_)) => FrameChainEnd::LOOP,
            Err(ChainError::TooMany(_)) => FrameChainEnd::FRAME_LIMIT,
        };
        if let Err(error) = result {
            chain.problem = Some(error.to_string());
        }
        self.part_thrown_through(&mut chain, thread);
        // All threads' are kept until the last is walked.
        chain.frames.shrink_to_fit();
        self.usual = chain.frames.len().min(ROOM);
        chain
    }

    fn fill(&mut self, chain: &mut Chain, address: Address, thread: &[u8]) -> Result<(), ChainError> {
        let offsets = &self.layout.offsets;
        if let Runs::FrameObjects { instruction_unit, own_line, throwing_unlinks } = self.layout.semantics.runs {
            let reckoning = objects::Reckoning { instruction_unit, own_line, throwing_unlinks };
            return self.follow_objects(chain, thread, reckoning);
        }
        let loops = match offsets.thread_cframe.address(thread) {
            Some(cframe) => self.loops(cframe, offsets.thread_root_cframe.of(address))?,
            None => {
                let innermost = offsets.thread_current_frame.address(thread).ok_or(ChainError::NoFrame(address))?;
                vec![Loop { anchor: None, innermost }]
            }
        };
        let (first, result) = self.attempt(&loops);
        match (loops.as_slice(), &result) {
            _ if !first.contradicts(&result, loops.get(1)) => {}
            // What the only loop runs is partly lost; the rest of it is as good as any.
            ([_, Loop { anchor: None, .. }], Err(_)) if !first.frames.is_empty() => {}
            ([_, Loop { anchor: None, .. }], Err(ChainError::Cut(_))) => {}
            _ => return self.without_entered(chain, &loops, first, result),
        }
        *chain = first;
        result
    }

    /// The chain of a thread whose innermost loop does not go together with the one outside it: the chain of the loops
    /// outside, if that one is sound.
    fn without_entered(
        &mut self,
        chain: &mut Chain,
        loops: &[Loop],
        first: Chain,
        result: Result<(), ChainError>,
    ) -> Result<(), ChainError> {
        for entered in 1..=ENTERED_AT_ONCE {
            let outer = loops.get(entered..).unwrap_or_default();
            if outer.is_empty() {
                break;
            }
            let (mut next, next_result) = self.attempt(outer);
            if next_result.is_ok() && !next.contradicts(&next_result, outer.get(1)) {
                if self.layout.semantics.runs == Runs::CFrames {
                    let of_entered = loops.iter().take(entered).map(|inner| PythonRun {
                        frames: 0,
                        anchor: inner.anchor,
                        anchor_kind: AnchorKind::C_FRAME,
                    });
                    next.runs.splice(..0, of_entered);
                }
                let problem = result.as_ref().err().map(ToString::to_string);
                next.left_out = Some((first.frames.len(), problem));
                // A loop that leaves a function still leads to its frame for some instructions, whose memory may be gone by
                // then; nothing else leads to the frames that it goes back to. One that starts leads to whatever lay there.
                let freed = matches!(result, Err(ChainError::Read(_)))
                    && loops.first().is_some_and(|first| first.innermost.0 >> 16 != 0 && first.innermost.0 % 8 == 0);
                next.lost_innermost = freed || matches!(result, Err(ChainError::Cut(_)));
                *chain = next;
                return Ok(());
            }
        }
        // Something is wrong further out, which costs both; or the loop knows nothing at all yet, and what looks like its
        // frames is not to be believed.
        match result {
            Err(error) if !first.frames.is_empty() && loops.len() > 1 => {
                *chain = first;
                Err(error)
            }
            _ => Err(ChainError::Entering),
        }
    }

    fn attempt(&mut self, loops: &[Loop]) -> (Chain, Result<(), ChainError>) {
        let of_root = loops.first().is_none_or(|first| first.anchor.is_none());
        let mut chain = Chain::new(of_root);
        chain.frames.reserve_exact(self.usual);
        let innermost = loops.first().map(|first| first.innermost).unwrap_or_default();
        let result = self.follow(&mut chain, innermost, loops);
        (chain, result)
    }

    /// Follows the chain from `first` on, which the first of `loops` runs.
    fn follow(&mut self, chain: &mut Chain, first: Address, loops: &[Loop]) -> Result<(), ChainError> {
        let delimits = self.layout.semantics.runs == Runs::CFrames;
        let mut loops = loops.iter().peekable();
        let mut current = loops.next();
        let result = self.follow_frames(chain, first, |chain, address| {
            // The outer loop's innermost frame: the loop inside it ends before.
            while let Some(outer) = loops.next_if(|outer| outer.innermost == address) {
                if delimits {
                    chain.close_run(current.and_then(|inner| inner.anchor), AnchorKind::C_FRAME);
                }
                current = Some(outer);
                chain.met_outer = true;
            }
        });
        // Loops that no frame led to: they are just being entered or left. The root is no loop.
        for run in current.into_iter().chain(loops).filter(|run| delimits && run.anchor.is_some()) {
            chain.close_run(run.anchor, AnchorKind::C_FRAME);
        }
        if chain.unassigned() > 0 {
            chain.close_run(None, AnchorKind::default());
        }
        result
    }

    fn follow_frames(
        &mut self,
        chain: &mut Chain,
        first: Address,
        mut at: impl FnMut(&mut Chain, Address),
    ) -> Result<(), ChainError> {
        let mut cycles = Cycles::default();
        let mut address = first;
        let mut without_shim = None;
        let mut last = first;
        while !address.is_null() && address != self.base {
            if chain.frames.len() >= FRAMES_OF_A_THREAD || self.left == 0 {
                return Err(ChainError::TooMany(chain.frames.len()));
            }
            self.left -= 1;
            last = address;
            if cycles.found_at(address) {
                chain.forget_repetition();
                return Err(ChainError::Loop(address));
            }
            at(chain, address);
            let frame = self.read(address)?;
            match self.layout.semantics.runs {
                Runs::Shims { owner } if owner == frame.owner => {
                    chain.close_run(Some(address), AnchorKind::SHIM_FRAME);
                    without_shim = None;
                    address = frame.previous;
                    continue;
                }
                // Not there yet, or not any more.
                _ if self.chunks.is_free(address) => {}
                _ => self.add(chain, address, &frame)?,
            }
            without_shim = Some(address);
            address = frame.previous;
        }
        // Where one frame is below them all, no other is the outermost.
        let without_base = (address != self.base && !last.is_null()).then_some(last);
        match (without_shim.or(without_base), self.layout.semantics.runs) {
            // Below the outermost frame there is a shim. A generator has no caller an instruction before the interpreter
            // takes it for what runs, or after; a new frame may not have one yet.
            (Some(last), Runs::Shims { .. }) => Err(ChainError::Cut(last)),
            _ => Ok(()),
        }
    }

    /// Adds a frame to the chain, unless Python would not show it.
    fn add(&mut self, chain: &mut Chain, address: Address, frame: &Raw) -> Result<(), ChainError> {
        let code_error = |error| ChainError::Code { frame: address, error };
        let (id, code) = self.codes.get(frame.code).map_err(code_error)?;
        let (length, first_traceable, locals) = (code.length, code.first_traceable, code.locals);
        // One unit before the first instruction is what a frame of 3.11 and 3.12 starts with.
        let instructions = self.codes.instructions(id, frame.copy).map_err(code_error)?;
        let offset = frame.instruction.0.wrapping_sub(instructions.0) as i64;
        if !(-2..i64::try_from(length).unwrap_or(i64::MAX)).contains(&offset) {
            return Err(ChainError::NoFrame(address));
        }
        let complete = frame.owner == self.layout.semantics.generator_owner
            || offset >= i64::try_from(first_traceable).unwrap_or(i64::MAX);
        self.keep_values(address, frame, locals);
        if !complete {
            // _PyFrame_IsIncomplete: it is just being made, or it is the interpreter's own (the one that checks what
            // __init__ returns).
            chain.being_made |= chain.frames.is_empty() && chain.runs.is_empty();
            return Ok(());
        }
        let location = self.codes.location(id, offset);
        chain.frames.push(PythonFrame {
            address,
            code: self.codes.show(id),
            owner: FrameOwner(frame.owner.into()),
            instruction: u32::try_from(offset).ok(),
            line: location.line,
            end_line: location.end_line,
            column: location.column,
            end_column: location.end_column,
        });
        Ok(())
    }

    fn read(&mut self, address: Address) -> Result<Raw, ChainError> {
        let offsets = &self.layout.offsets;
        let no_frame = ChainError::NoFrame(address);
        let Some(size) = offsets.frame_locals.get() else { return Err(no_frame) };
        let tags = self.layout.semantics.reference_tags;
        let raw = |bytes: &[u8]| {
            Some(Raw {
                previous: offsets.frame_previous.address(bytes)?,
                code: Address(offsets.frame_code.u64(bytes)? & !tags),
                instruction: offsets.frame_instruction.address(bytes)?,
                values: values(offsets, address, bytes),
                copy: offsets.frame_code_copy.u32(bytes),
                owner: offsets.frame_owner.u8(bytes)?,
            })
        };
        let frame = match self.chunks.get(address, size) {
            Some(bytes) => raw(bytes),
            None => raw(&self.memory.read_bytes(address, size, WORDS_OF_A_FRAME)?),
        };
        frame.ok_or(no_frame)
    }

    /// Has the locals and the evaluation stack read, where they were not with the chunk: see [`Chunks`].
    fn keep_values(&mut self, address: Address, frame: &Raw, locals: u64) {
        let Some(values) = self.layout.offsets.frame_locals.of(address) else { return };
        let words = frame.values.max(locals).min(WORDS_OF_A_FRAME);
        if self.chunks.get(values, words * 8).is_none() {
            // Nothing shown depends on it.
            let _ = self.memory.read_bytes(values, words * 8, WORDS_OF_A_FRAME * 8);
        }
    }

    /// The evaluation loops by their `_PyCFrame`s, innermost first and with the root: all of them where they delimit runs,
    /// else only those that tell where the innermost frame is.
    fn loops(&self, first: Address, root: Option<Address>) -> Result<Vec<Loop>, ChainError> {
        let offsets = &self.layout.offsets;
        let size = offsets.cframe_size.get().unwrap_or(0);
        let limit = match self.layout.semantics.runs {
            Runs::CFrames => FRAMES_OF_A_THREAD,
            Runs::Shims { .. } | Runs::FrameObjects { .. } => ENTERED_AT_ONCE + 2,
        };
        let mut loops = Vec::new();
        let mut cycles = Cycles::default();
        let mut address = first;
        while !address.is_null() && loops.len() < limit && !cycles.found_at(address) {
            let cframe = match self.memory.read_bytes(address, size, WORDS_OF_A_FRAME) {
                Ok(cframe) => cframe,
                // Frames are still right without those that could not be had; where runs end is then not known.
                Err(_) if !loops.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            let innermost = offsets.cframe_current_frame.address(&cframe).ok_or(ChainError::NoFrame(address))?;
            // The root is in the thread state: there is no loop, and no frame on the C stack.
            let is_root = Some(address) == root;
            loops.push(Loop { anchor: (!is_root).then_some(address), innermost });
            if is_root {
                break;
            }
            address = offsets.cframe_previous.address(&cframe).ok_or(ChainError::NoFrame(address))?;
        }
        Ok(loops)
    }
}

/// How many locals and temporaries the frame at `address` says it has: a number up to 3.13, then a pointer past the last.
fn values(offsets: &Offsets, address: Address, frame: &[u8]) -> u64 {
    let number = || u64::try_from(offsets.frame_stack_top.i32(frame)?).ok();
    let pointer = || {
        let end = offsets.frame_stack_pointer.address(frame)?;
        Some(end.0.checked_sub(offsets.frame_locals.of(address)?.0)? / 8)
    };
    number().or_else(pointer).filter(|values| *values <= WORDS_OF_A_FRAME).unwrap_or(0)
}

fn end_for(error: ReadError) -> FrameChainEnd {
    match error {
        ReadError::NotRecorded(_) => FrameChainEnd::NOT_RECORDED,
        ReadError::Unreadable(_) => FrameChainEnd::UNREADABLE,
        ReadError::TooLong { .. } => FrameChainEnd::INVALID,
    }
}
