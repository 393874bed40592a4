//! Capture: from a living process or a core file to a [`Snapshot`].
//!
//! The only crate that touches a process, and it never writes to one: it seizes threads, stops them for microseconds,
//! reads registers and memory, and lets go. The target runs on whatever happens here, even if this process is killed.
//!
//! A capture runs the very code that the later stages run (`pyst_native::unwind_each`, `pyst_python::walk`) over recorders,
//! and keeps exactly what that code asked for. That is what makes the snapshot small, and what makes the stages say the same
//! on another machine.
#![deny(missing_docs)]

mod captured;
mod core;
mod error;
mod finish;
mod identity;
mod live;
mod modules;
mod registers;
mod source;
mod sys;
mod tree;

pub use captured::Captured;
pub use error::CaptureError;
pub use tree::Member;

use modules::LoadedModules;
use pyst_elf::Search;
use pyst_memory::Memory;
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Capture, CaptureOption, Diagnostic, Diagnostics, Map, Runtime, Stage};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A living process, by its id here.
    Live(u32),
    /// A core file.
    Core {
        /// The core file.
        core: PathBuf,
        /// The executable, where the path in the core does not lead to it.
        exe: Option<PathBuf>,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Live(pid) => write!(f, "process {pid}"),
            Target::Core { core, .. } => write!(f, "core file {}", core.display()),
        }
    }
}

/// How to capture it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tool that captures, with its version.
    pub tool: String,
    /// Leave out stacks and native answers.
    pub python_only: bool,
    /// Read the source lines of Python frames.
    pub source: bool,
    /// Record lines and inlined functions of native frames.
    pub debug_info: bool,
    /// Take arguments and locals of Python frames along, for which no more than this many bytes are read.
    pub locals: Option<u64>,
    /// Search for the runtime in all memory, if it is not where it should be.
    pub exhaustive: bool,
    /// Where files are looked for that are not where they were.
    pub search: Arc<Search>,
    /// The snapshots of the stream that this one goes into are those of a process and of what descends from it.
    pub children: bool,
    /// How many captures of the same go into that stream.
    pub count: u64,
    /// Whether a process is read without being stopped.
    pub no_block: Option<NoBlock>,
    /// How long a process may be stopped. What is not done by then is missing, and reported.
    pub stop_limit: Duration,
}

/// How to read a process without stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBlock {
    /// Never stop a thread: what could not be verified says so.
    Never,
    /// Stop the threads that could not be verified, and no others.
    Fallback,
}

impl NoBlock {
    /// The value of the option.
    fn word(self) -> &'static str {
        match self {
            NoBlock::Never => "true",
            NoBlock::Fallback => "fallback",
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tool: concat!("pyst-grab ", env!("CARGO_PKG_VERSION")).to_owned(),
            python_only: false,
            source: true,
            debug_info: false,
            locals: None,
            exhaustive: false,
            search: Arc::default(),
            children: false,
            count: 1,
            no_block: None,
            stop_limit: Duration::from_millis(100),
        }
    }
}

/// Captures `target`: comes back when all was taken from it that is wanted.
///
/// # Errors
/// Nothing could be captured. What was captured in part comes as a snapshot whose diagnostics say what is missing.
pub fn capture(target: Target, options: &Options) -> Result<Captured, CaptureError> {
    match target {
        Target::Live(pid) => live::capture(pid, None, options),
        Target::Core { core, exe } => core::capture(core, exe, options),
    }
}

/// A well-formed snapshot that says nothing but why there is none.
#[must_use]
pub fn failed_snapshot(reason: Diagnostic, options: &Options) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let capture = Capture { captured_at_ns: nanoseconds(SystemTime::now()), ..capture_section(options) };
    let diagnostics = Diagnostics { stage: Stage::GRAB, items: vec![reason] };
    // Both are a few hundred bytes; they fit.
    let _ = snapshot.append(&capture).and_then(|()| snapshot.append(&diagnostics));
    snapshot
}

/// What every `capture` section says, whatever the target.
fn capture_section(options: &Options) -> Capture {
    let system = nix::sys::utsname::uname();
    let of_system = |text: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        system.as_ref().map(|system| text(system).to_string_lossy().into_owned()).unwrap_or_default()
    };
    let given = |name: &str, is_given: bool, value: &str| {
        is_given.then(|| CaptureOption { name: name.to_owned(), value: value.to_owned() })
    };
    let options_given = [
        given("python-only", options.python_only, "true"),
        given("no-source", !options.source, "true"),
        given("debug-info", options.debug_info, "true"),
        given("exhaustive", options.exhaustive, "true"),
        given("children", options.children, "true"),
        given("count", options.count > 1, &options.count.to_string()),
        given("no-block", options.no_block.is_some(), options.no_block.map_or("", NoBlock::word)),
        given("locals", options.locals.is_some(), "true"),
        given("locals-limit", options.locals.is_some(), &options.locals.unwrap_or_default().to_string()),
    ];
    Capture {
        tool: options.tool.clone(),
        host: of_system(|system| system.nodename()),
        kernel: of_system(|system| system.release()),
        arch: live::LIVE_ARCH,
        pointer_width: 8,
        little_endian: true,
        page_size: page_size(),
        options: options_given.into_iter().flatten().collect(),
        ..Capture::default()
    }
}

/// Finds the runtime by what is known of the target.
fn find_runtime(loaded: &LoadedModules, maps: &[Map], memory: &dyn Memory, options: &Options) -> Runtime {
    let files = |id| loaded.file_or_part(id);
    let target = pyst_python::Target { modules: &loaded.table, maps, files: &files, memory };
    pyst_python::find_runtime(target, options.exhaustive)
}

fn page_size() -> u32 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(4096)
}

fn nanoseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// What an ELF header names, for a refusal.
fn architecture_name(class: u8, data: u8, machine: u16) -> String {
    let machine = match if data == 2 { machine.swap_bytes() } else { machine } {
        3 => "i386",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC64",
        22 => "S/390",
        40 => "ARM",
        62 => "x86_64",
        183 => "aarch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => "an unknown architecture",
    };
    let width = if class == 1 { "32-bit " } else { "" };
    let endian = if data == 2 { "big-endian " } else { "" };
    format!("{width}{endian}{machine}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_refused_by_name() {
        assert_eq!(architecture_name(1, 1, 3), "32-bit i386");
        assert_eq!(architecture_name(2, 1, 183), "aarch64");
        assert_eq!(architecture_name(2, 2, 22u16.swap_bytes()), "big-endian S/390");
        // x86_64 with 32-bit pointers.
        assert_eq!(architecture_name(1, 1, 62), "32-bit x86_64");
    }

    #[test]
    fn a_failure_is_a_snapshot_that_says_why() {
        let error = CaptureError::NoSuchProcess { pid: 7 };
        let snapshot = failed_snapshot(error.diagnostic(), &Options::default());
        let diagnostics: Diagnostics = snapshot.get().unwrap().unwrap();
        assert_eq!(diagnostics.items.first().unwrap().code, "no-such-process");
        assert!(!snapshot.get::<Capture>().unwrap().unwrap().complete);
    }
}
