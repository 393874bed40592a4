//! Which Python interpreters this machine has for the tests.

use crate::{has_program, is_root};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python interpreter.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its name in reports: `pyenv 3.12.1`.
    pub name: String,
    /// Major and minor version.
    pub version: (u32, u32),
    /// The folder that it sees as `/`, when it runs in a chroot.
    pub root: Option<PathBuf>,
    /// The executable, as seen from `root`.
    pub exe: PathBuf,
    /// What it needs in its environment.
    pub env: Vec<(String, OsString)>,
    /// Whether it has no `.symtab`.
    pub stripped: bool,
}

/// The interpreters that the scenarios run on: CPython 3.11, 3.12 and 3.13 of pyenv, the same with a stripped libpython,
/// Debian's own, and those of the Debian roots that `tests/run` unpacks into the cache. All distinct; at least one.
pub fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = Vec::new();
        found.extend(of_debian());
        for one in of_pyenv() {
            found.extend(stripped_copy(&one));
            found.push(one);
        }
        found.extend(of_roots());
        if let Ok(only) = std::env::var("PYST_TEST_INTERPRETERS") {
            found.retain(|one| only.split(',').any(|name| one.name.contains(name)));
        }
        assert!(!found.is_empty(), "no Python to test with: install Debian's python3.11, or run tests/run");
        found
    })
}

impl Interpreter {
    /// A command that runs it: in its root, if it has one, and with nothing of the caller's environment.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_through(&[])
    }

    /// The same through a command that takes another one as its last arguments.
    pub(crate) fn command_through(&self, prefix: &[&str]) -> Command {
        let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
        if let Some(root) = &self.root {
            words.extend(["/usr/sbin/chroot".into(), root.into()]);
        }
        words.push(self.exe.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").env("HOME", "/tmp");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The executable, as seen from outside of its root.
    #[must_use]
    pub fn host_exe(&self) -> PathBuf {
        self.outside(&self.exe)
    }

    /// A path of the interpreter's, as seen from outside of its root.
    #[must_use]
    pub fn outside(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// A path as the interpreter sees it.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        let inside = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        inside.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside))
    }

    /// Where its targets may have their files, as seen from outside of its root.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        if self.root.is_some() { self.outside(Path::new("/tmp")) } else { std::env::temp_dir() }
    }

    fn probe(name: &str, root: Option<PathBuf>, exe: PathBuf, stripped: bool) -> Option<Interpreter> {
        let env = Vec::new();
        let mut one = Interpreter { name: String::new(), version: (0, 0), root, exe, env, stripped };
        if !one.host_exe().exists() {
            return None;
        }
        let program = "import sys; print(*sys.version_info[:3])";
        let output = one.command().args(["-I", "-c", program]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let numbers: Vec<u32> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [major, minor, patch] = numbers[..] else { return None };
        one.version = (major, minor);
        one.name = format!("{name} {major}.{minor}.{patch}");
        Some(one)
    }
}

fn of_debian() -> Vec<Interpreter> {
    ["/usr/bin/python3.11", "/usr/bin/python3.12", "/usr/bin/python3.13"]
        .iter()
        .filter_map(|exe| Interpreter::probe("debian", None, PathBuf::from(exe), true))
        .collect()
}

fn of_pyenv() -> Vec<Interpreter> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        let output = Command::new("pyenv").arg("root").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    });
    let Some(versions) = root.and_then(|root| root.join("versions").read_dir().ok()) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
        .iter()
        .flat_map(|folder| ["python3.11", "python3.12", "python3.13"].map(|name| folder.join("bin").join(name)))
        .filter_map(|exe| Interpreter::probe("pyenv", None, exe, false))
        .collect()
}

/// The same interpreter with its libpython stripped of all symbols but the dynamic ones.
fn stripped_copy(one: &Interpreter) -> Option<Interpreter> {
    if !has_program("strip") {
        return None;
    }
    let (major, minor) = one.version;
    let file = format!("libpython{major}.{minor}.so.1.0");
    let library = one.exe.parent()?.parent()?.join("lib").join(&file);
    let folder = cache().join("stripped").join(one.name.replace(' ', "-"));
    let copy = folder.join(&file);
    let is_newer = |path: &Path| path.metadata().ok()?.modified().ok();
    if is_newer(&copy).is_none_or(|copied| is_newer(&library).is_none_or(|built| built > copied)) {
        std::fs::create_dir_all(&folder).ok()?;
        let scratch = tempfile::NamedTempFile::new_in(&folder).ok()?;
        let done =
            Command::new("strip").arg("--strip-all").arg("-o").arg(scratch.path()).arg(&library).status().ok()?;
        if !done.success() {
            return None;
        }
        scratch.persist(&copy).ok()?;
    }
    Some(Interpreter {
        name: format!("{} stripped", one.name),
        env: vec![("LD_LIBRARY_PATH".to_owned(), folder.into_os_string())],
        stripped: true,
        ..one.clone()
    })
}

fn of_roots() -> Vec<Interpreter> {
    let Ok(roots) = cache().join("roots").read_dir() else { return Vec::new() };
    if !is_root() {
        eprintln!("skipped: the Debian roots, for chroot needs root");
        return Vec::new();
    }
    let mut folders: Vec<PathBuf> = roots.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let mut found = Vec::new();
    for folder in folders {
        let suite = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for exe in ["/usr/bin/python3.11", "/usr/bin/python3.12", "/usr/bin/python3.13"] {
            found.extend(Interpreter::probe(&suite, Some(folder.clone()), PathBuf::from(exe), true));
        }
    }
    found
}

/// What outlives a test run, outside of the source tree: `$PYST_TEST_CACHE`, else `pyst-tests` in the user's cache.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("PYST_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).map(|dir| dir.join("pyst-tests"))
        })
        .unwrap_or_else(|| std::env::temp_dir().join("pyst-tests"))
}
