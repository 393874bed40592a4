//! The files that were mapped when a core was dumped: still there, replaced, or gone.
//!
//! By default a core holds the first page of each mapped ELF file. Its build-id and segments say whether the file that has
//! that path now is the same. What cannot be checked is used with a warning only if it is older than the core.

use super::file::CoreFile;
use super::first_bytes;
use crate::modules::{Finder, FoundFile, build_id_in_memory, open_regular};
use pyst_elf::{ElfFile, Search};
use pyst_snapshot::payload::{Diagnostic, Map, ModuleFile, Severity};
use pyst_snapshot::{Address, Bytes};
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;

/// Finds the mapped files of one core.
pub(crate) struct CoreFiles<'a> {
    pub(crate) core: &'a CoreFile,
    /// The core file's path.
    pub(crate) path: &'a Path,
    /// The executable that was given.
    pub(crate) exe: Option<&'a Path>,
    /// An address in the executable.
    pub(crate) exe_address: Option<Address>,
    pub(crate) captured_at_ns: i64,
    pub(crate) search: &'a Search,
}

/// How a file compares with what the core holds of it.
enum Comparison {
    Same,
    /// The core holds nothing to compare.
    Unknown,
    /// In words.
    Different(String),
}

impl Finder for CoreFiles<'_> {
    fn find(&self, maps: &[Map]) -> FoundFile {
        let in_core = maps.first().map(|map| map.path.clone()).unwrap_or_default();
        let is_exe = self.exe_address.is_some_and(|address| maps.iter().any(|map| map.range.contains(address)));
        let was_at = PathBuf::from(OsStr::from_bytes(in_core.0.strip_suffix(b" (deleted)").unwrap_or(&in_core.0)));
        let candidate = self.exe.filter(|_| is_exe).map_or_else(|| was_at.clone(), Path::to_owned);
        let found_there = self.find_at(&candidate, maps, is_exe, &in_core);
        if found_there.file.is_some() && found_there.complaint.is_none() {
            return found_there;
        }
        let build_id = build_id_in_memory(maps, self.core);
        let others = self.search.candidates(&was_at, build_id.as_deref());
        let mut best = found_there;
        for other in others {
            let other = self.find_at(&other, maps, is_exe, &in_core);
            if other.file.is_some() && other.complaint.is_none() {
                return other;
            }
            // A file that is there and was refused tells more than one that is not there.
            if best.status == ModuleFile::MISSING {
                best = other;
            }
        }
        best
    }

    fn in_roots(&self, path: &[u8]) -> Vec<PathBuf> {
        let path = Path::new("/").join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        let mut places = self.search.companions(&path);
        places.push(path);
        places
    }
}

impl CoreFiles<'_> {
    /// The file at `candidate`, if it is the one that was mapped from `in_core`.
    fn find_at(&self, candidate: &Path, maps: &[Map], is_exe: bool, in_core: &Bytes) -> FoundFile {
        let found = |status, file, complaint| FoundFile { status, file, path: in_core.clone(), complaint };
        let (what, core) = (candidate.display(), self.path.display());
        let file = match open_regular(candidate) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = format!(
                    "{what}, which the process of core file {core} had mapped, is not there: frames in it are missing or \
                     nameless; use the core on the machine it is from, or {}",
                    if is_exe {
                        "give the executable after the core file"
                    } else {
                        "say where it is with --lib-search-path or --lib-search-root"
                    }
                );
                let complaint = Diagnostic::new(Severity::LOSS, "file-missing", message);
                return found(ModuleFile::MISSING, None, Some(complaint));
            }
            Err(error) => {
                let message =
                    format!("{what}, which the process of core file {core} had mapped, cannot be read: {error}");
                let complaint = Diagnostic::new(Severity::LOSS, "file-unreadable", message);
                return found(ModuleFile::UNREADABLE, None, Some(complaint));
            }
        };
        match self.compare(file, maps) {
            Ok((Comparison::Same, file)) => found(ModuleFile::FOUND, Some(file), None),
            Ok((Comparison::Unknown, file)) => {
                let message = format!(
                    "core file {core} holds nothing of {what} to tell whether it is the file that was mapped; it is older \
                     than the core, and was used"
                );
                let complaint = Diagnostic::new(Severity::WARNING, "file-unverified", message);
                found(ModuleFile::FOUND, Some(file), Some(complaint))
            }
            Ok((Comparison::Different(how), _)) => {
                let message = format!(
                    "{what} is not the file that the process of core file {core} had mapped from {}: {how}; it was not \
                     used, and frames in it are missing or nameless",
                    in_core.escaped()
                );
                found(ModuleFile::MISMATCHED, None, Some(Diagnostic::new(Severity::LOSS, "file-mismatch", message)))
            }
            Err(error) => {
                let message =
                    format!("{what}, which the process of core file {core} had mapped, is of no use: {error}");
                let complaint = Diagnostic::new(Severity::LOSS, "file-unreadable", message);
                found(ModuleFile::UNREADABLE, None, Some(complaint))
            }
        }
    }

    fn compare(&self, file: File, maps: &[Map]) -> Result<(Comparison, ElfFile), pyst_elf::ElfError> {
        let mut own_page = vec![0; PAGE];
        let own_page = file.read_exact_at(&mut own_page, 0).is_ok().then_some(own_page);
        let modified = file.metadata()?;
        let modified = modified.mtime().saturating_mul(1_000_000_000).saturating_add(modified.mtime_nsec());
        let file = ElfFile::open(file)?;
        let page =
            maps.first().filter(|map| map.offset == 0).and_then(|map| first_bytes(self.core, map.range.start, PAGE));
        let Some(page) = page else {
            let comparison = if modified <= self.captured_at_ns {
                Comparison::Unknown
            } else {
                Comparison::Different("it was changed after the core was written".to_owned())
            };
            return Ok((comparison, file));
        };
        let mapped = ElfFile::from_bytes(page.clone())?;
        let comparison = match (mapped.build_id(), file.build_id()) {
            // strip and patchelf keep the build-id while they change the rest.
            (Some(then), Some(now)) if then == now => {
                if mapped.load_segments() == file.load_segments() {
                    Comparison::Same
                } else {
                    Comparison::Different("its build-id is the same, but not its segments".to_owned())
                }
            }
            (Some(then), now) => Comparison::Different(format!(
                "its build-id is {}, that of the one mapped {}",
                now.map_or_else(|| "none".to_owned(), hex),
                hex(then)
            )),
            // The build-id lies outside of the first page, or there is none.
            (None, _) if own_page.is_some_and(|own| own == page) => Comparison::Same,
            (None, _) => Comparison::Different("its first page is another".to_owned()),
        };
        Ok((comparison, file))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
