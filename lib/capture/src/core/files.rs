//! The files that were mapped when a core was dumped: still there, replaced, or gone.
//!
//! By default a core holds the first page of each mapped ELF file. Its build-id and segments say whether the file that has
//! that path now is the same ([`identity`]). What cannot be checked is used with a warning only if it is older than the core.

use super::file::CoreFile;
use crate::identity::{self, Comparison};
use crate::modules::{Finder, FoundFile, build_id_in_memory, open_regular};
use pyst_elf::{ElfFile, Reach, Search};
use pyst_snapshot::payload::{Diagnostic, Map, ModuleFile, Severity};
use pyst_snapshot::{Address, Bytes};
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
    /// What can be had of the file systems here.
    pub(crate) reach: &'a Reach,
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

    fn open(&self, path: &Path) -> std::io::Result<File> {
        self.reach.open(None, path, open_regular).map(|(file, _)| file)
    }
}

impl CoreFiles<'_> {
    /// The file at `candidate`, if it is the one that was mapped from `in_core`.
    fn find_at(&self, candidate: &Path, maps: &[Map], is_exe: bool, in_core: &Bytes) -> FoundFile {
        let found = |status, file, complaint| FoundFile { status, file, path: in_core.clone(), complaint };
        let (what, core) = (candidate.display(), self.path.display());
        let file = match self.open(candidate) {
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

    /// What the core holds nothing of to compare is taken for different if it was changed later.
    fn compare(&self, file: File, maps: &[Map]) -> Result<(Comparison, ElfFile), pyst_elf::ElfError> {
        let modified = file.metadata()?;
        let modified = modified.mtime().saturating_mul(1_000_000_000).saturating_add(modified.mtime_nsec());
        Ok(match identity::compare(file, maps, self.core)? {
            (Comparison::Unknown, file) if modified > self.captured_at_ns => {
                (Comparison::Different("it was changed after the core was written".to_owned()), file)
            }
            compared => compared,
        })
    }
}
