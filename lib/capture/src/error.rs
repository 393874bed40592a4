//! Why nothing could be captured. Each error says what happened, to what, and what to do; the ways in which a living
//! process can refuse are told apart by looking, see `live::refusal`.

use pyst_snapshot::WireError;
use pyst_snapshot::payload::{Diagnostic, Severity};
use std::io;
use std::path::PathBuf;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No process has this id.
    #[error("there is no process {pid}: it may have exited, or the id is from another pid namespace")]
    NoSuchProcess {
        /// The id given.
        pid: u32,
    },
    /// The id is that of this very process.
    #[error("process {pid} is this tool itself, which cannot stop itself: give the id of another process")]
    Itself {
        /// The id given.
        pid: u32,
    },
    /// The id is a thread's.
    #[error("{tid} is a thread of process {pid}: give the process id {pid}")]
    NotALeader {
        /// The id given.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
    },
    /// The process has exited and was not waited for.
    #[error(
        "process {pid} has exited and waits to be reaped by its parent, process {parent} (a zombie): nothing is left of it to look at"
    )]
    Zombie {
        /// The process.
        pid: u32,
        /// Its parent.
        parent: u32,
    },
    /// A kernel thread.
    #[error("process {pid} is a kernel thread: it has no memory of its own and runs no Python")]
    KernelThread {
        /// The process.
        pid: u32,
    },
    /// It exited while it was looked at.
    #[error("process {pid} exited while it was captured")]
    Exited {
        /// The process.
        pid: u32,
    },
    /// It ran another program each time it was stopped.
    #[error("process {pid} became another program (exec) each time it was looked at: try again when it has settled")]
    Replaced {
        /// The process.
        pid: u32,
    },
    /// It exited between two captures.
    #[error("process {pid} has exited: {taken} of {count} captures were made before, and are kept")]
    ExitedBetween {
        /// The process.
        pid: u32,
        /// How often it was captured.
        taken: u64,
        /// How often it should have been.
        count: u64,
    },
    /// `/proc` hides it.
    #[error("process {pid} is {whose}, and hidden from this one: /proc is mounted with {option}: {remedy}")]
    Hidden {
        /// The process.
        pid: u32,
        /// Who may not look for it.
        whose: &'static str,
        /// `hidepid=invisible`
        option: String,
        /// What helps.
        remedy: &'static str,
    },
    /// No `/proc`.
    #[error("there is no /proc here, as in a bare chroot: mount it (mount -t proc proc /proc)")]
    NoProc,
    /// The `/proc` here is another pid namespace's.
    #[error(
        "/proc shows another pid namespace than the one this tool is in, so that process ids mean different processes: mount the right one (mount -t proc proc /proc), or run the tool outside"
    )]
    ForeignProc,
    /// It belongs to another user.
    #[error("not permitted: process {pid} belongs to uid {owner}, this is uid {own}: run as that user, or: {remedy}")]
    OtherUser {
        /// The process.
        pid: u32,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        own: u32,
        /// What helps.
        remedy: &'static str,
    },
    /// It was started by one user and has the rights of another, as setuid programs have.
    #[error(
        "not permitted: process {pid} has ids of several users, as a setuid program has (real uid {real}, effective {effective}, saved {saved}; this is uid {own}): {remedy}"
    )]
    ChangedUser {
        /// The process.
        pid: u32,
        /// Its real user id.
        real: u32,
        /// Its effective one.
        effective: u32,
        /// The one that it can go back to.
        saved: u32,
        /// Who asks.
        own: u32,
        /// What helps.
        remedy: &'static str,
    },
    /// It has another group.
    #[error(
        "not permitted: process {pid} runs with group {group}, this tool with group {own}, and the user alone is not enough: run with that group (sg, setpriv --regid), or: {remedy}"
    )]
    OtherGroup {
        /// The process.
        pid: u32,
        /// Its group.
        group: u32,
        /// That of who asks.
        own: u32,
        /// What helps.
        remedy: &'static str,
    },
    /// It is not dumpable.
    #[error(
        "not permitted: process {pid} is this user's, but not dumpable: it said so (prctl PR_SET_DUMPABLE), or its executable is setuid or may not be read: {remedy}"
    )]
    NotDumpable {
        /// The process.
        pid: u32,
        /// What helps.
        remedy: &'static str,
    },
    /// It has more rights than we have.
    #[error("not permitted: process {pid} has capabilities that this tool lacks ({names}): {remedy}")]
    MoreCapabilities {
        /// The process.
        pid: u32,
        /// Those that we lack.
        names: String,
        /// What helps.
        remedy: &'static str,
    },
    /// Rights that we have end at the border of our user namespace.
    #[error(
        "not permitted: process {pid} is outside of the user namespace of this tool, where its rights end: run it on the host, or where that process was started"
    )]
    UserNamespace {
        /// The process.
        pid: u32,
    },
    /// A filter of system calls is in the way.
    #[error(
        "not permitted to inspect process {pid}: a seccomp filter forbids this tool the system call {call} ({error}): {otherwise}run it outside of that sandbox; in a container with --cap-add SYS_PTRACE or --security-opt seccomp=unconfined"
    )]
    Seccomp {
        /// The process.
        pid: u32,
        /// `ptrace`, `process_vm_readv`
        call: &'static str,
        /// What it fails with.
        error: &'static str,
        /// What does without it.
        otherwise: &'static str,
    },
    /// The kernel lacks a system call.
    #[error("the kernel here has no system call {call}, and nothing else will do: run on a host with a complete Linux")]
    NoSystemCall {
        /// The call.
        call: &'static str,
    },
    /// Yama forbids it.
    #[error(
        "not permitted: the kernel lets process {pid} be inspected by its ancestors only (Yama, kernel.yama.ptrace_scope = {scope}): {advice}"
    )]
    Yama {
        /// The process.
        pid: u32,
        /// The value of the setting.
        scope: u32,
        /// What helps at this value.
        advice: String,
    },
    /// A security module's policy forbids it.
    #[error("not permitted: {module} forbids it to this tool ({own}) for process {pid} ({target}): {remedy}")]
    SecurityModule {
        /// The process.
        pid: u32,
        /// `AppArmor`, `SELinux`
        module: &'static str,
        /// What it calls this tool.
        own: String,
        /// What it calls the process.
        target: String,
        /// What helps.
        remedy: &'static str,
    },
    /// The kernel refused, and nothing that can be seen from here does.
    #[error(
        "not permitted to inspect process {pid}, though ids, capabilities, dumpability, user namespace, seccomp, Yama and security labels permit it: what is left is a policy that cannot be seen (Landlock, BPF): run outside of this sandbox"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
    },
    /// An instruction set, word size or byte order that is not read here.
    #[error("{what} is {architecture}: pyst reads 64-bit x86_64 processes and core files only")]
    Architecture {
        /// The process or core file.
        what: String,
        /// What it is.
        architecture: String,
    },
    /// Reading did not come to an end.
    #[error(
        "reading process {pid} did not come to an end within {seconds} s: its memory may lie on a file system or userfaultfd that does not answer; it was let go"
    )]
    Stuck {
        /// The process.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },
    /// A file that could not be read.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// `open`, `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A core file of no bytes.
    #[error("core file {} is empty: check that its file system had room, and the size limit (ulimit -c)", .path.display())]
    EmptyCore {
        /// The file.
        path: PathBuf,
    },
    /// A core file cut off before, or in, the notes that name its threads.
    #[error(
        "core file {} is truncated: {missing} bytes are missing at its end, and with them what names its threads: take or copy it again, see the size limit (ulimit -c) and the free space of its file system", .path.display()
    )]
    TruncatedCore {
        /// The file.
        path: PathBuf,
        /// How much is missing, by the segments it says it has.
        missing: u64,
    },
    /// A compressed core file.
    #[error("core file {} is compressed ({format}): decompress it first: {command}", .path.display())]
    CompressedCore {
        /// The file.
        path: PathBuf,
        /// `zstd`
        format: &'static str,
        /// What decompresses it.
        command: String,
    },
    /// No core file.
    #[error("{} is not a core file: it is {kind}", .path.display())]
    NotACore {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
    /// A core file whose headers are of no use.
    #[error("core file {} is damaged: {what}", .path.display())]
    DamagedCore {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The operating system failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What was captured does not fit the format.
    #[error("cannot store what was captured: {0}")]
    Encode(#[from] WireError),
}

impl CaptureError {
    /// The stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            CaptureError::NoSuchProcess { .. } => "no-such-process",
            CaptureError::Itself { .. } => "own-process",
            CaptureError::NotALeader { .. } => "not-a-process",
            CaptureError::Zombie { .. } => "zombie",
            CaptureError::KernelThread { .. } => "kernel-thread",
            CaptureError::Exited { .. } | CaptureError::ExitedBetween { .. } => "process-exited",
            CaptureError::Replaced { .. } => "process-replaced",
            CaptureError::Hidden { .. } => "hidden",
            CaptureError::NoProc => "no-proc",
            CaptureError::ForeignProc => "foreign-proc",
            CaptureError::OtherUser { .. } => "other-user",
            CaptureError::ChangedUser { .. } => "changed-user",
            CaptureError::OtherGroup { .. } => "other-group",
            CaptureError::NotDumpable { .. } => "not-dumpable",
            CaptureError::MoreCapabilities { .. } => "more-capabilities",
            CaptureError::UserNamespace { .. } => "user-namespace",
            CaptureError::Seccomp { .. } => "seccomp",
            CaptureError::NoSystemCall { .. } => "no-system-call",
            CaptureError::SecurityModule { .. } => "security-module",
            CaptureError::Yama { .. } => "yama",
            CaptureError::NotPermitted { .. } => "not-permitted",
            CaptureError::Architecture { .. } => "unsupported-architecture",
            CaptureError::Stuck { .. } => "stuck",
            CaptureError::Io { .. } => "cannot-read",
            CaptureError::EmptyCore { .. } => "core-empty",
            CaptureError::CompressedCore { .. } => "core-compressed",
            CaptureError::NotACore { .. } => "not-a-core",
            CaptureError::DamagedCore { .. } => "core-damaged",
            CaptureError::TruncatedCore { .. } => "core-truncated",
            CaptureError::System { .. } => "system",
            CaptureError::Encode(_) => "too-large",
        }
    }

    /// The error as a diagnostic of a snapshot.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(Severity::FAILURE, self.code(), self.to_string())
    }
}
