use super::*;
use crate::task::Begins;
use pyst_snapshot::payload::{Capture, Diagnostics, Severity, Thread, Threads};
use pyst_snapshot::payload::{Diagnostic, Stage};
use pyst_snapshot::{Payload, RawSection, SectionFlags, SectionKind, StreamReader, Tid, write_snapshot};
use std::cell::{Cell, RefCell};
use std::io::BufWriter;
use std::rc::Rc;

const READS: [SectionKind; 3] = [SectionKind::THREADS, SectionKind::RUNTIME, SectionKind::MEMORY];
const TASK: Task = Task {
    stage: Stage::PY,
    tool: "pyst-py",
    adds: "Python frames",
    reads: &READS,
    writes: &[SectionKind::PYTHON, SectionKind::VARIABLES],
    begins: Begins::Early,
};
const LATE: Task = Task { begins: Begins::AtTheEnd, ..TASK };

fn section(kind: SectionKind, payload: &[u8]) -> RawSection {
    RawSection { kind, flags: SectionFlags::default(), version: 1, payload: payload.to_vec() }
}

fn threads(tid: u32) -> RawSection {
    RawSection::of(&Threads { threads: vec![Thread { tid: Tid(tid), ..Thread::default() }] }).unwrap()
}

fn said(stage: Stage, severities: &[Severity]) -> RawSection {
    let items = severities.iter().map(|severity| Diagnostic::new(*severity, "code", "words")).collect();
    RawSection::of(&Diagnostics { stage, items }).unwrap()
}

fn stream(sections: &[RawSection]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot(&Snapshot { sections: sections.to_vec(), ..Snapshot::default() }, &mut bytes).unwrap();
    bytes
}

/// What `pyst-grab` writes, in its order.
fn grabbed() -> Vec<RawSection> {
    vec![
        RawSection::of(&Capture { tool: "pyst-grab 1.0.0".into(), ..Capture::default() }).unwrap(),
        RawSection::of(&Process::default()).unwrap(),
        threads(7),
        section(SectionKind::MAPS, b"maps"),
        section(SectionKind::RUNTIME, b"runtime"),
        section(SectionKind::SOURCE, &[b's'; 20_000]),
        section(SectionKind::MEMORY, b"memory 1"),
        section(SectionKind::MEMORY, b"memory 2"),
        said(Stage::GRAB, &[Severity::INFO]),
    ]
}

/// The same as `pyst-unwind` passes it on.
fn unwound() -> Vec<RawSection> {
    let more = [section(SectionKind::NATIVE, b"native"), said(Stage::UNWIND, &[Severity::LOSS])];
    grabbed().into_iter().chain(more).collect()
}

/// Some work that depends on everything that is read.
fn work(snapshot: &Snapshot, adding: &mut Adding<'_>) {
    let mut all = Vec::new();
    for kind in READS {
        snapshot.raw(kind).for_each(|section| all.extend(section.payload.iter().chain(b"|")));
    }
    // In two sections.
    let (first, second) = all.split_at(all.len() / 2);
    [first, second].into_iter().for_each(|part| adding.put(section(SectionKind::PYTHON, part)));
    adding.diagnostics.push(Diagnostic::new(Severity::LOSS, "lost", "something"));
}

/// A stage as simple as can be: every snapshot is read whole, worked on, and written whole.
fn one_after_the_other(input: &[u8]) -> (Vec<u8>, Exit) {
    let (mut out, mut outcome) = (Vec::new(), Outcome::default());
    for mut snapshot in crate::snapshots::<Snapshot>(input) {
        let own =
            |section: &RawSection| Diagnostics::decode(1, &section.payload).is_ok_and(|own| own.stage == Stage::PY);
        snapshot.sections.retain(|section| section.kind != SectionKind::DIAGNOSTICS || !own(section));
        let defects = snapshot.defect_diagnostics();
        if !defects.is_empty() {
            snapshot.append(&Diagnostics { stage: Stage::STREAM, items: defects }).unwrap();
        }
        let all = crate::diagnostics_of(&snapshot);
        if all.iter().all(|(_, diagnostic)| diagnostic.severity != Severity::FAILURE) {
            let mut sections = Vec::new();
            let mut put = |section| sections.push(section);
            let mut adding = Adding::to(&mut put);
            work(&snapshot, &mut adding);
            let diagnostics = adding.diagnostics;
            snapshot.sections.retain(|earlier| sections.iter().all(|section| section.kind != earlier.kind));
            snapshot.sections.extend(sections);
            snapshot.append(&Diagnostics { stage: Stage::PY, items: diagnostics }).unwrap();
        }
        write_snapshot(&snapshot, &mut out).unwrap();
        outcome.add(crate::diagnostics_of(&snapshot).iter().map(|(_, diagnostic)| diagnostic));
    }
    (out, outcome.exit())
}

