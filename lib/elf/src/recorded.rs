//! Answers that a snapshot recorded.

use crate::dwarf::{Call, Calls};
use crate::recorder::RecordedAnswers;
use crate::seam::{Answer, CfiEntry, Files, ModuleId, SymbolHit};
use pyst_snapshot::payload::{CallAnswerV1, CallAnswers, CallV1, FdeV1, SymbolAnswers, SymbolV1, UnwindAnswers};
use pyst_snapshot::{Bytes, Payload, PayloadError, Snapshot, Svma};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The recorded answers of a snapshot. An FDE or symbol that covers an svma answers for it, though another svma was asked
/// about when the snapshot was taken.
#[derive(Clone, Debug, Default)]
pub struct RecordedFiles {
    /// By module and start.
    entries: BTreeMap<(ModuleId, Svma), CfiEntry>,
    without_cfi: BTreeSet<(ModuleId, Svma)>,
    symbols: Vec<SymbolHit>,
    /// What was asked, with the answer as an index into `symbols`.
    asked: HashMap<(ModuleId, Svma), Option<usize>>,
    /// The symbols of each module, by start.
    starts: BTreeMap<(ModuleId, Svma), usize>,
    texts: Vec<Bytes>,
    calls: HashMap<(ModuleId, Svma), CallAnswerV1>,
}

impl RecordedFiles {
    /// The answers in the `unwind`, `symbols` and `calls` sections, and why a section is of no use.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> (RecordedFiles, Vec<PayloadError>) {
        let mut errors = Vec::new();
        let unwind: UnwindAnswers = section(snapshot, &mut errors);
        let symbols: SymbolAnswers = section(snapshot, &mut errors);
        let calls: CallAnswers = section(snapshot, &mut errors);
        (RecordedFiles::new(RecordedAnswers { unwind, symbols, calls }), errors)
    }

    /// The answers in these payloads. What contradicts itself in them is left out.
    #[must_use]
    pub fn new(answers: RecordedAnswers) -> RecordedFiles {
        let RecordedAnswers { unwind, symbols, calls } = answers;
        let mut files = RecordedFiles::default();
        for fde in &unwind.fdes {
            if let Some((module, entry)) = cfi_entry(&unwind, fde) {
                files.entries.entry((module, entry.start)).or_insert(entry);
            }
        }
        files.without_cfi = unwind.absent.iter().map(|none| (ModuleId(none.module), none.svma)).collect();
        files.symbols = symbols.symbols.into_iter().map(symbol_hit).collect();
        for answer in symbols.answers {
            let module = ModuleId(answer.module);
            let index = answer.symbol.and_then(|index| usize::try_from(index).ok());
            if let Some(hit) = index.and_then(|index| files.symbols.get(index)) {
                files.starts.insert((module, hit.svma), index.unwrap_or_default());
            } else if answer.symbol.is_some() {
                continue;
            }
            files.asked.insert((module, answer.svma), index);
        }
        files.texts = calls.texts;
        let answers = calls.answers.into_iter();
        files.calls = answers.map(|answer| ((ModuleId(answer.module), answer.svma), answer)).collect();
        files
    }
}

impl Files for RecordedFiles {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        let mut before = self.entries.range((module, Svma(0))..=(module, svma));
        match before.next_back() {
            Some((_, entry)) if svma < entry.end => Answer::Found(entry.clone()),
            _ if self.without_cfi.contains(&(module, svma)) => Answer::Absent,
            _ => Answer::NotRecorded,
        }
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        if let Some(answer) = self.asked.get(&(module, svma)) {
            return answer.and_then(|index| self.symbols.get(index)).cloned().into();
        }
        let nearest = self.starts.range((module, Svma(0))..=(module, svma)).next_back();
        let covers = |hit: &&SymbolHit| svma.0 - hit.svma.0 < hit.size;
        match nearest.and_then(|(_, index)| self.symbols.get(*index)).filter(covers) {
            Some(hit) => Answer::Found(hit.clone()),
            None => Answer::NotRecorded,
        }
    }

    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls> {
        let Some(answer) = self.calls.get(&(module, svma)) else { return Answer::NotRecorded };
        let call =
            |call: &CallV1| Call { function: self.text(call.function), file: self.text(call.file), line: call.line };
        let calls = Calls { calls: answer.calls.iter().map(call).collect(), lacking: self.text(answer.lacking) };
        Some(calls).filter(|calls| *calls != Calls::default()).into()
    }
}

impl RecordedFiles {
    fn text(&self, index: Option<u32>) -> Option<Vec<u8>> {
        Some(self.texts.get(usize::try_from(index?).ok()?)?.0.clone())
    }
}

fn section<P: Payload + Default>(snapshot: &Snapshot, errors: &mut Vec<PayloadError>) -> P {
    match snapshot.get() {
        Ok(payload) => payload.unwrap_or_default(),
        Err(error) => {
            errors.push(error);
            P::default()
        }
    }
}

fn cfi_entry(unwind: &UnwindAnswers, fde: &FdeV1) -> Option<(ModuleId, CfiEntry)> {
    let cie = unwind.cies.get(usize::try_from(fde.cie).ok()?)?;
    let entry = CfiEntry {
        section: cie.section,
        cie_svma: cie.svma,
        cie: cie.bytes.0.clone(),
        fde_svma: fde.svma,
        fde: fde.bytes.0.clone(),
        start: fde.start,
        end: fde.end,
    };
    (entry.start < entry.end).then_some((ModuleId(cie.module), entry))
}

fn symbol_hit(symbol: SymbolV1) -> SymbolHit {
    SymbolHit { name: symbol.name.0, svma: symbol.svma, size: symbol.size, table: symbol.table }
}
