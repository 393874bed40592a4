//! The command line of `pyst-grab`, and what it means.

use clap::Parser;
use pyst_capture::Target;
use pyst_cli::{SearchArgs, SnapshotOutputArgs, UsageError};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXIT_STATUS: &str = "Exit status: 0 complete, 1 failed, 2 usage, 3 partial.";

/// What a stop changes for a process. The calls are those of signal(7), "Interruption of system calls and library functions by stop
/// signals".
const STOPS: &str = "What a stop does to a process: it runs on as if nothing had been, whatever becomes of pyst-grab, a \
    process that was stopped stays stopped, and signals that come meanwhile arrive. A few system calls alone do not go on, \
    but return EINTR: epoll_wait and epoll_pwait, semop and semtimedop, sigtimedwait and sigwaitinfo, and of sockets that \
    have a timeout (SO_RCVTIMEO, SO_SNDTIMEO) accept, connect, and those that send and receive; and those on files of a FUSE file system \
    whose server gives them up when it is asked to (one that does not answer at all has the thread in state D from then on). \
    Python 3.5 and later call \
    again by themselves; an extension module in C that does not may report an error. SIGSTOP does the same, and so does every \
    debugger. Each thread that it happened to is told, with its call, by --verbose and in JSON (interrupted-call). With \
    --no-block no process is stopped, and no call interrupted.";

/// Takes a snapshot of a process or a core file
///
/// Stops the process for as long as it takes to read its registers and the few kilobytes of memory that its stacks need,
/// lets it go, and writes a snapshot that pyst-unwind, pyst-py and pyst-fmt analyse here or on any other machine. Nothing
/// is ever written to the process, and none of its code is run.
///
/// A snapshot holds the target's stacks and Python frames: treat it as you would treat a core file.
#[derive(Parser, Clone, Debug)]
#[command(name = "pyst-grab", version, long_version = pyst_cli::long_version!())]
#[command(override_usage = "pyst-grab [OPTIONS] PID\n       pyst-grab [OPTIONS] CORE [EXE]")]
#[command(after_help = EXIT_STATUS, after_long_help = format!("{EXIT_STATUS}\n\n{STOPS}"))]
pub struct Args {
    /// The process id, or a core file
    #[arg(value_name = "PID|CORE")]
    pub target: Option<OsString>,

    /// The executable that a core file is of; found by itself where it is where it was
    #[arg(value_name = "EXE")]
    pub exe: Option<PathBuf>,

    /// Capture this process
    #[arg(long, value_name = "PID", conflicts_with_all = ["core", "target"])]
    pub pid: Option<u32>,

    /// Capture from this core file, whatever its name
    #[arg(long, value_name = "FILE")]
    pub core: Option<PathBuf>,

    /// Capture all processes that descend from this one, too
    ///
    /// Parents come first. What is born after they were listed is not among them. Each has a snapshot of its own; one that
    /// cannot be captured has one that says why, and does not cost the others.
    #[arg(long, conflicts_with = "core")]
    pub children: bool,

