//! What the threads of a program say of themselves, read while none of them runs.

use super::program::{Call, Function, Program, SLOTS};
use anyhow::{Result, bail, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// How many words a thread's record has.
const WORDS: usize = 8192;

/// The words before the frames.
const HEAD: usize = 8;

/// A thread's record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its stack has at least so many frames,
    pub(crate) sure: usize,
    /// and at most so many.
    pub(crate) possible: usize,
    pub(crate) ident: u64,
    pub(crate) tid: u64,
    /// Whether it counts: a thread works by it.
    pub(crate) live: bool,
    /// Of the frames from this one on, some that await others may be missing.
    pub(crate) unlinked: Option<usize>,
    /// Outermost first.
    pub(crate) frames: Vec<Recorded>,
}

/// A frame of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) function: usize,
    /// Where it calls the next one; 0 where that is known only to be among `lines`.
    pub(crate) call: u32,
    /// Where it is while it calls none.
    pub(crate) lines: (u32, u32),
}

/// A frame as pyst found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) first_line: Option<u32>,
    pub(crate) line: Option<u32>,
    pub(crate) instruction: Option<u32>,
}

/// An instruction: the function's name, its first line, the offset.
pub(crate) type Instruction = (String, u32, u32);

impl From<pyst_tests::Frame> for Found {
    /// Reports do not say all.
    fn from(frame: pyst_tests::Frame) -> Found {
        let pyst_tests::Frame { function, file, line, .. } = frame;
        Found { function, file, line, first_line: None, instruction: None }
    }
}

/// The size of the file of records.
pub(crate) fn size() -> u64 {
    (SLOTS * WORDS * 8) as u64
}

/// The records in `file`.
pub(crate) fn read(file: &File) -> Result<Vec<Record>> {
    let words = |slot: usize, first: usize, count: usize| -> Result<Vec<u64>> {
        let mut bytes = vec![0; count * 8];
        file.read_exact_at(&mut bytes, ((slot * WORDS + first) * 8) as u64)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    };
    let record = |slot| {
        let head = words(slot, 0, HEAD)?;
        let [sure, possible, _, ident, tid, state, thrown, _] = head[..] else { bail!("a short record") };
        let (sure, possible) = (usize::try_from(sure)?, usize::try_from(possible)?);
        ensure!(possible <= WORDS - HEAD, "the program is too deep for its record");
        let frames = words(slot, HEAD, possible.max(sure))?;
        let frames = frames.iter().map(|word| Recorded {
            function: (word >> 48) as usize,
            call: (word >> 32 & 0xffff) as u32,
            lines: ((word >> 16 & 0xffff) as u32, (word & 0xffff) as u32),
        });
        let unlinked = usize::try_from(thrown).ok().filter(|count| *count > 0);
        Ok(Record { sure, possible, ident, tid, live: state == 1, unlinked, frames: frames.collect() })
    };
    (0..SLOTS).map(record).collect()
}

/// The programs' side of a comparison: what may stand where.
pub(crate) struct Judge<'a> {
    pub(crate) program: &'a Program,
    /// The program's file, as the target names it.
    pub(crate) file: &'a str,
    /// Instructions that have no line, by the interpreter's own word.
    pub(crate) without_line: Vec<Instruction>,
}

