//! Finding the runtime: which module holds it, where, of which version, and with which layout.
//!
//! A process may map more than one file that looks like Python: the `libpython3.so` stub, a library that was loaded
//! beside a static interpreter. So every candidate is judged by what its memory holds, and the first one that has thread
//! states wins.

mod validate;
mod version;

use crate::layout;
use pyst_elf::{ElfFiles, ModuleId, ModuleTable};
use pyst_memory::Memory;
use pyst_snapshot::payload::{FoundRuntime, LayoutSource, MapV1, Module, Runtime, RuntimeFoundBy};
use pyst_snapshot::{Address, Range};
use validate::{Verdict, validate};
use version::{Version, version_of};

/// How much writable memory of modules is searched for the cookie.
const SEARCHED: u64 = 256 << 20;

/// How much of it is read at once.
const PIECE: u64 = 1 << 20;

/// Finds the Python runtime in a process.
///
/// Looks for the `.PyRuntime` section and the `_PyRuntime` symbol in the modules, the likeliest first, and then for the
/// `xdebugpy` cookie in their writable memory, which takes no file at all (3.13 and later). The version comes from the
/// process's description of itself, from `Py_Version`, or from texts and names. `tried` says in words what was done.
#[must_use]
pub fn find_runtime(modules: &ModuleTable, maps: &[MapV1], files: &ElfFiles, memory: &dyn Memory) -> Runtime {
    let mut search = Search { files, memory, best: None, tried: Vec::new() };
    search.in_files(modules);
    if search.best.is_none() {
        search.by_cookie(modules, maps);
    }
    let found = search.best.map(|(_, found)| found);
    Runtime { found, tried: search.tried }
}

struct Search<'a> {
    files: &'a ElfFiles<'a>,
    memory: &'a dyn Memory,
    /// The best candidate so far.
    best: Option<(Verdict, FoundRuntime)>,
    tried: Vec<String>,
}

/// A place where a runtime may be.
struct Candidate<'a> {
    address: Address,
    found_by: RuntimeFoundBy,
    id: ModuleId,
    module: &'a Module,
}

