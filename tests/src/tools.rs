//! The four tools: found beside the test executable, built once if need be, and run.

use crate::children::{Output, run, run_with_input};
use crate::report::Report;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `pyst-grab`.
    Grab,
    /// `pyst-unwind`.
    Unwind,
    /// `pyst-py`.
    Py,
    /// `pyst-fmt`.
    Fmt,
}

impl Tool {
    /// All of them, in the order of the pipeline.
    pub const ALL: [Tool; 4] = [Tool::Grab, Tool::Unwind, Tool::Py, Tool::Fmt];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Grab => "pyst-grab",
            Tool::Unwind => "pyst-unwind",
            Tool::Py => "pyst-py",
            Tool::Fmt => "pyst-fmt",
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(self) -> PathBuf {
        folder().join(self.name())
    }
}

/// A command that runs `tool`, with nothing in its environment that changes what it prints.
#[must_use]
pub fn tool(tool: Tool) -> Command {
    let mut command = Command::new(tool.path());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Copies a program that is to be run. Another process does it: one that a test running beside this one starts meanwhile would have the
/// copy open for writing until it runs its program, and such a file cannot be run ("Text file busy").
///
/// # Errors
/// It cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg(from).arg(to))?.expect_status(0).map(drop)
}

/// Writes an executable file that is run soon, in the same way.
///
/// # Errors
/// It cannot be written.
pub fn write_program(bytes: &[u8], to: &Path) -> Result<()> {
    let beside = to.with_extension("unfinished");
    std::fs::write(&beside, bytes)?;
    std::fs::set_permissions(&beside, std::fs::metadata(to)?.permissions())?;
    std::fs::remove_file(to)?;
    copy_program(&beside, to)
}

/// `$PYST_TEST_BIN_DIR`, whose tools are taken as they are; else the folder of this profile's executables, where they are built
/// first: cargo builds the executables of other packages for no test.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("PYST_TEST_BIN_DIR") {
            return PathBuf::from(folder);
        }
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().to_owned();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--manifest-path"]).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        build.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        for tool in Tool::ALL {
            build.args(["--package", tool.name()]);
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the tools do not build");
        folder
    })
}

/// Runs `pyst-grab` with `arguments`; its standard output is the snapshot. The limit of the stop is one that a machine busy with
/// other tests does not reach.
///
/// # Errors
/// It cannot be run, or hangs.
pub fn grab<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Output> {
    run_with_input(tool(Tool::Grab).arg("--stop-limit=10000").args(arguments), &[])
}

/// A way through the stages after `pyst-grab`.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The stages before `pyst-fmt`, each with its arguments.
    pub stages: Vec<(Tool, Vec<String>)>,
    /// The arguments of `pyst-fmt`.
    pub format: Vec<String>,
    /// The folder that the stages see as `/`, with the tools in its `bin`.
    pub root: Option<PathBuf>,
}

impl Pipeline {
    /// `pyst-unwind --snapshot-only | pyst-py | pyst-fmt` with `arguments` for the last.
    #[must_use]
    pub fn from_snapshot_only(arguments: &[&str]) -> Pipeline {
        let stages = vec![(Tool::Unwind, vec!["--snapshot-only".to_owned()]), (Tool::Py, Vec::new())];
        Pipeline { stages, format: arguments.iter().map(|one| (*one).to_owned()).collect(), root: None }
    }

    /// `pyst-unwind | pyst-py | pyst-fmt` with `arguments` for the last: with the files of this machine.
    #[must_use]
    pub fn with_local_files(arguments: &[&str]) -> Pipeline {
        let stages = vec![(Tool::Unwind, Vec::new()), (Tool::Py, Vec::new())];
        Pipeline { stages, ..Pipeline::from_snapshot_only(arguments) }
    }

    /// Runs the stages, each with the whole output of the one before; the outputs of all.
    ///
    /// # Errors
    /// One cannot be run, or hangs.
    pub fn run(&self, snapshot: &[u8]) -> Result<Vec<Output>> {
        let mut outputs: Vec<Output> = Vec::new();
        let last = (Tool::Fmt, self.format.clone());
        for (stage, arguments) in self.stages.iter().chain([&last]) {
            let input = outputs.last().map_or(snapshot, |output| &output.stdout);
            let mut command = match &self.root {
                Some(root) => {
                    let mut command = Command::new("/usr/sbin/chroot");
                    command.arg(root).arg(Path::new("/bin").join(stage.name())).env_clear();
                    command
                }
                None => tool(*stage),
            };
            let output = run_with_input(command.args(arguments), input).context(stage.name())?;
            outputs.push(output);
        }
        Ok(outputs)
    }
}

/// The report of `pyst-unwind | pyst-py | pyst-fmt --format json --all-threads` on a snapshot. Every stage must end with 0.
///
/// # Errors
/// A stage fails.
pub fn analyse(snapshot: &[u8]) -> Result<Report> {
    let pipeline = Pipeline::with_local_files(&["--format", "json", "--all-threads"]);
    let mut report = Vec::new();
    for output in pipeline.run(snapshot)? {
        report = output.expect_status(0)?.stdout;
    }
    Report::parse(&report)
}

/// The report of the whole pipeline on what `arguments` name. Every stage must end with 0.
///
/// # Errors
/// A stage fails.
pub fn report_of<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Report> {
    analyse(&grab(arguments)?.snapshot()?)
}

impl Output {
    /// The snapshot that `pyst-grab` took, which must be complete.
    ///
    /// # Errors
    /// It is not; the error has what was said of it.
    pub fn snapshot(self) -> Result<Vec<u8>> {
        if self.status != Some(0) {
            bail!("pyst-grab: exit status {:?}: {}", self.status, self.said()?);
        }
        Ok(self.stdout)
    }

    /// What is said of a snapshot, by whichever tool: in a pipe it is the last one.
    ///
    /// # Errors
    /// `pyst-fmt` cannot be run.
    pub fn said(&self) -> Result<String> {
        let said = run_with_input(&mut tool(Tool::Fmt), &self.stdout)?.stderr;
        Ok(format!("{} {}", self.stderr.trim(), said.trim()))
    }
}
