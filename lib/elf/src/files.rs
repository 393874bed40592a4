//! Answers from the files themselves.

use crate::companions::Open;
use crate::dwarf::Calls;
use crate::file::ElfFile;
use crate::parallel;
use crate::seam::{Answer, CfiEntry, Files, ModuleId, SymbolHit};
use pyst_snapshot::Svma;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::Path;

/// Opens the file of a module; `None` where there is none that can be used.
pub type Opener<'a> = Box<dyn Fn(ModuleId) -> Option<ElfFile> + 'a>;

/// The files of a target's modules, each opened when it is first asked.
pub struct ElfFiles<'a> {
    opener: Opener<'a>,
    files: Vec<OnceCell<Option<ElfFile>>>,
    /// Symbols found so far. Stacks share most of their frames.
    symbols: RefCell<HashMap<(ModuleId, Svma), Option<SymbolHit>>>,
    /// What debug information said so far.
    calls: RefCell<HashMap<(ModuleId, Svma), Calls>>,
}

impl<'a> ElfFiles<'a> {
    /// Files of the modules 0 to `count`.
    pub fn new(count: usize, opener: Opener<'a>) -> ElfFiles<'a> {
        ElfFiles {
            opener,
            files: (0..count).map(|_| OnceCell::new()).collect(),
            symbols: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    /// Files that are open already, in the order of the modules.
    #[must_use]
    pub fn opened(files: Vec<Option<ElfFile>>) -> ElfFiles<'a> {
        let mut all = ElfFiles::new(0, Box::new(|_| None));
        all.files = files.into_iter().map(OnceCell::from).collect();
        all
    }

    /// Adds its companions ([`ElfFile::with_companions`]) to the file of a module, if that is open, and says whether there are any.
    pub fn add_companions(&mut self, module: ModuleId, path: &Path, open: Open<'_>) -> bool {
        let file = usize::try_from(module.0).ok().and_then(|index| self.files.get_mut(index));
        let Some(place) = file.and_then(OnceCell::get_mut) else { return false };
        *place = place.take().map(|file| file.with_companions(path, open));
        place.as_ref().is_some_and(ElfFile::has_companions)
    }

    /// The file of a module.
    #[must_use]
    pub fn file(&self, module: ModuleId) -> Option<&ElfFile> {
        let file = self.files.get(usize::try_from(module.0).ok()?)?;
        file.get_or_init(|| (self.opener)(module)).as_ref()
    }
}

impl Files for ElfFiles<'_> {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        self.file(module).and_then(|file| file.cfi(svma)).into()
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        let known = self.symbols.borrow().get(&(module, svma)).cloned();
        let hit = known.unwrap_or_else(|| {
            let hit = self.file(module).and_then(|file| file.symbol(svma));
            self.symbols.borrow_mut().insert((module, svma), hit.clone());
            hit
        });
        hit.into()
    }

    /// Empty where there is no debug information: nothing is to be had elsewhere either.
    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls> {
        self.prefetch_calls(&[(module, svma)]);
        self.calls.borrow().get(&(module, svma)).filter(|calls| **calls != Calls::default()).cloned().into()
    }

    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        fill(&self.symbols, &self.open_groups(&self.symbols, questions), ElfFile::symbols_covering);
    }

    /// Debug information takes long to read: each file is read by itself.
    fn prefetch_calls(&self, questions: &[(ModuleId, Svma)]) {
        let groups = self.open_groups(&self.calls, questions);
        let (with, without): (Vec<_>, _) = groups.into_iter().partition(|group| group.file.has_dwarf());
        fill(&self.calls, &without, |_, svmas| vec![Calls::default(); svmas.len()]);
        let answers = parallel::map(&with, |group| group.file.calls_covering(&group.svmas));
        for (group, answers) in with.iter().zip(answers) {
            group.answer(&self.calls, answers);
        }
    }
}

/// What one file is asked.
struct Group<'f> {
    module: ModuleId,
    file: &'f ElfFile,
    svmas: Vec<Svma>,
}

type Known<T> = RefCell<HashMap<(ModuleId, Svma), T>>;

impl ElfFiles<'_> {
    /// The questions that are not answered yet, by file; those to no file are none.
    fn open_groups<T>(&self, known: &Known<T>, questions: &[(ModuleId, Svma)]) -> Vec<Group<'_>> {
        let mut questions = questions.to_vec();
        questions.sort_unstable();
        questions.dedup();
        questions.retain(|question| !known.borrow().contains_key(question));
        let group = |questions: &[(ModuleId, Svma)]| {
            let module = questions.first()?.0;
            let svmas = questions.iter().map(|(_, svma)| *svma).collect();
            Some(Group { module, file: self.file(module)?, svmas })
        };
        questions.chunk_by(|one, next| one.0 == next.0).filter_map(group).collect()
    }
}

impl Group<'_> {
    fn answer<T>(&self, known: &Known<T>, answers: Vec<T>) {
        known.borrow_mut().extend(self.svmas.iter().map(|svma| (self.module, *svma)).zip(answers));
    }
}

/// Asks each file once for all that is not known yet.
fn fill<T>(known: &Known<T>, groups: &[Group<'_>], ask: impl Fn(&ElfFile, &[Svma]) -> Vec<T>) {
    for group in groups {
        group.answer(known, ask(group.file, &group.svmas));
    }
}

impl std::fmt::Debug for ElfFiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElfFiles").field("files", &self.files).finish_non_exhaustive()
    }
}
