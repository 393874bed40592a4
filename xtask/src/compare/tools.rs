//! The tools: pyst, built from here, and those that PyPI has, installed once into the user's cache.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is asked of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Python,
    Native,
    Locals,
    NativeLocals,
}

impl Mode {
    pub(crate) const ALL: [Mode; 4] = [Mode::Python, Mode::Native, Mode::Locals, Mode::NativeLocals];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Python => "Python only",
            Mode::Native => "native",
            Mode::Locals => "locals",
            Mode::NativeLocals => "native, locals",
        }
    }

    pub(crate) fn native(self) -> bool {
        matches!(self, Mode::Native | Mode::NativeLocals)
    }

    pub(crate) fn locals(self) -> bool {
        matches!(self, Mode::Locals | Mode::NativeLocals)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pyst,
    PyStack,
    PySpy,
    Austin,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Pyst, Kind::PyStack, Kind::PySpy, Kind::Austin];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Pyst => "pyst",
            Kind::PyStack => "PyStack",
            Kind::PySpy => "py-spy",
            Kind::Austin => "austin",
        }
    }

    /// The command that is run, as it stands on the page; a tool may have none.
    pub(crate) fn command(self, mode: Mode) -> Option<&'static str> {
        Some(match (self, mode) {
            (Kind::Pyst, Mode::Python) => "pyst-grab --python-only PID | pyst-py | pyst-fmt",
            (Kind::Pyst, Mode::Native) => "pyst-grab PID | pyst-unwind | pyst-py | pyst-fmt",
            (Kind::Pyst, Mode::Locals) => "pyst-grab --python-only --locals PID | pyst-py | pyst-fmt",
            (Kind::Pyst, Mode::NativeLocals) => "pyst-grab --locals PID | pyst-unwind | pyst-py | pyst-fmt",
            (Kind::PyStack, Mode::Python) => "pystack remote PID",
            (Kind::PyStack, Mode::Native) => "pystack remote PID --native",
            (Kind::PyStack, Mode::Locals) => "pystack remote PID --locals",
            (Kind::PyStack, Mode::NativeLocals) => "pystack remote PID --native --locals",
            (Kind::PySpy, Mode::Python) => "py-spy dump --pid PID",
            (Kind::PySpy, Mode::Native) => "py-spy dump --native --pid PID",
            (Kind::PySpy, Mode::Locals) => "py-spy dump --locals --pid PID",
            (Kind::PySpy, Mode::NativeLocals) => "py-spy dump --native --locals --pid PID",
            (Kind::Austin, Mode::Python) => "austin -w PID",
            (Kind::Austin, _) => return None,
        })
    }

    /// What PyPI calls it, with the version. Pinned, for a figure is of one version.
    fn requirement(self) -> Option<&'static str> {
        match self {
            Kind::Pyst => None,
            Kind::PyStack => Some("pystack==1.7.2"),
            Kind::PySpy => Some("py-spy==0.4.3"),
            Kind::Austin => Some("austin-dist==4.0.0"),
        }
    }
}

/// What outlives a run.
pub(crate) struct Cache {
    /// `pyst-bench` in the user's cache.
    pub(crate) folder: PathBuf,
    /// That of the tests: where their interpreters are.
    pub(crate) of_tests: PathBuf,
}

impl Cache {
    pub(crate) fn open() -> Result<Cache> {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).context("no cache folder")?;
        let folder = cache.join("pyst-bench");
        fs::create_dir_all(&folder)?;
        let of_tests = std::env::var_os("PYST_TEST_CACHE").map_or_else(|| cache.join("pyst-tests"), PathBuf::from);
        Ok(Cache { folder, of_tests })
    }
}

/// The folder that a package of PyPI is in, installed if need be; `options` say for which Python and machine.
pub(crate) fn installed(requirement: &str, options: &[&str], cache: &Cache) -> Result<PathBuf> {
    let name: Vec<&str> = std::iter::once(requirement).chain(options.iter().copied()).collect();
    let folder = cache.folder.join(name.join(" ").replace("==", "-").replace(" --", " ").replace(' ', "-"));
    if folder.exists() {
        return Ok(folder);
    }
    let pip = cache.folder.join("pip");
    if !pip.join("bin").join("pip").exists() {
        let status = Command::new("python3").args(["-m", "venv"]).arg(&pip).status().context("no python3")?;
        ensure!(status.success(), "python3 -m venv failed: Debian has it in python3-venv");
    }
    eprintln!("installing {requirement} into {}", folder.display());
    let scratch = cache.folder.join(format!("new-{}", std::process::id()));
    let mut command = Command::new(pip.join("bin").join("pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--target"]);
    let status = command.arg(&scratch).args(options).arg(requirement).status()?;
    if !status.success() {
        let _ = fs::remove_dir_all(&scratch);
    }
    ensure!(status.success(), "pip did not install {requirement}");
    fs::rename(&scratch, &folder)?;
    Ok(folder)
}

