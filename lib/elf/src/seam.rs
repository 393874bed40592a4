//! The [`Files`] trait, its questions and answers, and the table that turns an address into a module and an svma.

use crate::dwarf::Calls;
use pyst_snapshot::payload::{CfiSection, Module, Modules, SymbolTable};
use pyst_snapshot::{Address, Svma};

/// A module, as its index in the `modules` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u32);

/// An answer of a mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// This is it.
    Found(T),
    /// The file says that there is none, or there is no usable file.
    Absent,
    /// The snapshot does not hold the answer: nobody asked when it was taken.
    NotRecorded,
}

impl<T> From<Option<T>> for Answer<T> {
    fn from(found: Option<T>) -> Answer<T> {
        found.map_or(Answer::Absent, Answer::Found)
    }
}

/// The CIE and FDE that cover an svma, whole, as the file holds them. Both start with their length field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfiEntry {
    /// The kind of section they are from.
    pub section: CfiSection,
    /// The svma of the CIE's first byte; an offset into the section for `.debug_frame`.
    pub cie_svma: Svma,
    /// The CIE's bytes.
    pub cie: Vec<u8>,
    /// The svma of the FDE's first byte, as for the CIE.
    pub fde_svma: Svma,
    /// The FDE's bytes.
    pub fde: Vec<u8>,
    /// The first svma the FDE covers.
    pub start: Svma,
    /// The first svma after those it covers.
    pub end: Svma,
}

/// The symbol that covers an svma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolHit {
    /// Its raw name.
    pub name: Vec<u8>,
    /// `st_value`.
    pub svma: Svma,
    /// `st_size`; 0 for hand-written assembly that states none.
    pub size: u64,
    /// The table it is from.
    pub table: SymbolTable,
}

/// Questions to mapped files.
pub trait Files {
    /// The CIE and FDE that cover `svma` of `module`.
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry>;

    /// The symbol that covers `svma` of `module`.
    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit>;

    /// What debug information says of `svma` of `module`: the functions inlined there, and lines.
    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls>;

    /// Announces questions that [`Files::symbol`] will be asked. Who finds many at once cheaper than one by one does so
    /// now; the answers are the same.
    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        let _ = questions;
    }

    /// The same for [`Files::calls`].
    fn prefetch_calls(&self, questions: &[(ModuleId, Svma)]) {
        let _ = questions;
    }
}

impl<F: Files + ?Sized> Files for &F {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        (**self).cfi(module, svma)
    }

    fn symbol(&self, module: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        (**self).symbol(module, svma)
    }

    fn calls(&self, module: ModuleId, svma: Svma) -> Answer<Calls> {
        (**self).calls(module, svma)
    }

    fn prefetch_symbols(&self, questions: &[(ModuleId, Svma)]) {
        (**self).prefetch_symbols(questions);
    }

    fn prefetch_calls(&self, questions: &[(ModuleId, Svma)]) {
        (**self).prefetch_calls(questions);
    }
}

/// The modules of a target, searchable by address.
#[derive(Clone, Debug, Default)]
pub struct ModuleTable {
    modules: Vec<Module>,
    /// Every mapped range with its module, ascending by start.
    ranges: Vec<(pyst_snapshot::Range, ModuleId)>,
}

impl ModuleTable {
    /// A table of these modules.
    #[must_use]
    pub fn new(modules: &Modules) -> ModuleTable {
        let ids = (0..u32::MAX).map(ModuleId);
        let mut ranges: Vec<_> = modules
            .modules
            .iter()
            .zip(ids)
            .flat_map(|(module, id)| module.ranges.iter().map(move |range| (*range, id)))
            .collect();
        ranges.sort_unstable();
        ModuleTable { modules: modules.modules.clone(), ranges }
    }

    /// The module that `address` lies in, and its svma there.
    #[must_use]
    pub fn locate(&self, address: Address) -> Option<(ModuleId, Svma)> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= address);
        let (range, id) = self.ranges.get(after.checked_sub(1)?)?;
        let module = self.get(*id).filter(|_| range.contains(address))?;
        Some((*id, address.to_svma(module.bias)))
    }

    /// A module.
    #[must_use]
    pub fn get(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(usize::try_from(id.0).ok()?)
    }

    /// All modules, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ModuleId, &Module)> {
        (0..u32::MAX).map(ModuleId).zip(&self.modules)
    }
}