    /// Capture N times
    ///
    /// Each snapshot is written as soon as it is taken. Ctrl-C ends it between two, and what was taken is kept; so it is when
    /// the process exits in between. Both make the result partial.
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "core")]
    pub count: u64,

    /// Begin every S seconds; fractions are fine [default: 1]
    #[arg(long, value_name = "S", requires = "count", value_parser = seconds)]
    pub interval: Option<Duration>,

    /// Leave out stacks and native frames
    #[arg(long)]
    pub python_only: bool,

    /// Leave out the lines of Python source
    #[arg(long)]
    pub no_source: bool,

    /// Take along lines and inlined functions of native frames, where this machine has debug information
    #[arg(long, conflicts_with = "python_only")]
    pub debug_info: bool,

    /// Take along arguments and locals of Python frames
    ///
    /// Values are shown as repr() spells them, read from the objects' bytes alone: no code of the process runs. Where a
    /// class has its own __repr__, or repr() says little, they have a short form: <module.Class at 0x…>(a=1, b=2) for an
    /// instance with attributes, module.Class([1, 2]) for one of a class derived from a built-in one, Class(a=1) for
    /// namedtuples and dataclasses, <Class.NAME: value> for members of enums. What is long ends in "… 25 more": 48 items,
    /// 200 characters, 6 levels and 1000 digits are shown at most. A value that had changed when the process was stopped,
    /// and was not read then, is absent, and the reason is said in its place; the exit status does not tell.
    ///
    /// Values may be passwords and other people's data: treat the snapshot accordingly.
    #[arg(long)]
    pub locals: bool,

    /// Read no more than BYTES of the process for arguments and locals; K and M may follow the number
    ///
    /// The innermost frames of all threads come first.
    #[arg(long, value_name = "BYTES", requires = "locals", value_parser = bytes, default_value = "4M")]
    pub locals_limit: u64,

    /// Search all memory for the Python runtime, if it is not where it should be
    #[arg(long)]
    pub exhaustive: bool,

    /// Do not stop the process: read it while it runs
    ///
    /// Each thread is read, read again, compared, and tried again a few times if it was not the same; a thread whose frames
    /// were another each time is marked as not verified, and the exit status is 3 then. Of threads that slept all the time
    /// there are native frames, too, as far as they can be found without the registers that only a stop tells. Stopping
    /// makes a few system calls of the process fail with EINTR, which most programs expect; this does not.
    ///
    /// With =fallback, the threads that could not be verified are stopped, and without --python-only those that ran, so that
    /// they have native frames, too; no other thread is.
    #[arg(long, value_name = "fallback", num_args = 0..=1, require_equals = true, default_missing_value = "never")]
    pub no_block: Option<NoBlockArg>,

    /// Let the process go after MS milliseconds, whatever is missing then
    ///
    /// No more is read then. What the kernel takes to stop each thread and to let it go, some 10 µs, comes before and after:
    /// of thousands of threads it may be more than the limit, which is said.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub stop_limit: u64,

    /// Where else files are.
    #[command(flatten)]
    pub search: SearchArgs,

    /// Where the snapshots go.
    #[command(flatten)]
    pub output: SnapshotOutputArgs,

    /// Say how the runtime was found, how long the process was stopped, and how large the snapshot is
    #[arg(short, long)]
    pub verbose: bool,
}

/// What becomes of threads that could not be verified.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBlockArg {
    /// They are marked.
    #[value(hide = true)]
    Never,
    /// They are stopped.
    Fallback,
}

/// A number of bytes: `4M`.
fn bytes(text: &str) -> Result<u64, String> {
    /// What is kept of a process travels in one snapshot, and is held in memory.
    const LARGEST: u64 = 256 << 20;
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1).unwrap_or_default(), 1 << 10),
        Some(b'm' | b'M') => (text.get(..text.len() - 1).unwrap_or_default(), 1 << 20),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|number| *number <= LARGEST).ok_or_else(|| "a number of bytes up to 256M is wanted".to_owned())
}

/// A number of seconds: `0.25`.
fn seconds(text: &str) -> Result<Duration, String> {
    /// A year.
    const LONGEST: f64 = 31_536_000.0;
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=LONGEST).contains(number));
    let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    duration.ok_or_else(|| "a number of seconds is wanted".to_owned())
}

const NOTHING: &str = "nothing to capture: give a process id or a core file";

impl Args {
    /// What to capture.
    ///
    /// # Errors
    /// Nothing, too much, or something ambiguous was named.
    pub fn target(&self) -> Result<Target, UsageError> {
        let target = self.named()?;
        let of_process = [("--children", self.children), ("--count", self.count > 1)];
        match of_process.into_iter().find(|(_, given)| *given) {
            Some((option, _)) if !matches!(target, Target::Live(_)) => {
                Err(UsageError(format!("{option} is for processes, and a core file is captured")))
            }
            _ => Ok(target),
        }
    }

