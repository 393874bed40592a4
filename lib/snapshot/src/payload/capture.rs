//! `capture`: what took the snapshot, when, how, and with which options.

use super::first_version;
use crate::code::open_enum;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Capture = CaptureV1;
/// The newest version of one option.
pub type CaptureOption = CaptureOptionV1;

open_enum!(
    /// What a snapshot was taken from.
    CaptureSource {
        /// A living process.
        LIVE = 1, "live";
        /// A core file.
        CORE = 2, "core";
    }
);

open_enum!(
    /// Whether the target was stopped.
    Blocking {
        /// It was stopped while its memory was read.
        STOPPED = 1, "stopped";
        /// It ran on; `verdicts` says of each thread whether it was verified.
        NOT_STOPPED = 2, "not-stopped";
        /// There was nothing to stop: a core file.
        NOT_APPLICABLE = 3, "not-applicable";
        /// Some of its threads were stopped, those only that could not be verified while they ran.
        PARTLY_STOPPED = 4, "partly-stopped";
    }
);

open_enum!(
    /// The target's instruction set, as ELF's `e_machine`.
    Arch {
        /// AMD64.
        X86_64 = 62, "x86_64";
        /// 64-bit ARM.
        AARCH64 = 183, "aarch64";
    }
);

/// How many bytes are read for arguments and locals, unless the option `locals-limit` says another number.
pub const DEFAULT_LOCALS_LIMIT: u64 = 4 << 20;

/// The `capture` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureV1 {
    /// The tool that took it, with its version: `pyst-grab 0.1.0`.
    pub tool: String,
    /// The host's name, from `uname`.
    pub host: String,
    /// The kernel's release, from `uname`.
    pub kernel: String,
    /// When memory was read: nanoseconds since 1970-01-01 UTC. For a core file, its modification time.
    pub captured_at_ns: i64,
    /// What it was taken from.
    pub source: CaptureSource,
    /// Whether the target was stopped.
    pub blocking: Blocking,
    /// From the first interrupt to the last detach, in nanoseconds; absent when nothing was stopped. A target that was in
    /// the middle of linking two frames is stopped again, and then this is the sum.
    pub stopped_ns: Option<u64>,
    /// Bytes read while the target was stopped, the last time.
    pub stopped_bytes: Option<u64>,
    /// Whether all that was asked for was captured.
    pub complete: bool,
    /// The target's instruction set.
    pub arch: Arch,
    /// The size of a pointer in bytes; always 8.
    pub pointer_width: u8,
    /// Whether the target is little-endian; always true.
    pub little_endian: bool,
    /// The size of a page in bytes.
    pub page_size: u32,
    /// The bits of a code address that hold a pointer authentication code; 0 where there is none.
    pub pac_mask: u64,
    /// The options that shaped the walk, by name; later stages obey those they know. See [`CaptureV1::option`].
    pub options: Vec<CaptureOptionV1>,
}

/// One option: `python-only` = `true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureOptionV1 {
    /// The long option without its dashes.
    pub name: String,
    /// Its value; `true` for a switch that was given.
    pub value: String,
}

impl CaptureV1 {
    /// The value of an option, if it was given.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.name == name).map(|option| option.value.as_str())
    }

    /// Whether stacks and native answers were left out on request.
    #[must_use]
    pub fn python_only(&self) -> bool {
        self.option("python-only") == Some("true")
    }

    /// Whether this is one of a process and those that descend from it, which follow each other in a stream.
    #[must_use]
    pub fn has_children(&self) -> bool {
        self.option("children") == Some("true")
    }

    /// Whether other snapshots go with this one in its stream: of other processes, or of other times.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.has_children() || self.option("count").is_some()
    }

    /// How many bytes may be read for arguments and locals, if they were asked for.
    #[must_use]
    pub fn locals(&self) -> Option<u64> {
        let limit = self.option("locals-limit").and_then(|limit| limit.parse().ok());
        (self.option("locals") == Some("true")).then(|| limit.unwrap_or(DEFAULT_LOCALS_LIMIT))
    }

    /// Whether the runtime was searched for in all memory.
    #[must_use]
    pub fn exhaustive(&self) -> bool {
        self.option("exhaustive") == Some("true")
    }
}

first_version!(CaptureV1, CAPTURE);