/// A pipe with a stage between: what it wrote, its exit status, and how often it worked.
fn staged(task: &Task, input: &[u8]) -> (Vec<u8>, Exit, usize) {
    let (mut out, mut times) = (Vec::new(), 0);
    let counted = |snapshot: &Snapshot, adding: &mut Adding<'_>| {
        times += 1;
        let read = snapshot.sections.iter().all(|section| {
            READS.contains(&section.kind) || [SectionKind::CAPTURE, SectionKind::PROCESS].contains(&section.kind)
        });
        assert!(read, "more is kept than is needed");
        work(snapshot, adding);
    };
    let outcome = pass_all(task, input, &mut out, &OutputArgs::default(), false, counted).unwrap();
    (out, outcome.exit(), times)
}

/// Checks that the outcome is what it would be if all were read first, whenever the work begins; how often there was work that
/// began early.
fn same(input: &[u8]) -> usize {
    let expected = one_after_the_other(input);
    let times = [&LATE, &TASK].map(|task| {
        let (out, exit, times) = staged(task, input);
        assert!(out == expected.0, "{task:?}");
        assert_eq!(exit, expected.1, "{task:?}");
        times
    });
    times[1]
}

#[test]
fn what_comes_of_it_is_the_same_as_if_all_were_read_first() {
    for sections in [grabbed(), unwound()] {
        assert_eq!(same(&stream(&sections)), 1);
        let (once, _, _) = staged(&TASK, &stream(&sections));
        assert_eq!(same(&once), 1);
        assert!(staged(&TASK, &once).0 == once, "a stage that runs again changes nothing");
    }
    assert_eq!(same(&[stream(&grabbed()), stream(&unwound()), stream(&[]), stream(&grabbed())].concat()), 4);
    // Nobody says that all is there.
    assert_eq!(same(&stream(&grabbed()[..8])), 1);
}

#[test]
fn a_failure_leaves_nothing_to_add_to_whenever_it_comes() {
    let failure = said(Stage::UNWIND, &[Severity::FAILURE]);
    assert_eq!(same(&stream(&[grabbed(), vec![failure.clone()]].concat())), 1);
    assert_eq!(same(&stream(&[vec![failure.clone()], grabbed()].concat())), 0);
    assert_eq!(same(&stream(&[vec![failure], staged_sections(&grabbed())].concat())), 0);
    let unknown = RawSection { flags: SectionFlags::CRITICAL, ..section(SectionKind(4242), b"") };
    assert_eq!(same(&stream(&[grabbed(), vec![unknown.clone()]].concat())), 1);
    assert_eq!(same(&stream(&[vec![unknown], grabbed()].concat())), 0);
    // What this stage said before does not count.
    assert_eq!(same(&stream(&[vec![said(Stage::PY, &[Severity::FAILURE])], grabbed()].concat())), 1);
}

fn staged_sections(sections: &[RawSection]) -> Vec<RawSection> {
    let (out, _, _) = staged(&TASK, &stream(sections));
    StreamReader::new(out.as_slice()).next().unwrap().unwrap().sections
}

#[test]
fn work_is_done_again_if_more_comes_that_it_depends_on() {
    for late in [threads(8), section(SectionKind::MEMORY, b"memory 3"), section(SectionKind::RUNTIME, b"")] {
        assert_eq!(same(&stream(&[unwound(), vec![late]].concat())), 2);
    }
    // However often it seems that all is there.
    let again = || [section(SectionKind::MEMORY, b"more"), said(Stage::GRAB, &[])];
    assert_eq!(same(&stream(&[grabbed(), (0..50).flat_map(|_| again()).collect()].concat())), 2);
    assert_eq!(same(&stream(&grabbed().into_iter().rev().collect::<Vec<_>>())), 2);
}

#[test]
fn of_what_this_stage_made_before_it_keeps_what_it_has_nothing_for() {
    let earlier = [section(SectionKind::PYTHON, b"old"), section(SectionKind::VARIABLES, b"old variables")];
    let kinds: Vec<_> = staged_sections(&[&earlier[..], &grabbed()].concat())
        .iter()
        .filter(|section| TASK.writes.contains(&section.kind))
        .map(|section| (section.kind, section.payload.starts_with(b"old")))
        .collect();
    let new = (SectionKind::PYTHON, false);
    assert_eq!(kinds, [new, new, (SectionKind::VARIABLES, true)]);
    // Of those of a kind the first counts, so it stays the first.
    let failure = said(Stage::GRAB, &[Severity::FAILURE]);
    let [first, second] = ["1", "2"].map(|payload| section(SectionKind::PYTHON, payload.as_bytes()));
    let kept = staged_sections(&[first.clone(), failure, second.clone()]);
    assert_eq!(kept[1..], [first, second]);
}

