//! `modules`: the ELF files mapped into the process, and the vDSO.

use super::first_version;
use crate::address::{Bias, Range};
use crate::code::open_enum;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Modules = ModulesV1;
/// The newest version of one module.
pub type Module = ModuleV1;

open_enum!(
    /// What became of a module's file.
    ModuleFile {
        /// It was opened, and is the one that is mapped.
        FOUND = 1, "found";
        /// It was deleted or replaced since it was mapped, and read all the same.
        DELETED = 2, "deleted";
        /// There is no such file.
        MISSING = 3, "missing";
        /// A file is there, but its build-id or its contents are not those of the one that is mapped.
        MISMATCHED = 4, "mismatched";
        /// It could not be opened or is no ELF file.
        UNREADABLE = 5, "unreadable";
        /// There is no file behind it: the vDSO.
        IN_MEMORY = 6, "in-memory";
    }
);

/// The `modules` payload, version 1. Other sections name a module by its index here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModulesV1 {
    /// By ascending address of their first range.
    pub modules: Vec<ModuleV1>,
}

/// One module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleV1 {
    /// The path as the target sees it, or `[vdso]`.
    pub path: Bytes,
    /// The build-id note's bytes (`NT_GNU_BUILD_ID`).
    pub build_id: Option<Bytes>,
    /// What lies between its svmas and addresses.
    pub bias: Bias,
    /// The mapped ranges, ascending.
    pub ranges: Vec<Range>,
    /// What became of its file.
    pub file: ModuleFile,
}

first_version!(ModulesV1, MODULES);