impl Search<'_> {
    fn in_files(&mut self, modules: &ModuleTable) {
        let mut ordered: Vec<(ModuleId, &Module)> = modules.iter().collect();
        ordered.sort_by_key(|(id, module)| (unlikeliness(*id, module), *id));
        let mut without = 0_usize;
        let mut unopened = 0_usize;
        for (id, module) in ordered {
            let likely = unlikeliness(id, module) < UNLIKELY;
            let Some(file) = self.files.file(id) else {
                unopened += 1;
                if likely {
                    self.tried.push(format!("{}: the file is not there to look in", module.path.escaped()));
                }
                continue;
            };
            let section = file.section(".PyRuntime").map(|svmas| (svmas.start, RuntimeFoundBy::SECTION));
            let symbol = |name| Some((file.symbol_named(name)?, RuntimeFoundBy::SYMBOL));
            // 3.6 and older have no structure of the runtime, but this list of its interpreters.
            let found = section.or_else(|| symbol("_PyRuntime")).or_else(|| symbol("interp_head"));
            let Some((svma, found_by)) = found else {
                without += 1;
                if likely {
                    self.tried.push(format!("{}: no Python runtime in it", module.path.escaped()));
                }
                continue;
            };
            self.judge(&Candidate { address: svma.to_address(module.bias), found_by, id, module });
            if self.settled() {
                return;
            }
        }
        if self.best.is_none() {
            self.tried.push(format!(
                "no .PyRuntime section, no _PyRuntime and no interp_head symbol in {without} mapped files; {unopened} could not be opened"
            ));
        }
    }

    /// The runtime's first bytes in the modules' data. Each piece read overlaps the next by nothing: the runtime is
    /// aligned, and so are the pieces.
    fn by_cookie(&mut self, modules: &ModuleTable, maps: &[MapV1]) {
        let writable = maps.iter().filter(|map| map.is_writable() && map.is_readable());
        let mut ranges = Vec::new();
        for range in writable.map(|map| map.range) {
            for (id, module) in modules.iter() {
                let inside = module.ranges.iter().map(|own| own.intersect(range)).filter(|part| !part.is_empty());
                ranges.extend(inside.map(|part| (unlikeliness(id, module), part, id, module)));
            }
        }
        ranges.sort_unstable_by_key(|(unlikeliness, range, id, _)| (*unlikeliness, *range, *id));
        let mut left = SEARCHED;
        for (_, range, id, module) in ranges {
            let mut start = range.start;
            while start < range.end && left > 0 {
                let length = PIECE.min(range.end.0.saturating_sub(start.0)).min(left);
                left = left.saturating_sub(length);
                for address in self.cookies(Range::sized(start, length)) {
                    self.judge(&Candidate { address, found_by: RuntimeFoundBy::COOKIE, id, module });
                    if self.settled() {
                        return;
                    }
                }
                let Some(next) = start.checked_add(length) else { break };
                start = next;
            }
        }
        if self.best.is_none() {
            self.tried.push("no xdebugpy cookie (Python 3.13 and later) in the modules' data".to_owned());
        }
    }

    /// Where in a piece of memory the cookie is.
    fn cookies(&self, piece: Option<Range>) -> Vec<Address> {
        let Some((piece, length)) = piece.and_then(|piece| Some((piece, usize::try_from(piece.len()).ok()?))) else {
            return Vec::new();
        };
        let mut bytes = vec![0; length];
        if self.memory.read(piece.start, &mut bytes).is_err() {
            return Vec::new();
        }
        memchr::memmem::find_iter(&bytes, layout::COOKIE)
            .filter_map(|offset| piece.start.checked_add(offset as u64))
            .filter(|address| address.0 % 8 == 0)
            .collect()
    }

    /// Keeps a candidate if it is the best so far.
    fn judge(&mut self, candidate: &Candidate<'_>) {
        let path = candidate.module.path.escaped();
        let how = match candidate.found_by {
            RuntimeFoundBy::SECTION => ".PyRuntime section",
            RuntimeFoundBy::SYMBOL => "symbol of the runtime",
            _ => "xdebugpy cookie",
        };
        let versions = version_of(candidate.address, candidate.module, self.files.file(candidate.id), self.memory);
        if versions.is_empty() {
            self.tried.push(format!("{path}: {how}, but nothing tells its version"));
            return;
        }
        for version in versions {
            let (verdict, found) = self.fit(candidate, &version);
            self.tried.push(format!("{path}: {how}, Python {}, {}", found.version(), verdict.words()));
            let better = self.best.as_ref().is_none_or(|(best, _)| verdict > *best);
            if verdict > Verdict::Invalid && better {
                self.best = Some((verdict, found));
            }
            if self.settled() {
                return;
            }
        }
    }

    /// The layout that fits a candidate of this version best.
    fn fit(&self, candidate: &Candidate<'_>, version: &Version) -> (Verdict, FoundRuntime) {
        let [_, _, patch, _] = version.hex.to_be_bytes();
        let found = FoundRuntime {
            address: candidate.address,
            version_hex: version.hex,
            free_threaded: version.free_threaded,
            debug: None,
            found_by: candidate.found_by,
            version_found_by: version.found_by,
            module: Some(candidate.id.0),
            layout: String::new(),
            layout_source: LayoutSource::default(),
        };
        let tables = layout::candidates(version.hex, version.free_threaded);
        if tables.is_empty() {
            return (Verdict::Unknown, found);
        }
        let layouts = tables
            .iter()
            .map(|table| table.described(candidate.address, self.memory).unwrap_or_else(|| table.layout(patch)));
        let judged = layouts.map(|layout| (validate(&layout, candidate.address, self.memory), layout));
        // Of equals the first, which is the nearest: max_by_key would take the last.
        let best = judged.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((verdict, layout)) = best else { return (Verdict::Unknown, found) };
        (verdict, FoundRuntime { layout: layout.table.name.to_owned(), layout_source: layout.source, ..found })
    }

    fn settled(&self) -> bool {
        self.best.as_ref().is_some_and(|(verdict, _)| *verdict == Verdict::Runs)
    }
}

const UNLIKELY: u8 = 3;

/// The lower, the likelier a module holds a runtime; [`UNLIKELY`] for modules that nothing speaks for.
fn unlikeliness(id: ModuleId, module: &Module) -> u8 {
    let path = &module.path.0;
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let contains = |what: &[u8]| memchr::memmem::find(name, what).is_some();
    if contains(b"libpython") {
        0
    } else if contains(b"python") {
        1
    } else if id == ModuleId(0) {
        // The executable, as a rule.
        2
    } else {
        UNLIKELY
    }
}

#[cfg(test)]
mod tests;
