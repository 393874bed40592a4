//! `runtime`: the answer to "where is the Python runtime, and which is it?". Replay starts from it.

use super::second_version;
use crate::address::Address;
use crate::code::open_enum;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Runtime = RuntimeV2;
/// The newest version of a runtime that was found.
pub type FoundRuntime = FoundRuntimeV2;
/// The newest version of where threads are kept.
pub type ActiveThreads = ActiveThreadsV2;

open_enum!(
    /// What led to the runtime.
    RuntimeFoundBy {
        /// The `.PyRuntime` section of a module (3.10 and later).
        SECTION = 1, "section";
        /// The `_PyRuntime` symbol of a module; before 3.7 `interp_head`.
        SYMBOL = 2, "symbol";
        /// The `xdebugpy` cookie in writable memory (3.13 and later).
        COOKIE = 3, "cookie";
        /// Pointers in a module's data that lead where those of a runtime do.
        SCAN = 4, "scan";
        /// The code of an exported function that returns the head of the list of interpreters (before 3.7).
        CODE = 5, "code";
        /// The cookie or such pointers in memory that belongs to no module.
        EXHAUSTIVE = 6, "exhaustive-scan";
    }
);

open_enum!(
    /// What told the version.
    VersionFoundBy {
        /// `_Py_DebugOffsets.version` (3.13 and later).
        DEBUG_OFFSETS = 1, "debug-offsets";
        /// The `Py_Version` symbol (3.11 and later).
        SYMBOL = 2, "symbol";
        /// The name of the module: `libpython3.11.so.1.0`. The patch release stays unknown.
        FILE_NAME = 3, "file-name";
        /// A version text in the module's data: `3.11.2 (main, …)`.
        TEXT = 4, "text";
        /// Nothing: of all layouts only those of one minor version fit. The patch release stays unknown.
        LAYOUT = 5, "layout";
    }
);

open_enum!(
    /// Where the layout comes from.
    LayoutSource {
        /// The process describes itself (`_Py_DebugOffsets`); what that lacks comes from a table.
        SELF_DESCRIBED = 1, "self-described";
        /// The table of this very release.
        TABLE = 2, "table";
        /// The nearest table of the same minor version, validated on live data.
        NEAREST_TABLE = 3, "nearest-table";
    }
);

/// The `runtime` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeV1 {
    /// The runtime; absent when the target is no Python, or none that could be found.
    pub found: Option<FoundRuntimeV1>,
    /// The steps that were tried, in order, each with what came of it, in words.
    pub tried: Vec<String>,
}

/// A Python runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRuntimeV1 {
    /// Where `_PyRuntime` is; before 3.7, which has none, the variable `interp_head`.
    pub address: Address,
    /// `PY_VERSION_HEX`: 0x030d00f0 is 3.13.0 final. The patch byte is 0xff where only the minor version is known.
    pub version_hex: u32,
    /// `Py_GIL_DISABLED`.
    pub free_threaded: bool,
    /// `Py_DEBUG`, where known.
    pub debug: Option<bool>,
    /// What led to the runtime.
    pub found_by: RuntimeFoundBy,
    /// What told the version.
    pub version_found_by: VersionFoundBy,
    /// The module that holds the runtime: an index into `modules`.
    pub module: Option<u32>,
    /// The layout table used, by its name: `3.11.2`.
    pub layout: String,
    /// Where the layout comes from.
    pub layout_source: LayoutSource,
}

/// The `runtime` payload, version 2: with what runs in Pythons without a runtime structure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeV2 {
    /// The runtime; absent when the target is no Python, or none that could be found.
    pub found: Option<FoundRuntimeV2>,
    /// The steps that were tried, in order, each with what came of it, in words.
    pub tried: Vec<String>,
}

/// A Python runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRuntimeV2 {
    /// Where `_PyRuntime` is; before 3.7, which has none, the variable `interp_head`.
    pub address: Address,
    /// `PY_VERSION_HEX`: 0x030d00f0 is 3.13.0 final. The patch byte is 0xff where only the minor version is known.
    pub version_hex: u32,
    /// `Py_GIL_DISABLED`.
    pub free_threaded: bool,
    /// `Py_DEBUG`, where known.
    pub debug: Option<bool>,
    /// What led to the runtime.
    pub found_by: RuntimeFoundBy,
    /// What told the version.
    pub version_found_by: VersionFoundBy,
    /// The module that holds the runtime: an index into `modules`.
    pub module: Option<u32>,
    /// The layout table used, by its name: `3.11.2`.
    pub layout: String,
    /// Where the layout comes from.
    pub layout_source: LayoutSource,
    /// Before 3.7, where the variable `_PyThreadState_Current` is: the thread state that has the GIL, or null.
    pub current_state: Option<Address>,
    /// Where the interpreters that have imported `threading` keep its threads.
    pub active_threads: Vec<ActiveThreadsV2>,
}

/// Where an interpreter keeps what `threading` knows of its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveThreadsV2 {
    /// Where its `PyInterpreterState` is.
    pub interpreter: Address,
    /// Where the dict `threading._active` is: `Thread` objects by ident.
    pub dict: Address,
}

impl From<RuntimeV1> for RuntimeV2 {
    fn from(RuntimeV1 { found, tried }: RuntimeV1) -> RuntimeV2 {
        RuntimeV2 { found: found.map(FoundRuntimeV2::from), tried }
    }
}

impl From<FoundRuntimeV1> for FoundRuntimeV2 {
    fn from(old: FoundRuntimeV1) -> FoundRuntimeV2 {
        let FoundRuntimeV1 { address, version_hex, free_threaded, debug, found_by, .. } = old;
        let FoundRuntimeV1 { version_found_by, module, layout, layout_source, .. } = old;
        FoundRuntimeV2 {
            address,
            version_hex,
            free_threaded,
            debug,
            found_by,
            version_found_by,
            module,
            layout,
            layout_source,
            current_state: None,
            active_threads: Vec::new(),
        }
    }
}

impl FoundRuntimeV2 {
    /// Whether the patch release is known.
    #[must_use]
    pub fn has_patch(&self) -> bool {
        self.version_hex.to_be_bytes()[2] != 0xff
    }

    /// The version as `sys.version` begins: `3.13.0`, `3.14.0rc2`; `3.13` where the patch release is unknown.
    #[must_use]
    pub fn version(&self) -> String {
        let [major, minor, patch, level] = self.version_hex.to_be_bytes();
        let phase = match level >> 4 {
            0xa => format!("a{}", level & 0xf),
            0xb => format!("b{}", level & 0xf),
            0xc => format!("rc{}", level & 0xf),
            _ => String::new(),
        };
        if !self.has_patch() { format!("{major}.{minor}") } else { format!("{major}.{minor}.{patch}{phase}") }
    }
}

second_version!(RuntimeV1, RuntimeV2, RUNTIME);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_python_writes_them() {
        let version = |version_hex| FoundRuntimeV2 { version_hex, ..FoundRuntimeV2::default() }.version();
        assert_eq!(version(0x030d_00f0), "3.13.0");
        assert_eq!(version(0x030e_00c2), "3.14.0rc2");
        assert_eq!(version(0x030b_ff00), "3.11");
    }
}
