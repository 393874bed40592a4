//! Finding the runtime: which module holds it, where, of which version, and with which layout.
//!
//! Step by step, the surest first: what files say (section, symbols, the code of an exported function), the runtime's own
//! description of itself in the modules' data, and a scan of that data for pointers that lead where a runtime's do. A
//! process may map more than one file that looks like Python: the `libpython3.so` stub, a library that was loaded beside a
//! static interpreter. So every candidate is judged by what its memory holds, and the first one that has thread states
//! wins.

mod accessor;
mod candidate;
mod depth;
mod memory;
mod places;
mod scan;
mod texts;
mod validate;
mod version;

use candidate::{Candidate, anchors_in};
use pyst_elf::{ElfFile, ModuleId, ModuleTable};
use pyst_memory::Memory;
use pyst_snapshot::payload::{FoundRuntime, MapV1, Module, Runtime};
use std::collections::HashMap;
use validate::Verdict;
use version::Version;

/// How much writable memory of modules is searched.
const SEARCHED: u64 = 256 << 20;

/// The process that is searched.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its modules.
    pub modules: &'a ModuleTable,
    /// Its mappings, ascending.
    pub maps: &'a [MapV1],
    /// The file of a module, or as much of it as its memory holds.
    pub files: &'a dyn Fn(ModuleId) -> Option<&'a ElfFile>,
    /// Its memory.
    pub memory: &'a dyn Memory,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("modules", &self.modules).field("maps", &self.maps).finish_non_exhaustive()
    }
}

/// Finds the Python runtime in a process; with `exhaustive`, in memory too that belongs to no module.
///
/// The version comes from the process's description of itself, from `Py_Version`, or from texts and names; where nothing
/// tells it, from the only layout that fits. `tried` says in words what was done.
#[must_use]
pub fn find_runtime(target: Target<'_>, exhaustive: bool) -> Runtime {
    let mut search = Search { target, best: None, tried: Vec::new(), versions: HashMap::new() };
    search.in_files();
    if !search.is_over() {
        search.by_cookie();
    }
    if !search.is_over() {
        search.by_scan();
    }
    if exhaustive && !search.is_over() {
        search.everywhere();
    }
    let memory = search.target.memory;
    let found = search.best.map(|(_, found)| {
        let active_threads = crate::walk::active_threads(&found, memory);
        FoundRuntime { active_threads, ..found }
    });
    Runtime { found, tried: search.tried }
}

struct Search<'a> {
    target: Target<'a>,
    /// The best candidate so far.
    best: Option<(Verdict, FoundRuntime)>,
    tried: Vec<String>,
    /// What modules tell of their versions.
    versions: HashMap<ModuleId, Vec<Version>>,
}

impl<'a> Search<'a> {
    /// What the files say.
    fn in_files(&mut self) {
        let mut without = 0_usize;
        let mut unopened = 0_usize;
        for (id, module) in self.modules() {
            let path = module.path.escaped();
            let likely = unlikeliness(id, module) < UNLIKELY;
            let Some(file) = (self.target.files)(id) else {
                unopened += 1;
                if likely {
                    self.tried.push(format!("{path}: the file is not there to look in"));
                }
                continue;
            };
            let anchors = anchors_in(file, module);
            if anchors.is_empty() {
                without += 1;
                if likely {
                    self.tried.push(format!("{path}: no Python runtime in it"));
                }
            }
            for (anchor, found_by) in anchors {
                self.judge(&Candidate { anchor, found_by, module: Some(id) });
                if self.is_settled() {
                    return;
                }
            }
        }
        if self.best.is_none() {
            self.tried.push(format!(
                "no .PyRuntime section, no _PyRuntime and no interp_head symbol in {without} mapped files; {unopened} could not be opened"
            ));
        }
    }

    /// The modules, the likeliest to hold a runtime first.
    fn modules(&self) -> Vec<(ModuleId, &'a Module)> {
        let mut ordered: Vec<(ModuleId, &Module)> = self.target.modules.iter().collect();
        ordered.sort_by_key(|(id, module)| (unlikeliness(*id, module), *id));
        ordered
    }

    /// How a module is called in what was tried.
    fn name(&self, module: Option<ModuleId>) -> String {
        let module = module.and_then(|id| self.target.modules.get(id));
        module.map_or_else(|| "memory outside of the modules".to_owned(), |module| module.path.escaped())
    }

    /// What tells the version of a module, the likeliest first.
    fn versions_of(&mut self, id: ModuleId) -> Vec<Version> {
        let target = self.target;
        let tell = || target.modules.get(id).map(|module| version::of_module(&target, id, module)).unwrap_or_default();
        self.versions.entry(id).or_insert_with(tell).clone()
    }

    fn is_settled(&self) -> bool {
        self.best.as_ref().is_some_and(|(verdict, _)| *verdict == Verdict::Runs)
    }

    /// Whether nothing is to be gained by searching on. A runtime without an interpreter may be a copy that nobody uses,
    /// and one that does not hold together none.
    fn is_over(&self) -> bool {
        self.best.as_ref().is_some_and(|(verdict, _)| !matches!(verdict, Verdict::Empty | Verdict::Torn))
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
