//! Records what is asked of files, and asks one after the other.

use crate::dwarf::{Call, Calls};
use crate::seam::{Answer, CfiEntry, Files, ModuleId, SymbolHit};
use pyst_snapshot::payload::{
    CallAnswerV1, CallAnswers, CallV1, CfiSection, CieV1, FdeV1, NoCfiV1, SymbolAnswerV1, SymbolAnswers, SymbolTable,
    SymbolV1, UnwindAnswers,
};
use pyst_snapshot::{Bytes, Svma};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Files that remember each question and its answer.
#[derive(Debug)]
pub struct FileRecorder<F> {
    inner: F,
    /// By module, section and svma of the FDE: many questions have the same answer.
    entries: RefCell<BTreeMap<(ModuleId, CfiSection, Svma), CfiEntry>>,
    absent: RefCell<BTreeSet<(ModuleId, Svma)>>,
    symbols: RefCell<BTreeMap<(ModuleId, Svma), Option<SymbolHit>>>,
    calls: RefCell<BTreeMap<(ModuleId, Svma), Calls>>,
}

/// What a recorder has heard, as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedAnswers {
    /// Of CFI.
    pub unwind: UnwindAnswers,
    /// Of symbols.
    pub symbols: SymbolAnswers,
    /// Of debug information.
    pub calls: CallAnswers,
}

impl<F: Files> FileRecorder<F> {
    /// A recorder that has heard nothing.
    pub fn new(inner: F) -> FileRecorder<F> {
        FileRecorder {
            inner,
            entries: RefCell::default(),
            absent: RefCell::default(),
            symbols: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    /// What was asked and answered, in an order that depends on nothing else. Questions that `inner` had no recorded
    /// answer to are left out.
    pub fn into_payloads(self) -> RecordedAnswers {
        RecordedAnswers {
            unwind: unwind_answers(self.entries.into_inner(), self.absent.into_inner()),
            symbols: symbol_answers(self.symbols.into_inner()),
            calls: call_answers(self.calls.into_inner()),
        }
    }
}

impl<F: Files> Files for FileRecorder<F> {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        let answer = self.inner.cfi(module, svma);
        match &answer {
            Answer::Found(entry) => {
                let key = (module, entry.section, entry.fde_svma);
                self.entries.borrow_mut().entry(key).or_insert_with(|| entry.clone());
            }
            Answer::Absent => {
                self.absent.borrow_mut().insert((module, svma));
            }
            Answer::NotRecorded => {}
        }
        answer
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        let answer = self.inner.symbol(module, svma);
        let hit = match &answer {
            Answer::Found(hit) => Some(hit.clone()),
            Answer::Absent => None,
            Answer::NotRecorded => return answer,
        };
        self.symbols.borrow_mut().insert((module, svma), hit);
        answer
    }

    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls> {
        let answer = self.inner.calls(module, svma);
        let calls = match &answer {
            Answer::Found(calls) => calls.clone(),
            Answer::Absent => Calls::default(),
            Answer::NotRecorded => return answer,
        };
        self.calls.borrow_mut().insert((module, svma), calls);
        answer
    }

    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        self.inner.prefetch_symbols(questions);
    }

    fn prefetch_calls(&self, questions: &[(ModuleId, Svma)]) {
        self.inner.prefetch_calls(questions);
    }
}

fn call_answers(answers: BTreeMap<(ModuleId, Svma), Calls>) -> CallAnswers {
    let mut indices: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut payload = CallAnswers::default();
    let mut text = |texts: &mut Vec<Bytes>, bytes: Vec<u8>| {
        let next = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        *indices.entry(bytes.clone()).or_insert_with(|| {
            texts.push(Bytes(bytes));
            next
        })
    };
    for ((module, svma), Calls { calls, lacking }) in answers {
        let mut shared = |bytes: Option<Vec<u8>>| bytes.map(|bytes| text(&mut payload.texts, bytes));
        let call = |Call { function, file, line }| CallV1 { function: shared(function), file: shared(file), line };
        let calls = calls.into_iter().map(call).collect();
        let lacking = lacking.map(|bytes| text(&mut payload.texts, bytes));
        payload.answers.push(CallAnswerV1 { module: module.0, svma, calls, lacking });
    }
    payload
}

