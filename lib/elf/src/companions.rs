//! Companion files: what was stripped from a file (its debug file), and what debug files share (dwz's supplement).
//!
//! A companion is believed only if it proves that it belongs: by the same build-id, or by the checksum that the file states.

use crate::file::ElfFile;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where distributions install debug files.
const DEBUG: &str = "/usr/lib/debug";

/// Opens the file at an absolute path of the target's file system.
pub type Open<'a> = &'a dyn Fn(&Path) -> Option<ElfFile>;

impl ElfFile {
    /// Adds the companions of this file, which is installed at `path`: the debug file below the build-id directories, or the one that
    /// `.gnu_debuglink` names, and the supplement that `.gnu_debugaltlink` names.
    #[must_use]
    pub fn with_companions(mut self, path: &Path, open: Open<'_>) -> ElfFile {
        if let Some((mut debug, place)) = self.debug_file(path, open) {
            debug.supplement = debug.find_supplement(&place, open).map(Box::new);
            self.debug = Some(Box::new(debug));
        }
        self.supplement = self.find_supplement(path, open).map(Box::new);
        self
    }

    /// Whether it has any.
    pub(crate) fn has_companions(&self) -> bool {
        self.debug.is_some() || self.supplement.is_some()
    }

    fn debug_file(&self, path: &Path, open: Open<'_>) -> Option<(ElfFile, PathBuf)> {
        let by_build_id = || {
            let place = build_id_path(self.build_id()?)?;
            let same = |debug: &ElfFile| debug.build_id() == self.build_id();
            Some((open(&place).filter(same)?, place))
        };
        by_build_id().or_else(|| self.linked_file(path, open))
    }

    /// `.gnu_debuglink`: a name, zeros up to a multiple of four, and the CRC-32 of the whole file.
    fn linked_file(&self, path: &Path, open: Open<'_>) -> Option<(ElfFile, PathBuf)> {
        let (_, bytes) = self.section_bytes(b".gnu_debuglink")?;
        let name = text(bytes)?;
        let checksum =
            bytes.get(name.len().checked_add(4)? & !3..)?.first_chunk().map(|sum| u32::from_le_bytes(*sum))?;
        let name = Path::new(OsStr::from_bytes(name));
        // A name, not a way to somewhere else.
        if !matches!(name.components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]) {
            return None;
        }
        let folder = path.parent()?;
        let installed = Path::new(DEBUG).join(folder.strip_prefix("/").unwrap_or(folder));
        let places = [folder.join(name), folder.join(".debug").join(name), installed.join(name)];
        places.into_iter().find_map(|place| {
            let debug = open(&place)?;
            let belongs = match (self.build_id(), debug.build_id()) {
                (Some(own), Some(other)) => own == other,
                _ => crc32fast::hash(debug.data()) == checksum,
            };
            belongs.then_some((debug, place))
        })
    }

    /// The name of the supplement that this file needs and that was not found.
    pub(crate) fn missing_supplement(&self) -> Option<&[u8]> {
        if self.supplement.is_some() { None } else { Some(self.stated_supplement()?.0) }
    }

    /// `.gnu_debugaltlink`: a path, absolute or relative to this file's folder, and the other file's build-id.
    fn stated_supplement(&self) -> Option<(&[u8], &[u8])> {
        let (_, bytes) = self.section_bytes(b".gnu_debugaltlink")?;
        let name = text(bytes)?;
        let build_id = bytes.get(name.len().checked_add(1)?..).filter(|id| !id.is_empty())?;
        Some((name, build_id))
    }

    fn find_supplement(&self, path: &Path, open: Open<'_>) -> Option<ElfFile> {
        let (name, build_id) = self.stated_supplement()?;
        let stated = normal(&path.parent()?.join(OsStr::from_bytes(name)));
        let places = [Some(stated), build_id_path(build_id)];
        places.into_iter().flatten().find_map(|place| open(&place).filter(|other| other.build_id() == Some(build_id)))
    }
}

/// `/usr/lib/debug/.build-id/ab/cdef….debug`.
fn build_id_path(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!("{DEBUG}/.build-id/{first:02x}/{rest}.debug")))
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..memchr::memchr(0, bytes)?).filter(|text| !text.is_empty())
}

/// The path without `..`, which would lead out of the root that it is opened in.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_files_lie_by_build_id() {
        let path = build_id_path(&[0xab, 0x01, 0xff]).unwrap();
        assert_eq!(path, Path::new("/usr/lib/debug/.build-id/ab/01ff.debug"));
        assert_eq!(build_id_path(&[0xab]), None);
    }

    #[test]
    fn a_path_with_dots_stays_below_the_root() {
        assert_eq!(normal(Path::new("/usr/lib/debug/.build-id/ab/../../.dwz/x")), Path::new("/usr/lib/debug/.dwz/x"));
        assert_eq!(normal(Path::new("/a/../../../etc/x")), Path::new("/etc/x"));
    }
}
