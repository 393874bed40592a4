#![allow(clippy::unwrap_used)]
//! Recorded answers say what the files said.

use pyst_elf::{
    Answer, Call, Calls, CfiEntry, Fallback, FileRecorder, Files, ModuleId, RecordedAnswers, RecordedFiles, SymbolHit,
};
use pyst_snapshot::Svma;
use pyst_snapshot::payload::{CfiSection, SymbolTable};

/// Functions of 0x100 bytes at every 0x1000 up to 0x9000, in any module.
struct Regular;

impl Files for Regular {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        let start = svma.0 / 0x1000 * 0x1000;
        let found = svma.0 - start < 0x100 && start <= 0x9000;
        found
            .then(|| CfiEntry {
                section: CfiSection::EH_FRAME,
                cie_svma: Svma(0x100_0000),
                cie: vec![module.0 as u8, 1],
                fde_svma: Svma(0x100_0000 + start),
                fde: vec![2; start as usize / 0x1000],
                start: Svma(start),
                end: Svma(start + 0x100),
            })
            .into()
    }

    fn symbol(&self, _: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        let start = svma.0 / 0x1000 * 0x1000;
        let name = format!("function_{start:x}").into_bytes();
        let found = svma.0 - start < 0x100 && start <= 0x9000;
        found.then_some(SymbolHit { name, svma: Svma(start), size: 0x100, table: SymbolTable::DYNSYM }).into()
    }

    /// Two calls: the line is the svma.
    fn calls(&self, _: ModuleId, svma: Svma) -> Answer<Calls> {
        let call = |name: &str| Call {
            function: Some(name.into()),
            file: Some(b"file.c".to_vec()),
            line: u32::try_from(svma.0).ok(),
        };
        let calls = Calls { calls: vec![call("inlined"), call("outer")], lacking: None };
        (svma.0 < 0x9000).then_some(calls).into()
    }
}

const QUESTIONS: [(u32, u64); 8] =
    [(1, 0x3020), (0, 0x2010), (0, 0x2020), (0, 0x2500), (1, 0x2010), (0, 0x9000), (0, 0xa000), (0, 0x2010)];

fn recorded(questions: &[(u32, u64)]) -> RecordedFiles {
    let recorder = FileRecorder::new(Regular);
    for (module, svma) in questions {
        recorder.cfi(ModuleId(*module), Svma(*svma));
        recorder.symbol(ModuleId(*module), Svma(*svma));
        recorder.calls(ModuleId(*module), Svma(*svma));
    }
    RecordedFiles::new(recorder.into_payloads())
}

#[test]
fn every_question_asked_is_answered_again() {
    let files = recorded(&QUESTIONS);
    for (module, svma) in QUESTIONS {
        let (module, svma) = (ModuleId(module), Svma(svma));
        assert_eq!(files.cfi(module, svma), Regular.cfi(module, svma));
        assert_eq!(files.symbol(module, svma), Regular.symbol(module, svma));
        assert_eq!(files.calls(module, svma), Regular.calls(module, svma));
    }
}

#[test]
fn an_entry_answers_for_all_that_it_covers_and_for_nothing_else() {
    let files = recorded(&QUESTIONS);
    for svma in [0x2000, 0x20ff] {
        assert_eq!(files.cfi(ModuleId(0), Svma(svma)), Regular.cfi(ModuleId(0), Svma(svma)));
        assert_eq!(files.symbol(ModuleId(0), Svma(svma)), Regular.symbol(ModuleId(0), Svma(svma)));
    }
    for (module, svma) in [(0, 0x2100), (0, 0x1fff), (0, 0x2501), (0, 0x3020), (2, 0x2010)] {
        assert_eq!(files.cfi(ModuleId(module), Svma(svma)), Answer::NotRecorded);
        assert_eq!(files.symbol(ModuleId(module), Svma(svma)), Answer::NotRecorded);
    }
}

#[test]
fn what_is_recorded_does_not_depend_on_the_order_of_the_questions() {
    let payloads = |questions: &[(u32, u64)]| {
        let recorder = FileRecorder::new(Regular);
        for (module, svma) in questions {
            recorder.symbol(ModuleId(*module), Svma(*svma));
            recorder.cfi(ModuleId(*module), Svma(*svma));
        }
        let RecordedAnswers { unwind, symbols, .. } = recorder.into_payloads();
        (unwind, symbols)
    };
    let mut reversed = QUESTIONS;
    reversed.reverse();
    let (unwind, symbols) = payloads(&QUESTIONS);
    assert_eq!((unwind.clone(), symbols.clone()), payloads(&reversed));
    assert_eq!((unwind.cies.len(), unwind.fdes.len(), unwind.absent.len()), (2, 4, 2));
    assert_eq!((symbols.symbols.len(), symbols.answers.len()), (3, 7), "two modules share a symbol's entry");
}

#[test]
fn a_fallback_is_asked_only_where_nothing_was_recorded() {
    let files = Fallback(recorded(&[(0, 0x2500)]), Regular);
    assert_eq!(files.cfi(ModuleId(0), Svma(0x2500)), Answer::Absent);
    assert_eq!(files.cfi(ModuleId(0), Svma(0x3000)), Regular.cfi(ModuleId(0), Svma(0x3000)));
    assert_eq!(files.symbol(ModuleId(0), Svma(0x3000)), Regular.symbol(ModuleId(0), Svma(0x3000)));
    // An answer that is not recorded stays so when it is asked through a recorder.
    let recorder = FileRecorder::new(RecordedFiles::default());
    assert_eq!(recorder.symbol(ModuleId(0), Svma(1)), Answer::NotRecorded);
    assert_eq!(recorder.calls(ModuleId(0), Svma(1)), Answer::NotRecorded);
    assert_eq!(recorder.into_payloads(), RecordedAnswers::default());
}

#[test]
fn answers_that_contradict_themselves_are_left_out() {
    let recorder = FileRecorder::new(Regular);
    recorder.cfi(ModuleId(0), Svma(0x2000));
    recorder.symbol(ModuleId(0), Svma(0x2000));
    recorder.calls(ModuleId(0), Svma(0x2000));
    let mut answers = recorder.into_payloads();
    answers.unwind.fdes[0].cie = 77;
    answers.symbols.answers[0].symbol = Some(u32::MAX);
    answers.calls.answers[0].calls[0].function = Some(u32::MAX);
    let files = RecordedFiles::new(answers);
    let Answer::Found(calls) = files.calls(ModuleId(0), Svma(0x2000)) else { panic!("there are calls") };
    assert_eq!((calls.calls[0].function.as_ref(), calls.calls[0].line), (None, Some(0x2000)));
    assert_eq!(files.cfi(ModuleId(0), Svma(0x2000)), Answer::NotRecorded);
    assert_eq!(files.symbol(ModuleId(0), Svma(0x2000)), Answer::NotRecorded);
}
