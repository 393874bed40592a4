//! `maps`: the mappings that hold a recorded address or were asked about, from `/proc/PID/maps` or a core's segments and NT_FILE note.

use super::first_version;
use crate::address::Range;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Maps = MapsV1;
/// The newest version of one mapping.
pub type Map = MapV1;

/// The `maps` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapsV1 {
    /// By ascending address.
    pub maps: Vec<MapV1>,
}

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapV1 {
    /// The addresses.
    pub range: Range,
    /// Bits: 4 readable, 2 writable, 1 executable, 8 shared.
    pub permissions: u16,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// The file's device, major number.
    pub device_major: u32,
    /// The file's device, minor number.
    pub device_minor: u32,
    /// The file's inode; 0 for anonymous memory.
    pub inode: u64,
    /// The path, or `[heap]`, `[stack]` and the like; empty for anonymous memory.
    pub path: Bytes,
}

impl MapV1 {
    /// Whether it can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.permissions & 4 != 0
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.permissions & 2 != 0
    }

    /// Whether it can be executed.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.permissions & 1 != 0
    }
}

first_version!(MapsV1, MAPS);
