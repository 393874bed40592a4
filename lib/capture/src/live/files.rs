//! The files mapped into a living process.
//!
//! `/proc/PID/maps` shows a path as the reader's root sees it in a plain chroot, and as the target's sees it in another
//! mount namespace; the file may be deleted, or another one may have its name by now. So several ways lead to a file, and
//! only the very inode that is mapped counts, or else one that proves to be the same ([`identity`]): some file systems (btrfs,
//! overlays) show another device in maps than `stat` does, and the user may know where a deleted file is to be had.

use super::memory::LiveMemory;
use super::procfs::Proc;
use crate::identity::{self, Comparison};
use crate::modules::{Finder, FoundFile, build_id_in_memory, open_regular};
use pyst_elf::{ElfFile, Reach, Search};
use pyst_snapshot::Bytes;
use pyst_snapshot::payload::{Diagnostic, Map, ModuleFile, Severity};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const DELETED: &[u8] = b" (deleted)";

/// Finds the mapped files of one process.
pub(crate) struct LiveFiles<'a> {
    pub(crate) proc: &'a Proc,
    pub(crate) memory: &'a LiveMemory,
    /// What `/proc/PID/exe` links to.
    pub(crate) exe: Option<&'a [u8]>,
    pub(crate) search: &'a Search,
    /// What can be had of the target's file systems.
    pub(crate) reach: &'a Reach,
}

impl Finder for LiveFiles<'_> {
    fn find(&self, maps: &[Map]) -> FoundFile {
        let Some(first) = maps.first() else {
            return FoundFile { status: ModuleFile::MISSING, file: None, path: Bytes::default(), complaint: None };
        };
        // A file may really be called "x (deleted)"; then the whole path leads to the inode.
        if let Some(file) = self.open_in_roots(&first.path.0, first) {
            return opened(file, ModuleFile::FOUND, first.path.clone());
        }
        let path = Bytes(first.path.0.strip_suffix(DELETED).unwrap_or(&first.path.0).to_vec());
        if let Some(file) = self.open_mapped(first) {
            return opened(file, ModuleFile::DELETED, path);
        }
        self.open_another(path, maps)
    }

    /// As the target sees it, and as we do.
    fn in_roots(&self, path: &[u8]) -> Vec<PathBuf> {
        let relative = Path::new(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        let here = Path::new("/").join(relative);
        let mut places = vec![self.proc.path(Path::new("root").join(relative))];
        places.extend(self.search.companions(&here));
        places.push(here);
        places
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.reach.open(None, path, open_regular).map(|(file, _)| file)
    }
}

impl LiveFiles<'_> {
    fn open_in_roots(&self, path: &[u8], map: &Map) -> Option<File> {
        let same = |path: &PathBuf| self.open_as(map, path).ok().filter(|(_, metadata)| is_inode_of(metadata, map));
        self.in_roots(path).iter().find_map(same).map(|(file, _)| file)
    }

    /// Opens a file that may be the one that is mapped, and lies where that does.
    fn open_as(&self, map: &Map, path: &Path) -> io::Result<(File, Metadata)> {
        self.reach.open(Some((map.device_major, map.device_minor)), path, open_regular)
    }

    /// The links of the kernel to what is mapped, whatever has become of its name.
    fn open_mapped(&self, map: &Map) -> Option<File> {
        let name = format!("map_files/{:x}-{:x}", map.range.start.0, map.range.end.0);
        let link = self.proc.path(name);
        if let Ok((file, _)) = self.open_as(map, &link) {
            return Some(file);
        }
        let is_exe = self.exe == Some(&map.path.0);
        let exe = self.open_as(map, &self.proc.path("exe")).ok();
        exe.filter(|(_, metadata)| is_exe || is_inode_of(metadata, map)).map(|(file, _)| file)
    }

    /// A file of that name that proves to be the one that is mapped, where the target has it or where the user says, or why there is
    /// none. Of a file that the user's folders have and that is another one, the user is told.
    fn open_another(&self, path: Bytes, maps: &[Map]) -> FoundFile {
        let mut found = FoundFile { status: ModuleFile::MISSING, file: None, path, complaint: None };
        let mapped = build_id_in_memory(maps, self.memory);
        let name = Path::new(OsStr::from_bytes(&found.path.0)).to_owned();
        let near = self.in_roots(&found.path.0).into_iter().map(|candidate| (candidate, false));
        let named = self.search.candidates(&name, mapped.as_deref()).map(|candidate| (candidate, true));
        for (candidate, is_named) in near.chain(named) {
            let file = match maps.first().filter(|_| !is_named) {
                Some(map) => self.open_as(map, &candidate).map(|(file, _)| file),
                None => open_regular(&candidate),
            };
            let file = match file {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(_) => {
                    found.status = ModuleFile::UNREADABLE;
                    continue;
                }
            };
            match identity::compare(file, maps, self.memory) {
                Ok((Comparison::Same, file)) => {
                    return FoundFile { status: ModuleFile::FOUND, file: Some(file), complaint: None, ..found };
                }
                Ok((Comparison::Unknown, _)) => found.status = ModuleFile::MISMATCHED,
                Ok((Comparison::Different(how), _)) => {
                    found.status = ModuleFile::MISMATCHED;
                    if is_named && found.complaint.is_none() {
                        let message = format!(
                            "{} is not the file that the process has mapped from {}: {how}; it was not used",
                            candidate.display(),
                            found.path.escaped()
                        );
                        found.complaint = Some(Diagnostic::new(Severity::WARNING, "file-mismatch", message));
                    }
                }
                Err(_) => found.status = ModuleFile::UNREADABLE,
            }
        }
        found
    }
}

fn opened(file: File, status: ModuleFile, path: Bytes) -> FoundFile {
    match ElfFile::open(file) {
        Ok(file) => FoundFile { status, file: Some(file), path, complaint: None },
        Err(_) => FoundFile { status: ModuleFile::UNREADABLE, file: None, path, complaint: None },
    }
}

fn is_inode_of(metadata: &Metadata, map: &Map) -> bool {
    metadata.ino() == map.inode && metadata.dev() == libc::makedev(map.device_major, map.device_minor)
}
