//! gdb as the oracle of native stacks.

use crate::children::run;
use crate::interpreters::Interpreter;
use crate::tools_dir;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A physical frame, as gdb finds it.
#[derive(Clone, Debug, Deserialize)]
pub struct GdbFrame {
    /// The pc.
    pub pc: u64,
    /// The function, if gdb knows one.
    pub name: Option<String>,
    /// The shared library, if it is in one.
    pub module: Option<String>,
    /// Stack pointer and frame pointer; of the innermost frame only.
    #[serde(default)]
    pub pointers: Option<[u64; 2]>,
    /// The functions inlined where it stands, and itself; innermost first.
    #[serde(default)]
    pub calls: Vec<GdbCall>,
    /// The runs of Python functions of which the interpreter keeps something in this frame's part of the stack, each innermost first and with
    /// `None` for what Python does not show: one run in an evaluation loop. `None` where no interpreter was named, or one that keeps nothing there.
    #[serde(default)]
    pub runs: Option<Vec<Vec<Option<String>>>>,
}

/// A call within a physical frame, as gdb finds it.
#[derive(Clone, Debug, Deserialize)]
pub struct GdbCall {
    /// The function, if gdb knows one.
    pub name: Option<String>,
    /// The source file, if there is debug information.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

/// The native stacks of a target of `interpreter`, by tid, outermost frame first. A stripped copy has the names of the original.
///
/// # Errors
/// gdb fails.
pub fn native_stacks(interpreter: &Interpreter, pid: u32) -> Result<BTreeMap<u32, Vec<GdbFrame>>> {
    let mut gdb = gdb();
    gdb.args(["-iex", "set backtrace past-main on"]);
    let symbols = tempfile::tempdir()?;
    if let Some((copy, original)) = interpreter.stripped_library() {
        // As the package with debug information would have it, which such a library is stripped for.
        let id = build_id(&copy)?;
        let (folder, file) = id.split_at_checked(2).context("no build-id")?;
        let folder = symbols.path().join(".build-id").join(folder);
        std::fs::create_dir_all(&folder)?;
        std::os::unix::fs::symlink(original, folder.join(format!("{file}.debug")))?;
        gdb.arg("-iex").arg(format!("set debug-file-directory {}", symbols.path().display()));
    }
    if let Some(root) = &interpreter.root {
        // The target's loader names libraries as it sees them; gdb would take this machine's own.
        gdb.arg("-iex").arg(format!("set sysroot {}", root.display())).arg(interpreter.host_exe());
    }
    let (major, minor) = interpreter.version;
    gdb.arg("-p").arg(pid.to_string()).env("PYST_GDB_PYTHON", format!("{major}.{minor}"));
    stacks(gdb)
}

/// The native stacks of any process, by tid, outermost frame first. In the same stop gdb writes a core to `core`, if that is given.
///
/// # Errors
/// gdb fails.
pub fn native_stacks_of_process(pid: u32, core: Option<&Path>) -> Result<BTreeMap<u32, Vec<GdbFrame>>> {
    let mut gdb = gdb();
    gdb.args(["-iex", "set backtrace past-main on"]).arg("-p").arg(pid.to_string());
    if let Some(core) = core {
        gdb.env("PYST_GDB_CORE", core);
    }
    stacks(gdb)
}

/// The native stacks in a core of `exe`. `program` is the gdb that knows the core's architecture.
///
/// # Errors
/// gdb fails.
pub fn native_stacks_of_core(program: &str, exe: &Path, core: &Path) -> Result<BTreeMap<u32, Vec<GdbFrame>>> {
    let mut gdb = gdb_called(program);
    gdb.args(["-iex", "set backtrace past-main on"]).arg(exe).arg(core);
    stacks(gdb)
}

/// The same of a core in which gdb does not find the files itself: each with what lies between its addresses and those in memory.
///
/// # Errors
/// gdb fails.
pub fn native_stacks_of_core_with(
    program: &str,
    files: &[(String, u64)],
    core: &Path,
) -> Result<BTreeMap<u32, Vec<GdbFrame>>> {
    let mut gdb = gdb_called(program);
    gdb.args(["-iex", "set backtrace past-main on", "-iex", "set auto-solib-add off", "-core"]).arg(core);
    for (file, bias) in files {
        gdb.arg("-ex").arg(format!("add-symbol-file {file} -o {bias:#x}"));
    }
    stacks(gdb)
}

fn gdb_called(program: &str) -> Command {
    let gdb = gdb();
    let mut called = Command::new(program);
    called.args(gdb.get_args());
    called
}

fn build_id(library: &Path) -> Result<String> {
    let notes = run(Command::new("readelf").arg("-n").arg(library))?.expect_status(0)?.text();
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap_or_default();
    ensure!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "readelf: {notes}");
    Ok(id.to_owned())
}

fn gdb() -> Command {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"]);
    gdb
}

fn stacks(mut gdb: Command) -> Result<BTreeMap<u32, Vec<GdbFrame>>> {
    let out = tempfile::NamedTempFile::new()?;
    gdb.arg("-x").arg(tools_dir().join("native_stacks.py")).env("PYST_GDB_OUT", out.path());
    let output = run(&mut gdb)?;
    let mut stacks: BTreeMap<u32, Vec<GdbFrame>> =
        serde_json::from_slice(&std::fs::read(out.path())?).with_context(|| format!("gdb: {}", output.stderr))?;
    stacks.values_mut().for_each(|frames| frames.reverse());
    Ok(stacks)
}
