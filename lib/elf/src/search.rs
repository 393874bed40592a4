//! Where else the files of a target may be: folders and trees that the user names.
//!
//! Nothing found here is believed by its name: whoever asks compares build-ids or contents.

use crate::file::ElfFile;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How many entries of trees are looked at. A whole distribution has about a million.
const MAX_ENTRIES: usize = 4 << 20;

/// The longest path that is put together on the way down a tree.
const MAX_PATH: usize = 4096;

/// Folders and trees to search.
#[derive(Debug, Default)]
pub struct Search {
    /// Folders that hold the files themselves.
    pub folders: Vec<PathBuf>,
    /// Trees that hold them anywhere; each may be a root file system.
    pub roots: Vec<PathBuf>,
    /// Folders laid out as `/usr/lib/debug` is.
    pub debug: Vec<PathBuf>,
    /// The files of the trees by build-id, made when it is first asked.
    index: OnceLock<HashMap<Vec<u8>, Vec<PathBuf>>>,
}

impl Search {
    /// A search of these folders, trees and debug folders.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, roots: Vec<PathBuf>, debug: Vec<PathBuf>) -> Search {
        Search { folders, roots, debug, index: OnceLock::new() }
    }

    /// Where the file may be that the target had at `path`, with this build-id if one is known; likeliest first. The trees are searched
    /// only when whoever asks goes on to what only that can find.
    pub fn candidates<'a>(&'a self, path: &Path, build_id: Option<&'a [u8]>) -> impl Iterator<Item = PathBuf> + 'a {
        let mut candidates = Vec::new();
        if let Some(name) = path.file_name() {
            candidates.extend(self.folders.iter().map(|folder| folder.join(name)));
        }
        let below_root = path.strip_prefix("/").unwrap_or(path);
        candidates.extend(self.roots.iter().map(|root| root.join(below_root)));
        candidates.retain(|candidate| candidate.is_file());
        let indexed = build_id.filter(|_| !self.roots.is_empty()).into_iter();
        let indexed =
            indexed.flat_map(|id| self.index.get_or_init(|| index(&self.roots)).get(id).into_iter().flatten());
        candidates.into_iter().chain(indexed.cloned())
    }

    /// Where a companion may be that is installed at `path`.
    #[must_use]
    pub fn companions(&self, path: &Path) -> Vec<PathBuf> {
        let below_debug = path.strip_prefix("/usr/lib/debug").ok();
        let below_root = path.strip_prefix("/").unwrap_or(path);
        let of_debug = self.debug.iter().filter_map(|folder| Some(folder.join(below_debug?)));
        let of_folders = self.folders.iter().filter_map(|folder| Some(folder.join(path.file_name()?)));
        let of_roots = self.roots.iter().map(|root| root.join(below_root));
        of_debug.chain(of_folders).chain(of_roots).collect()
    }
}

/// The ELF files of trees that have a build-id. Links are not followed: what they lead to is met elsewhere, or is not of the
/// tree.
fn index(roots: &[PathBuf]) -> HashMap<Vec<u8>, Vec<PathBuf>> {
    let mut files: HashMap<Vec<u8>, Vec<PathBuf>> = HashMap::new();
    let mut folders = roots.to_vec();
    let mut left = MAX_ENTRIES;
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().take(left).collect();
        left = left.saturating_sub(entries.len());
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() && path.as_os_str().len() < MAX_PATH {
                folders.push(path);
            } else if kind.is_file()
                && let Some(build_id) = build_id(&path)
            {
                files.entry(build_id).or_default().push(path);
            }
        }
    }
    files
}

fn build_id(path: &Path) -> Option<Vec<u8>> {
    let mut file = fs::File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok().filter(|()| magic == *b"\x7fELF")?;
    // A debug file has the same build-id, and no code.
    let file = ElfFile::open(file).ok().filter(has_content)?;
    file.build_id().map(<[u8]>::to_vec)
}

/// Whether the file holds what it says is loaded: `objcopy --only-keep-debug` leaves the headers and takes the content.
fn has_content(file: &ElfFile) -> bool {
    let code = file.load_segments().iter().find(|segment| segment.is_executable());
    code.is_some_and(|code| code.svmas.start < code.svmas.end)
}

/// The folders of a list like `PATH`: `A:B`. Empty parts are none.
#[must_use]
pub fn split_list(list: &OsStr) -> Vec<PathBuf> {
    let parts = list.as_bytes().split(|byte| *byte == b':').filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsStr::from_bytes(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_colons() {
        assert_eq!(split_list(OsStr::new("/a:b::/c d")), ["/a", "b", "/c d"].map(PathBuf::from));
        assert!(split_list(OsStr::new("")).is_empty());
    }

    #[test]
    fn a_tree_is_searched_by_build_id_and_by_path() {
        let tree = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let deep = tree.path().join("usr/lib/deep");
        fs::create_dir_all(&deep).unwrap();
        fs::copy(&own, deep.join("renamed")).unwrap();
        fs::write(tree.path().join("usr/lib/libx.so"), "no ELF").unwrap();
        std::os::unix::fs::symlink("..", deep.join("loop")).unwrap();
        let search = Search::new(vec![], vec![tree.path().to_owned()], vec![]);
        let id = build_id(&own);
        if let Some(id) = &id {
            assert!(search.candidates(Path::new("/app/python"), Some(id)).eq([deep.join("renamed")]));
        }
        assert_eq!(search.candidates(Path::new("/app/python"), Some(b"another")).next(), None);
        let by_path = search.candidates(Path::new("/usr/lib/libx.so"), None);
        assert!(by_path.eq([tree.path().join("usr/lib/libx.so")]));
        let search = Search::new(vec![deep.clone()], vec![], vec![]);
        assert!(search.candidates(Path::new("/x/renamed"), None).eq([deep.join("renamed")]));
    }

    #[test]
    fn debug_folders_are_laid_out_as_the_system_s() {
        let search = Search::new(vec![], vec![], vec!["/mine".into()]);
        let found = search.companions(Path::new("/usr/lib/debug/.build-id/ab/cd.debug"));
        assert_eq!(found, [PathBuf::from("/mine/.build-id/ab/cd.debug")]);
        assert!(search.companions(Path::new("/lib/x.debug")).is_empty());
    }
}