fn unwind_answers(
    entries: BTreeMap<(ModuleId, CfiSection, Svma), CfiEntry>,
    absent: BTreeSet<(ModuleId, Svma)>,
) -> UnwindAnswers {
    let mut cies = BTreeMap::new();
    for ((module, section, _), entry) in &entries {
        cies.entry((*module, *section, entry.cie_svma)).or_insert_with(|| entry.cie.clone());
    }
    let indices: BTreeMap<_, u32> = cies.keys().copied().zip(0..).collect();
    let mut by_start: Vec<_> = entries.into_iter().collect();
    by_start.sort_by_key(|((module, section, _), entry)| (*module, entry.start, *section));
    let fde = |((module, section, _), entry): ((ModuleId, CfiSection, Svma), CfiEntry)| {
        Some(FdeV1 {
            cie: *indices.get(&(module, section, entry.cie_svma))?,
            svma: entry.fde_svma,
            start: entry.start,
            end: entry.end,
            bytes: Bytes(entry.fde),
        })
    };
    let cie = |((module, section, svma), bytes): ((ModuleId, CfiSection, Svma), Vec<u8>)| CieV1 {
        module: module.0,
        section,
        svma,
        bytes: Bytes(bytes),
    };
    UnwindAnswers {
        fdes: by_start.into_iter().filter_map(fde).collect(),
        cies: cies.into_iter().map(cie).collect(),
        absent: absent.into_iter().map(|(module, svma)| NoCfiV1 { module: module.0, svma }).collect(),
    }
}

fn symbol_answers(answers: BTreeMap<(ModuleId, Svma), Option<SymbolHit>>) -> SymbolAnswers {
    let mut indices: BTreeMap<(Vec<u8>, Svma, u64, SymbolTable), u32> = BTreeMap::new();
    let mut payload = SymbolAnswers::default();
    for ((module, svma), hit) in answers {
        let symbol = hit.map(|hit| {
            let next = u32::try_from(payload.symbols.len()).unwrap_or(u32::MAX);
            let SymbolHit { name, svma, size, table } = hit;
            *indices.entry((name.clone(), svma, size, table)).or_insert_with(|| {
                payload.symbols.push(SymbolV1 { name: Bytes(name), svma, size, table });
                next
            })
        });
        payload.answers.push(SymbolAnswerV1 { module: module.0, svma, symbol });
    }
    payload
}

/// Files that are not asked for lines and inlined functions, which cost more than all else.
#[derive(Clone, Debug)]
pub struct WithoutCalls<F>(pub F);

impl<F: Files> Files for WithoutCalls<F> {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        self.0.cfi(module, svma)
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        self.0.symbol(module, svma)
    }

    fn calls(&self, _: ModuleId, _: Svma) -> Answer<Calls> {
        Answer::NotRecorded
    }

    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        self.0.prefetch_symbols(questions);
    }
}

/// Asks the first, and the second where the first says [`Answer::NotRecorded`].
#[derive(Clone, Debug)]
pub struct Fallback<A, B>(pub A, pub B);

impl<A: Files, B: Files> Files for Fallback<A, B> {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        match self.0.cfi(module, svma) {
            Answer::NotRecorded => self.1.cfi(module, svma),
            answer => answer,
        }
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        match self.0.symbol(module, svma) {
            Answer::NotRecorded => self.1.symbol(module, svma),
            answer => answer,
        }
    }

    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls> {
        match self.0.calls(module, svma) {
            Answer::NotRecorded => self.1.calls(module, svma),
            answer => answer,
        }
    }

    fn prefetch_calls(&self, questions: &[(ModuleId, Svma)]) {
        self.0.prefetch_calls(questions);
        let open = |(module, svma): &&(ModuleId, Svma)| self.0.calls(*module, *svma) == Answer::NotRecorded;
        let rest: Vec<_> = questions.iter().filter(open).copied().collect();
        self.1.prefetch_calls(&rest);
    }

    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        self.0.prefetch_symbols(questions);
        let open = |(module, svma): &&(ModuleId, Svma)| self.0.symbol(*module, *svma) == Answer::NotRecorded;
        let rest: Vec<_> = questions.iter().filter(open).copied().collect();
        self.1.prefetch_symbols(&rest);
    }
}