impl Judge<'_> {
    /// Whether a stack, outermost frame first, is what its thread has recorded.
    pub(crate) fn exact(&self, record: &Record, found: &[Found]) -> Result<()> {
        if let Some(linked) = record.unlinked {
            return self.without_some(record, linked, found);
        }
        let count = found.len();
        let (sure, possible) = (record.sure, record.possible.max(record.sure));
        ensure!((sure..=possible).contains(&count), "{count} frames, and not {sure} to {possible}");
        for (index, (frame, recorded)) in found.iter().zip(&record.frames).enumerate() {
            ensure!(self.is(frame, recorded.function), "frame {index} is not {}", self.name(recorded.function));
            let line = frame.line.unwrap_or_default();
            let innermost = index + 1 == count;
            if !innermost && recorded.call > 0 {
                ensure!(line == recorded.call, "frame {index} is in line {line}, and calls in {}", recorded.call);
            } else {
                let leaving = self.program.functions[recorded.function].leaving;
                let within = |(first, last)| (first..=last).contains(&line);
                let lines = recorded.lines;
                ensure!(
                    self.has_no_line(frame) || within(lines) || within(leaving),
                    "frame {index} is in line {line}, and not in {lines:?}"
                );
            }
        }
        Ok(())
    }

    /// Whether a stack has the first `linked` frames, and then some of the others in their order.
    fn without_some(&self, record: &Record, linked: usize, found: &[Found]) -> Result<()> {
        ensure!(found.len() >= linked, "{} frames, and not {linked}", found.len());
        let (below, above) = record.frames.split_at(linked.min(record.frames.len()));
        for (index, (frame, recorded)) in found.iter().zip(below).enumerate() {
            ensure!(self.is(frame, recorded.function), "frame {index} is not {}", self.name(recorded.function));
        }
        let mut rest = above.iter();
        for frame in &found[linked..] {
            let known = rest.any(|recorded| self.is(frame, recorded.function));
            ensure!(known, "{} is not among what is thrown into", frame.function);
        }
        Ok(())
    }

    /// Whether what is shown of a stack that is said to be cut is at least a part of it.
    pub(crate) fn part(&self, record: &Record, found: &[Found]) -> Result<()> {
        let all = &record.frames;
        let same = |part: &[Recorded]| part.iter().zip(found).all(|(recorded, one)| self.is(one, recorded.function));
        let somewhere = all.windows(found.len().max(1)).any(same);
        ensure!(found.is_empty() || somewhere, "{} frames that are no part of it", found.len());
        Ok(())
    }

    /// Whether each frame of a stack calls the next, by the program's text.
    pub(crate) fn plausible(&self, found: &[Found]) -> Result<()> {
        let mut callers: Vec<usize> = Vec::new();
        for (index, frame) in found.iter().enumerate() {
            let candidates: Vec<usize> = (0..self.program.functions.len()).filter(|id| self.is(frame, *id)).collect();
            let line = index.checked_sub(1).and_then(|before| found[before].line).unwrap_or_default();
            let calls = |call: Call| self.program.calls.contains(&call);
            let called = |id: &usize| callers.iter().any(|caller| calls((*caller, line, *id)));
            let outermost = |id: &usize| ["worker", "<module>"].contains(&self.name(*id));
            callers = match index {
                0 => candidates.into_iter().filter(outermost).collect(),
                _ => candidates.into_iter().filter(called).collect(),
            };
            ensure!(!callers.is_empty(), "frame {index} is not called by the one before it, in line {line}");
        }
        Ok(())
    }

    fn has_no_line(&self, frame: &Found) -> bool {
        let is_it = |(function, first_line, offset): &Instruction| {
            *function == frame.function
                && frame.first_line.is_none_or(|line| line == *first_line)
                && frame.instruction.is_none_or(|instruction| instruction == *offset)
        };
        frame.line.is_none() && self.without_line.iter().any(is_it)
    }

    fn name(&self, function: usize) -> &str {
        self.program.functions.get(function).map_or("?", |function| &function.name)
    }

    fn is(&self, found: &Found, function: usize) -> bool {
        let Some(Function { name, file, lines, .. }) = self.program.functions.get(function) else { return false };
        let file = file.as_deref().unwrap_or(self.file);
        found.function == *name && found.file == file && found.first_line.is_none_or(|line| line == lines.0)
    }
}

/// One of three functions, `f0` to `f2`, of ten lines each.
#[cfg(test)]
fn found(index: u32, line: u32) -> Found {
    let function = format!("f{index}");
    Found { function, file: "p.py".to_owned(), first_line: Some(index * 10 + 1), line: Some(line), instruction: None }
}

#[test]
fn a_record_tells_a_right_stack_from_a_wrong_one() {
    let function = |index: u32| Function {
        name: format!("f{index}"),
        file: None,
        lines: (index * 10 + 1, index * 10 + 10),
        leaving: (index * 10 + 9, index * 10 + 10),
    };
    let functions = (0..3).map(function).collect();
    let calls = [(0, 5, 1), (1, 15, 2)].into();
    let program = Program { source: String::new(), functions, calls, workers: 0 };
    let judge = Judge { program: &program, file: "p.py", without_line: Vec::new() };
    let frames = [(0, 5, (4, 7)), (1, 15, (14, 17)), (2, 0, (21, 24))];
    let frames = frames.map(|(function, call, lines)| Recorded { function, call, lines }).to_vec();
    let record = Record { sure: 2, possible: 3, ident: 1, tid: 1, live: true, unlinked: None, frames };
    let right = [found(0, 5), found(1, 15), found(2, 22)];
    judge.exact(&record, &right).unwrap();
    // Innermost, and leaving.
    judge.exact(&record, &[found(0, 5), found(1, 14)]).unwrap();
    judge.exact(&record, &[found(0, 5), found(1, 20)]).unwrap();
    let wrong = [
        vec![found(0, 5)],
        vec![found(0, 5), found(2, 22)],
        vec![found(1, 15), found(0, 5), found(2, 22)],
        vec![found(0, 5), found(1, 16), found(2, 22)],
        vec![found(0, 5), found(1, 15), found(2, 26)],
        vec![found(0, 5), found(1, 15), found(2, 22), found(2, 22)],
    ];
    for stack in wrong {
        assert!(judge.exact(&record, &stack).is_err(), "{stack:?}");
    }
    assert!(judge.part(&record, &right[1..]).is_ok());
    assert!(judge.part(&record, &[found(0, 5), found(2, 22)]).is_err());
    // What the outermost frame is, is known by its name.
    assert!(judge.plausible(&right).is_err());
}
