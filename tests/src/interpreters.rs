//! Which Python interpreters this machine has for the tests, and which of those that could be had it lacks.

use crate::{has_program, is_root};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python interpreter.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its name in reports: `pyenv 3.12.1`, `sid 3.14.10 debug`.
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
    /// Whether it is built with `--with-pydebug`.
    pub debug: bool,
    /// Whether it is built without the GIL.
    pub free_threaded: bool,
    /// Whether its instructions are functions that tail-call each other.
    pub tail_call: bool,
    /// Whether its JIT is on.
    pub jit: bool,
}

/// All interpreters there are, those that `PYST_TEST_INTERPRETERS` names (a list of parts of names, with commas): Debian's own;
/// those of pyenv, and the same with a stripped libpython; those of the Debian roots that `tests/run` unpacks into the cache; and
/// those that it builds. All distinct; at least one; Debian's own first.
pub fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = all().to_vec();
        if let Ok(only) = std::env::var("PYST_TEST_INTERPRETERS") {
            found.retain(|one| only.split(',').any(|name| one.name.contains(name)));
        }
        assert!(!found.is_empty(), "no Python to test with: install Debian's python3.11, or run tests/run");
        found
    })
}

/// A few of [`interpreters`], for what differs little between versions: shared and static builds, with and without symbols, in a
/// chroot and not; all of them if none of the few is among them.
pub fn representatives() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let is_one = |one: &Interpreter| {
            let plain =
                ["debian ", "pyenv 3.12.", "pyenv 3.13.", "trixie "].iter().any(|few| one.name.starts_with(few));
            plain && !one.is_variant() || one.name.starts_with("pyenv 3.12.") && one.stripped
        };
        let found: Vec<_> = interpreters().iter().filter(|one| is_one(one)).cloned().collect();
        if found.is_empty() { interpreters().to_vec() } else { found }
    })
}

/// The interpreters that the project is tested with: how their names begin, without a patch version, and how they end.
#[must_use]
pub fn expected() -> Vec<(String, &'static str)> {
    all_expected().map(|(start, end, _)| (start, end)).collect()
}

/// The interpreters that the project is tested with and that this machine lacks, each with the reason.
pub fn missing() -> Vec<(String, &'static str)> {
    let is_there = |start: &str, end: &str| {
        let variant = |one: &Interpreter| if end.is_empty() { !one.is_variant() } else { one.name.ends_with(end) };
        all().iter().any(|one| one.name.starts_with(&format!("{start}.")) && variant(one))
    };
    let lacking = all_expected().filter(|(start, end, _)| !is_there(start, end));
    lacking.map(|(start, end, reason)| (format!("{start}{end}"), reason)).collect()
}

/// Each with the reason why a machine may lack it.
fn all_expected() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    let not_there = "not among pyenv's versions, and no registry has it";
    let pyenv = PYENV.map(|version| (format!("pyenv {version}"), "", not_there));
    let no_root = if is_root() { "its Debian root is not unpacked: tests/run does it" } else { "chroot needs root" };
    let roots = ROOTS.iter().flat_map(move |(suite, version, suffixes)| {
        suffixes.iter().map(move |suffix| (format!("{suite} {version}"), *suffix, no_root))
    });
    let built = [
        ("built 3.13".to_owned(), " free-threaded", "built on request: tests/run --free-threaded"),
        ("built 3.14".to_owned(), " tail-call", "built on request: tests/run --tail-call"),
    ];
    pyenv.into_iter().chain(roots).chain(built)
}

const PYENV: [&str; 9] = ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"];

/// Suites, versions, and the variants of each.
const ROOTS: [(&str, &str, &[&str]); 6] = [
    ("bullseye", "3.9", &["", " debug"]),
    ("bookworm", "3.11", &["", " debug"]),
    ("trixie", "3.13", &["", " debug"]),
    ("sid", "3.13", &["", " debug"]),
    ("sid", "3.14", &["", " debug", " jit"]),
    ("sid", "3.15", &["", " debug", " jit"]),
];

impl Interpreter {
    /// Whether another interpreter differs from it in how it is built or run alone.
    #[must_use]
    pub fn is_variant(&self) -> bool {
        self.debug || self.jit || self.free_threaded || self.tail_call || self.name.ends_with(" stripped")
    }