/// A tool that runs here.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) kind: Kind,
    /// What it says that it is.
    pub(crate) version: String,
    folder: PathBuf,
    /// Where its Python modules are.
    modules: Option<PathBuf>,
}

/// The tools to be had; why one is not is said.
pub(crate) fn tools(pyst: &Path, cache: &Cache) -> Result<Vec<Tool>> {
    let mut tools = Vec::new();
    for kind in Kind::ALL {
        match Tool::find(kind, pyst, cache) {
            Ok(tool) => tools.push(tool),
            Err(error) if kind == Kind::Pyst => return Err(error),
            Err(error) => eprintln!("left out: {}: {error:#}", kind.name()),
        }
    }
    Ok(tools)
}

impl Tool {
    fn find(kind: Kind, pyst: &Path, cache: &Cache) -> Result<Tool> {
        let Some(requirement) = kind.requirement() else {
            let tool = Tool { kind, version: String::new(), folder: pyst.to_owned(), modules: None };
            return tool.that_runs();
        };
        // The wheel for glibc of austin 4.0.0 needs a newer one than it says; that for musl runs where musl is.
        let builds: &[&[&str]] = match kind {
            Kind::Austin => &[&[], &["--platform", "musllinux_1_1_x86_64"]],
            _ => &[&[]],
        };
        let mut found = Err(anyhow::anyhow!("it has no build"));
        for options in builds {
            found = installed(requirement, options, cache).and_then(|modules| {
                let folder = modules.join("bin");
                Tool { kind, version: String::new(), folder, modules: Some(modules) }.that_runs()
            });
            if found.is_ok() {
                break;
            }
        }
        found
    }

    fn that_runs(mut self) -> Result<Tool> {
        let program = self.kind.command(Mode::Python).and_then(|command| command.split(' ').next());
        let output = self.program(program.context("no command")?).arg("--version").output()?;
        let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', " ");
        ensure!(output.status.success(), "it does not run here: {}", says(&output.stderr));
        self.version = version_in(&says(&output.stdout)).context("it does not say its version")?;
        Ok(self)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        if let Some(modules) = &self.modules {
            command.env("PYTHONPATH", modules);
        }
        command
    }

    /// The commands of the pipeline that does what `mode` asks.
    pub(crate) fn pipeline(&self, mode: Mode, pid: u32) -> Option<Vec<Command>> {
        let stage = |words: &str| {
            let mut words = words.split_whitespace();
            let mut command = self.program(words.next().unwrap_or_default());
            command.args(words.map(|word| if word == "PID" { pid.to_string() } else { word.to_owned() }));
            command
        };
        Some(self.kind.command(mode)?.split('|').map(stage).collect())
    }
}

/// The version in what a tool says of itself: `1.7.2`, `py-spy 0.4.3`, `pyst-grab 0.1.0` and more lines.
fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    text.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_says_its_version_alone_or_after_its_name() {
        for text in ["1.7.2", "py-spy 1.7.2", "pyst-grab 1.7.2\nsnapshot format 1"] {
            assert_eq!(version_in(text).as_deref(), Some("1.7.2"));
        }
        assert_eq!(version_in("no version"), None);
    }

    #[test]
    fn a_command_of_the_page_is_the_one_that_is_run() {
        let tool = Tool { kind: Kind::Pyst, version: String::new(), folder: "/bin".into(), modules: None };
        let pipeline = tool.pipeline(Mode::Locals, 42).unwrap();
        let said: Vec<String> = pipeline.iter().map(|command| format!("{command:?}").replace('"', "")).collect();
        assert_eq!(said, ["/bin/pyst-grab --python-only --locals 42", "/bin/pyst-py", "/bin/pyst-fmt"]);
    }

    #[test]
    fn austin_has_python_frames_and_nothing_else() {
        let modes = Mode::ALL.into_iter().filter(|mode| Kind::Austin.command(*mode).is_some());
        assert_eq!(modes.collect::<Vec<_>>(), [Mode::Python]);
    }
}