#[test]
fn every_cut_and_all_damage_end_as_if_all_were_read_first() {
    let bytes = [stream(&unwound()), stream(&grabbed())].concat();
    for cut in (0..bytes.len()).filter(|cut| cut % 97 == 0 || bytes.len() - cut < 60) {
        same(&bytes[..cut]);
    }
    for at in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        same(&damaged);
    }
    for other in [&b"\x1f\x8b\x08 and so on"[..], b"text", b"\x89PYS"] {
        assert_eq!(same(other), 0);
        same(&[&bytes, other].concat());
    }
}

/// Written to by the stage, and looked at while it runs.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An input that comes in pieces.
struct Watched<'a> {
    pieces: Vec<Vec<u8>>,
    /// Called before each piece is waited for, with how many came before.
    before: Box<dyn FnMut(usize) + 'a>,
    asked: Option<usize>,
    given: usize,
    failure: Option<std::io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.asked.replace(self.given) != Some(self.given) {
            (self.before)(self.given);
        }
        let Some(piece) = self.pieces.get(self.given) else { return self.failure.take().map_or(Ok(0), Err) };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        if count == piece.len() {
            self.given += 1;
        } else {
            self.pieces[self.given].drain(..count);
        }
        Ok(count)
    }
}

#[test]
fn the_next_tool_has_all_there_is_before_the_work_and_the_work_does_not_wait_for_the_end() {
    let out = Shared::default();
    let (grabbed, whole) = (stream(&grabbed()), stream(&unwound()));
    // Without END.
    let before_work = grabbed.len() - 24;
    let times = Cell::new(0);
    let input = Watched {
        pieces: vec![whole[..before_work].to_vec(), whole[before_work..].to_vec(), grabbed.clone()],
        before: Box::new(|given| {
            if given == 1 {
                assert_eq!(times.get(), 1, "the end has not come, and all that the work needs has");
            }
            if given == 2 {
                let out = out.0.borrow();
                let read: Vec<_> = StreamReader::new(out.as_slice()).map(Result::unwrap).collect();
                assert!(read.len() == 1 && read[0].defects.is_empty(), "the first is whole before the second comes");
            }
        }),
        asked: None,
        given: 0,
        failure: None,
    };
    let working = |snapshot: &Snapshot, adding: &mut Adding<'_>| {
        if times.get() == 0 {
            assert!(*out.0.borrow() == whole[..before_work], "the next tool has not all that there is");
        }
        times.set(times.get() + 1);
        work(snapshot, adding);
    };
    let mut buffered = BufWriter::new(out.clone());
    pass_all(&TASK, input, &mut buffered, &OutputArgs::default(), false, working).unwrap();
    let expected = one_after_the_other(&[whole.clone(), grabbed].concat()).0;
    assert!(*out.0.borrow() == expected);
}

#[test]
fn what_is_made_at_the_end_is_on_its_way_before_the_next_is_made() {
    let out = Shared::default();
    let working = |_: &Snapshot, adding: &mut Adding<'_>| {
        for text in [&b"first"[..], b"second"] {
            adding.put(section(SectionKind::PYTHON, text));
            assert!(out.0.borrow().ends_with(text));
        }
    };
    let mut buffered = BufWriter::new(out.clone());
    pass_all(&LATE, &stream(&grabbed())[..], &mut buffered, &OutputArgs::default(), false, working).unwrap();
}

#[test]
fn an_output_that_breaks_while_there_is_work_is_an_error() {
    struct Breaks(usize);
    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (grabbed, whole) = (stream(&grabbed()), staged(&LATE, &stream(&grabbed())).0);
    for length in grabbed.len() - 24..whole.len() {
        let output = OutputArgs::default();
        let error = pass_all(&LATE, &grabbed[..], &mut Breaks(length), &output, false, work).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error:#}");
    }
}

#[test]
fn an_input_that_fails_is_a_failure_and_the_snapshot_is_whole_all_the_same() {
    let bytes = stream(&unwound());
    let failure = Some(std::io::Error::other("the disk is gone"));
    let pieces = vec![bytes[..bytes.len() - 30].to_vec()];
    let input = Watched { pieces, before: Box::new(|_| {}), asked: None, given: 0, failure };
    let mut out = Vec::new();
    let outcome = pass_all(&TASK, input, &mut out, &OutputArgs::default(), false, work).unwrap();
    assert_eq!(outcome.exit(), Exit::Failed);
    let snapshot = StreamReader::new(out.as_slice()).next().unwrap().unwrap();
    assert_eq!(snapshot.defects, []);
    assert!(snapshot.raw(SectionKind::PYTHON).next().is_none());
    let (stage, last) = crate::diagnostics_of(&snapshot).pop().unwrap();
    assert_eq!((stage, last.code.as_str()), (Stage::STREAM, "read-failed"));
}