    /// Of a stripped copy: its library, and the one that was copied.
    pub(crate) fn stripped_library(&self) -> Option<(PathBuf, PathBuf)> {
        let folder = self.env.iter().find(|(name, _)| name == "LD_LIBRARY_PATH" && self.name.ends_with(" stripped"));
        let mut entries = Path::new(&folder?.1).read_dir().ok()?.flatten();
        let copy = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("libpython"))?.path();
        let original = self.exe.parent()?.parent()?.join("lib").join(copy.file_name()?);
        Some((copy, original))
    }

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

    /// The interpreter at `exe`, if there is one; it says itself what it is.
    fn probe(name: &str, root: Option<&Path>, exe: PathBuf, stripped: bool) -> Option<Interpreter> {
        let root = root.map(Path::to_owned);
        let (name, env) = (name.to_owned(), Vec::new());
        let (debug, free_threaded, tail_call, jit) = (false, false, false, false);
        let version = (0, 0);
        let mut one = Interpreter { name, version, root, exe, env, stripped, debug, free_threaded, tail_call, jit };
        if !one.host_exe().exists() {
            return None;
        }
        let numbers = one.numbers_of(
            "import sys, sysconfig; says = lambda name: sysconfig.get_config_var(name) or 0; \
             print('%d %d %d %d %d %d' % (sys.version_info[:3] + (hasattr(sys, 'gettotalrefcount'), \
             says('Py_GIL_DISABLED'), says('Py_TAIL_CALL_INTERP') or says('_Py_TAIL_CALL_INTERP'))))",
        )?;
        let [major, minor, patch, debug, free_threaded, tail_call] = numbers[..] else { return None };
        one.version = (major, minor);
        (one.debug, one.free_threaded, one.tail_call) = (debug == 1, free_threaded == 1, tail_call == 1);
        // Debian strips its releases, and leaves its debug builds as they are.
        one.stripped &= !one.debug;
        one.name = format!("{} {major}.{minor}.{patch}", one.name);
        let variants = [(one.free_threaded, " free-threaded"), (one.tail_call, " tail-call"), (one.debug, " debug")];
        for (is, what) in variants {
            one.name.push_str(if is { what } else { "" });
        }
        Some(one)
    }

    /// The same interpreter with its JIT on, if it has one.
    fn with_jit(&self) -> Option<Interpreter> {
        let env = vec![("PYTHON_JIT".to_owned(), OsString::from("1"))];
        let one = Interpreter { name: format!("{} jit", self.name), env, jit: true, ..self.clone() };
        let is_new_enough = self.version >= (3, 14) && !self.debug;
        let enabled = is_new_enough.then(|| one.numbers_of("import sys; print(int(sys._jit.is_enabled()))")).flatten();
        (enabled == Some(vec![1])).then_some(one)
    }

    /// The numbers that a program of one line prints.
    fn numbers_of(&self, program: &str) -> Option<Vec<u32>> {
        let output = self.command().args(["-s", "-c", program]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.split_whitespace().filter_map(|number| number.parse().ok()).collect())
    }
}

fn all() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = in_folder("debian", None, Path::new("/usr/bin"), true);
        for one in of_pyenv() {
            let stripped = stripped_copy(&one);
            found.push(one);
            found.extend(stripped);
        }
        found.extend(of_roots());
        found.extend(of_cpython_builds());
        found
    })
}

/// The interpreters in a folder, by version.
fn in_folder(name: &str, root: Option<&Path>, folder: &Path, stripped: bool) -> Vec<Interpreter> {
    let versions = std::iter::once("2.7".to_owned()).chain((6..=15).map(|minor| format!("3.{minor}")));
    let executables = versions.flat_map(|version| ["", "d", "t"].map(|end| format!("python{version}{end}")));
    let mut found = Vec::new();
    for exe in executables {
        let one = Interpreter::probe(name, root, folder.join(exe), stripped);
        // A build without the GIL is installed under two names.
        let one = one.filter(|one| found.iter().all(|other: &Interpreter| other.name != one.name));
        let jit = one.as_ref().and_then(Interpreter::with_jit);
        found.extend(one.into_iter().chain(jit));
    }
    found
}

fn of_pyenv() -> Vec<Interpreter> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        let output = Command::new("pyenv").arg("root").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    });
    let Some(versions) = root.and_then(|root| root.join("versions").read_dir().ok()) else { return Vec::new() };
    let folders = versions.flatten().map(|entry| entry.path().join("bin"));
    let mut found: Vec<_> = folders.flat_map(|folder| in_folder("pyenv", None, &folder, false)).collect();
    found.sort_by(|one, other| (one.version, &one.name).cmp(&(other.version, &other.name)));
    found
}

/// The same interpreter with its libpython stripped of all symbols but the dynamic ones.
fn stripped_copy(one: &Interpreter) -> Option<Interpreter> {
    if !has_program("strip") || one.is_variant() {
        return None;
    }
    let (major, minor) = one.version;
    // 3.6 and 3.7 say in the name that they have pymalloc.
    let names = ["", "m"].map(|abi| format!("libpython{major}.{minor}{abi}.so.1.0"));
    let libraries = one.exe.parent()?.parent()?.join("lib");
    let file = names.iter().find(|name| libraries.join(name).exists())?;
    let library = libraries.join(file);
    let folder = cache().join("stripped").join(one.name.replace(' ', "-"));
    let copy = folder.join(file);
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
    let found = folders_of(&cache().join("roots"));
    if !found.is_empty() && !is_root() {
        eprintln!("skipped: the Debian roots, for chroot needs root");
        return Vec::new();
    }
    let of = |root: &PathBuf| {
        let suite = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        in_folder(&suite, Some(root), Path::new("/usr/bin"), true)
    };
    found.iter().flat_map(of).collect()
}

fn of_cpython_builds() -> Vec<Interpreter> {
    let folders = folders_of(&cache().join("built"));
    folders.iter().flat_map(|folder| in_folder("built", None, &folder.join("bin"), false)).collect()
}

/// The folders in a folder, by name; without those that are being made.
fn folders_of(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut folders: Vec<PathBuf> = entries.unwrap_or_default();
    folders.retain(|one| one.is_dir() && (one.join("usr/bin").is_dir() || one.join("bin").is_dir()));
    folders.sort();
    folders
}

/// What outlives a test run, outside of the source tree: `$PYST_TEST_CACHE`, else `pyst-tests` in the user's cache.
#[must_use]
pub fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("PYST_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).map(|dir| dir.join("pyst-tests"))
        })
        .unwrap_or_else(|| std::env::temp_dir().join("pyst-tests"))
}
