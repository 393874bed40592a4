//! Candidates: what files name as a place of the runtime, and how well each fits.

use super::depth::Depth;
use super::validate::{Verdict, validate};
use super::version::{Version, described};
use super::{Search, accessor};
use crate::layout::{self, Layout, Table};
use pyst_elf::{ElfFile, ModuleId};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{FoundRuntime, LayoutSource, Module, RuntimeFoundBy};

/// What leads to a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// The runtime is here.
    Runtime(Address),
    /// Here is the pointer to the newest interpreter; how far into the runtime that is depends on the version.
    Head(Address),
}

impl Anchor {
    /// Where the runtime is by a layout.
    pub(super) fn runtime(self, table: &Table) -> Option<Address> {
        match self {
            Anchor::Runtime(address) => Some(address),
            Anchor::Head(address) => address.checked_sub(table.offsets.runtime_interpreters_head.get()?),
        }
    }
}

/// A place where a runtime may be.
pub(super) struct Candidate {
    pub(super) anchor: Anchor,
    pub(super) found_by: RuntimeFoundBy,
    pub(super) module: Option<ModuleId>,
}

impl Candidate {
    fn how(&self) -> &'static str {
        match self.found_by {
            RuntimeFoundBy::SECTION => ".PyRuntime section",
            RuntimeFoundBy::SYMBOL if matches!(self.anchor, Anchor::Head(_)) => "interp_head symbol",
            RuntimeFoundBy::SYMBOL => "_PyRuntime symbol",
            RuntimeFoundBy::CODE => "the code of PyInterpreterState_Head",
            RuntimeFoundBy::COOKIE => "xdebugpy cookie",
            RuntimeFoundBy::SCAN => "pointers of a runtime in its data",
            _ => "pointers of a runtime",
        }
    }
}

/// What a file says of where a runtime is, the surest first. Before 3.7 there is no runtime, only the head of the list of
/// interpreters, a variable that is not exported; but a function that returns it is.
pub(super) fn anchors_in(file: &ElfFile, module: &Module) -> Vec<(Anchor, RuntimeFoundBy)> {
    let runtime = |svma: pyst_snapshot::Svma| Anchor::Runtime(svma.to_address(module.bias));
    let head = |svma: pyst_snapshot::Svma| Anchor::Head(svma.to_address(module.bias));
    if let Some(svmas) = file.section(".PyRuntime") {
        return vec![(runtime(svmas.start), RuntimeFoundBy::SECTION)];
    }
    if let Some(svma) = file.symbol_named("_PyRuntime") {
        return vec![(runtime(svma), RuntimeFoundBy::SYMBOL)];
    }
    let function = || file.symbol_named("PyInterpreterState_Head");
    let by_symbol = || Some((head(file.symbol_named("interp_head")?), RuntimeFoundBy::SYMBOL));
    let by_code = |svma| Some((head(accessor::variable_returned_by(file, svma)?), RuntimeFoundBy::CODE));
    // A file without the function has no interpreter, whatever else may be called so.
    let Some(function) = function() else { return Vec::new() };
    by_symbol().or_else(|| by_code(function)).into_iter().collect()
}