    fn named(&self) -> Result<Target, UsageError> {
        let usage = |message: String| Err(UsageError(message));
        if let Some(pid) = self.pid {
            return Ok(Target::Live(pid));
        }
        if let Some(core) = &self.core {
            // With --core the first positional argument is the executable.
            return match (&self.target, &self.exe) {
                (Some(_), Some(extra)) => usage(format!("one executable, please: what is {}?", extra.display())),
                (exe, _) => Ok(Target::Core { core: core.clone(), exe: exe.as_ref().map(PathBuf::from) }),
            };
        }
        let Some(target) = &self.target else {
            return usage(NOTHING.to_owned());
        };
        if target.is_empty() {
            return usage(NOTHING.to_owned());
        }
        let path = PathBuf::from(target);
        let is_pid = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let pid = target.to_str().filter(is_pid);
        match pid {
            Some(text) if path.exists() => {
                usage(format!("{text} is a process id and the name of a file: use --pid {text} or --core {text}"))
            }
            Some(text) if self.exe.is_some() => {
                usage(format!("an executable goes with a core file, and {text} is a process id"))
            }
            Some(text) => match text.parse() {
                Ok(pid) => Ok(Target::Live(pid)),
                Err(_) => usage(format!("{text} is no process id")),
            },
            None if is_negative(&path) && !path.exists() => {
                usage(format!("{} is no process id, and no file has that name", path.display()))
            }
            None => Ok(Target::Core { core: path, exe: self.exe.clone() }),
        }
    }
}

/// `-1`: what kill(1) takes for all processes, or for a group.
fn is_negative(path: &Path) -> bool {
    let digits = path.to_str().and_then(|text| text.strip_prefix('-'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(words: &[&str]) -> Result<Target, UsageError> {
        Args::try_parse_from(["pyst-grab"].iter().chain(words)).unwrap().target()
    }

    #[test]
    fn digits_are_a_process_and_everything_else_a_core_file() {
        assert_eq!(target(&["4194999"]).unwrap(), Target::Live(4_194_999));
        assert_eq!(target(&["--pid", "7"]).unwrap(), Target::Live(7));
        assert_eq!(target(&["./core"]).unwrap(), Target::Core { core: "./core".into(), exe: None });
        assert_eq!(target(&["core.7", "py"]).unwrap(), Target::Core { core: "core.7".into(), exe: Some("py".into()) });
        assert_eq!(target(&["--core", "7", "py"]).unwrap(), Target::Core { core: "7".into(), exe: Some("py".into()) });
    }

    #[test]
    fn limits_are_bytes() {
        assert_eq!(["0", "12", "3k", "4M"].map(|text| bytes(text).unwrap()), [0, 12, 3072, 4 << 20]);
        assert!(["", "M", "-1", "1G", "257M", "99999999999999999999M", "é"].iter().all(|text| bytes(text).is_err()));
    }

    #[test]
    fn intervals_are_seconds() {
        let milliseconds = |text| seconds(text).unwrap().as_millis();
        assert_eq!(["0", "0.25", "3", "1e1"].map(milliseconds), [0, 250, 3000, 10_000]);
        assert!(["", "-1", "nan", "inf", "1s", "1e99"].iter().all(|text| seconds(text).is_err()));
    }

    #[test]
    fn a_core_file_has_no_children_and_does_not_change() {
        assert!(target(&["--children", "./core"]).is_err());
        assert!(target(&["--count", "2", "./core"]).is_err());
        assert!(target(&["--count", "2", "--interval", "0.5", "--children", "7"]).is_ok());
        for wrong in [&["--interval", "1", "7"][..], &["--count", "0", "7"], &["--core", "c", "--children"]] {
            assert!(Args::try_parse_from(["pyst-grab"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_and_too_much_are_usage_errors() {
        assert!(target(&[]).is_err());
        assert!(target(&[""]).is_err());
        assert!(target(&["4194999", "python3"]).is_err());
        assert!(target(&["--core", "7", "py", "more"]).is_err());
        assert!(target(&["99999999999999999999"]).is_err());
        assert!(target(&["--", "-1"]).is_err());
        assert!(target(&["--", "-"]).is_ok_and(|target| target == Target::Core { core: "-".into(), exe: None }));
        assert!(Args::try_parse_from(["pyst-grab", "--pid", "7", "8"]).is_err());
    }
}