impl Search<'_> {
    /// Keeps a candidate if it is the best so far.
    pub(super) fn judge(&mut self, candidate: &Candidate) {
        let (path, how) = (self.name(candidate.module), candidate.how());
        let versions = self.versions_at(candidate);
        if versions.is_empty() {
            self.tried.push(format!("{path}: {how}, but nothing tells its version"));
            return;
        }
        for version in versions {
            let Some((verdict, found)) = self.fit(candidate, &version) else { continue };
            self.tried.push(format!("{path}: {how}, Python {}, {}", found.version(), verdict.words()));
            self.keep(verdict, found);
            if self.is_settled() {
                return;
            }
        }
    }

    /// Keeps a runtime if it is the best so far.
    pub(super) fn keep(&mut self, verdict: Verdict, found: FoundRuntime) {
        let debug = self.debug(&found).or(found.debug);
        let found = FoundRuntime { debug, current_state: self.current_state(&found), ..found };
        let better = self.best.as_ref().is_none_or(|(best, _)| verdict > *best);
        if verdict > Verdict::Invalid && better {
            self.best = Some((verdict, found));
        }
    }

    /// Whether a runtime is of a debug build, by what its module exports: a function that only those have, or others only.
    fn debug(&self, found: &FoundRuntime) -> Option<bool> {
        let file = (self.target.files)(ModuleId(found.module?))?;
        let has = |name: &str| file.symbol_named(name).is_some();
        if has("_Py_NegativeRefcount") { Some(true) } else { has("PyErr_Occurred").then_some(false) }
    }

    /// Where a Python that keeps no GIL in its runtime says who has it: a variable that it exports.
    fn current_state(&self, found: &FoundRuntime) -> Option<Address> {
        let module = ModuleId(found.module?);
        let keeps_gil = layout::of_runtime(found, self.target.memory)?.offsets.gil_size.get().is_some();
        let file = (self.target.files)(module).filter(|_| !keeps_gil)?;
        let svma = file.symbol_named("_PyThreadState_Current")?;
        Some(svma.to_address(self.target.modules.get(module)?.bias))
    }

    /// What the runtime says of itself wins over all that can be known of its module.
    fn versions_at(&mut self, candidate: &Candidate) -> Vec<Version> {
        let described = match candidate.anchor {
            Anchor::Runtime(address) => described(address, self.target.memory),
            Anchor::Head(_) => None,
        };
        match (described, candidate.module) {
            (Some(version), _) => vec![version],
            (None, Some(module)) => self.versions_of(module),
            (None, None) => Vec::new(),
        }
    }

    /// The layout that fits a candidate of this version best.
    fn fit(&self, candidate: &Candidate, version: &Version) -> Option<(Verdict, FoundRuntime)> {
        let memory = self.target.memory;
        let tables = layout::candidates(version.hex, version.free_threaded);
        let judged = tables.iter().filter_map(|table| {
            let address = candidate.anchor.runtime(table)?;
            let layout = table.layout_of(version.hex, address, memory)?;
            let verdict = match validate(&layout, address, memory) {
                // Of a version that is not known, more has to fit than a few pointers.
                Verdict::Runs if !table.is_of_minor(version.hex) => {
                    let convinces = Depth::of(&layout, address, memory).convinces(false);
                    if convinces { Verdict::Runs } else { Verdict::Unknown }
                }
                _ if !table.is_of_minor(version.hex) => Verdict::Unknown,
                verdict => verdict,
            };
            let rank = (verdict, std::cmp::Reverse(layout.differences()));
            Some((rank, address, (verdict != Verdict::Unknown).then_some(layout)))
        });
        // Of equals the first, which is the nearest: max_by_key would take the last.
        let best = judged.reduce(|best, next| if next.0 > best.0 { next } else { best });
        match (best, candidate.anchor) {
            (Some(((verdict, _), address, layout)), _) => {
                Some((verdict, found(candidate, version, address, layout.as_ref())))
            }
            (None, Anchor::Runtime(address)) => Some((Verdict::Unknown, found(candidate, version, address, None))),
            (None, Anchor::Head(_)) => None,
        }
    }
}

/// What is said of a runtime at `address`.
pub(super) fn found(
    candidate: &Candidate,
    version: &Version,
    address: Address,
    layout: Option<&Layout>,
) -> FoundRuntime {
    FoundRuntime {
        address,
        version_hex: version.hex,
        free_threaded: version.free_threaded,
        debug: layout.and_then(|layout| layout.debug(version.hex)),
        found_by: candidate.found_by,
        version_found_by: version.found_by,
        module: candidate.module.map(|id| id.0),
        layout: layout.map(|layout| layout.table.name.to_owned()).unwrap_or_default(),
        layout_source: layout.map_or(LayoutSource::default(), |layout| layout.source),
        current_state: None,
        active_threads: Vec::new(),
    }
}
