//! Layouts as data: one table for each version and flavour whose fields are where no other's are.
//!
//! To add a version is to add a table, its semantics and its tests; the walk knows no version. Two things must hold: a
//! table's offsets come from a compiler (see `layouts/generate.py`), and what a process states about itself
//! (`_Py_DebugOffsets`, 3.13 and later) wins over every table, for distributors patch structures.

mod offsets;
mod semantics;
mod tables;

pub(crate) use offsets::{Field, Offsets};
pub(crate) use semantics::{Lines, Names, OwnLine, Runs, Semantics};

use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{FoundRuntime, LayoutSource};
use tables::TABLES;

/// What `_Py_DebugOffsets` starts with.
pub(crate) const COOKIE: &[u8; 8] = b"xdebugpy";

/// How much of a self-description is read: more than any version's `_Py_DebugOffsets` has.
const DESCRIPTION: usize = 1024;

/// How a build was configured, as far as it moves fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The default.
    Release,
    /// With the just-in-time compiler built in, whether it is on or not.
    Jit,
    /// `--with-pydebug`.
    Debug,
}

/// The layout of some patch releases of a minor version.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name: the first version that has it.
    pub(crate) name: &'static str,
    /// Where the offsets come from, with the patch releases looked at.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads the tables"))]
    pub(crate) origin: &'static str,
    /// The minor version: `(3, 13)`.
    pub(crate) minor: (u8, u8),
    /// The patch releases it is known to be right for.
    pub(crate) patches: &'static [u8],
    /// Whether it is of builds without a GIL.
    pub(crate) free_threaded: bool,
    /// The flavours of build that have it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads the tables"))]
    pub(crate) flavours: &'static [Flavour],
    /// What the fields mean.
    pub(crate) semantics: &'static Semantics,
    /// Where they are.
    pub(crate) offsets: &'static Offsets,
    /// Where in `_Py_DebugOffsets` the process states them, for versions that have it.
    pub(crate) stated: Option<&'static Offsets>,
}

/// The layout of one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The table it was made from.
    pub(crate) table: &'static Table,
    /// What the fields mean.
    pub(crate) semantics: &'static Semantics,
    /// Where they are.
    pub(crate) offsets: Offsets,
    /// Where that is from.
    pub(crate) source: LayoutSource,
}

impl Table {
    /// The layout by this table alone.
    pub(crate) fn layout(&'static self, patch: u8) -> Layout {
        let source = if self.patches.contains(&patch) { LayoutSource::TABLE } else { LayoutSource::NEAREST_TABLE };
        Layout { table: self, semantics: self.semantics, offsets: *self.offsets, source }
    }

    /// The layout that the runtime at `runtime` states, completed by this table; `None` where it does not state one, or
    /// states what can't be.
    pub(crate) fn described(&'static self, runtime: Address, memory: &dyn Memory) -> Option<Layout> {
        let stated = self.stated?;
        let description = memory.read_array::<DESCRIPTION>(runtime).ok()?;
        if !description.starts_with(COOKIE) {
            return None;
        }
        let offsets = self.offsets.corrected(stated, &description)?;
        Some(Layout { table: self, semantics: self.semantics, offsets, source: LayoutSource::SELF_DESCRIBED })
    }

    /// How far a patch release is from those the table is known to be right for.
    fn distance(&self, patch: u8) -> u8 {
        self.patches.iter().map(|known| known.abs_diff(patch)).min().unwrap_or(u8::MAX)
    }
}

/// The tables for a version, the likeliest first. None for a minor version or flavour that is not known here.
pub(crate) fn candidates(version_hex: u32, free_threaded: bool) -> Vec<&'static Table> {
    let [major, minor, patch, _] = version_hex.to_be_bytes();
    let mut candidates: Vec<&Table> =
        TABLES.iter().filter(|table| table.minor == (major, minor) && table.free_threaded == free_threaded).collect();
    candidates.sort_by_key(|table| table.distance(patch));
    candidates
}

/// The layout of a runtime that was found: what its finder chose, if this version still has that table.
pub(crate) fn of_runtime(runtime: &FoundRuntime, memory: &dyn Memory) -> Option<Layout> {
    let [_, _, patch, _] = runtime.version_hex.to_be_bytes();
    let candidates = candidates(runtime.version_hex, runtime.free_threaded);
    let chosen = candidates.iter().find(|table| table.name == runtime.layout);
    let table: &'static Table = chosen.or(candidates.first())?;
    let described = (runtime.layout_source == LayoutSource::SELF_DESCRIBED)
        .then(|| table.described(runtime.address, memory))
        .flatten();
    Some(described.unwrap_or_else(|| table.layout(patch)))
}

/// Every table, by ascending version.
pub(crate) fn all() -> &'static [Table] {
    TABLES
}

/// The minor versions there are tables for, for people: `3.11, 3.12, 3.13`.
pub(crate) fn known_versions() -> String {
    let mut versions: Vec<(u8, u8)> = TABLES.iter().map(|table| table.minor).collect();
    versions.dedup();
    let names: Vec<String> = versions.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;

    fn first(version_hex: u32) -> &'static Table {
        candidates(version_hex, false)[0]
    }

    #[test]
    fn a_patch_release_has_its_own_table_or_the_nearest_of_its_minor_version() {
        assert_eq!(first(0x030b_02f0).name, "3.11.0");
        assert_eq!(first(0x030c_00f0).name, "3.12.0");
        assert_eq!(first(0x030c_01f0).layout(1).source, LayoutSource::TABLE);
        assert_eq!(first(0x030c_0cf0).name, "3.12.4");
        assert_eq!(first(0x030c_0cf0).layout(12).source, LayoutSource::NEAREST_TABLE);
        assert_eq!(first(0x030d_12f0).name, "3.13.15");
        assert_eq!(candidates(0x030d_00f0, true)[0].name, "3.13.15-free-threaded");
        assert_eq!(first(0x030e_0af0).name, "3.14.8");
        assert!(candidates(0x030c_00f0, true).is_empty());
        assert_eq!(first(0x0309_02f0).name, "3.9.0");
        assert_eq!(first(0x0306_05f0).layout(5).source, LayoutSource::NEAREST_TABLE);
        assert!(candidates(0x0305_02f0, false).is_empty());
    }

    /// Offsets as debuggers and headers give them, written down apart from the file the tables are made from.
    #[test]
    fn tables_agree_with_what_gdb_says_of_the_builds() {
        let python_3_11 = first(0x030b_07f0).offsets;
        assert_eq!(python_3_11.thread_cframe, Field(56));
        assert_eq!(python_3_11.frame_code, Field(32));
        assert_eq!(python_3_11.frame_owner, Field(69));
        assert_eq!(python_3_11.text_ascii_data, Field(48));
        assert_eq!(python_3_11.text_compact_data, Field(72));
        let python_3_12 = first(0x030c_01f0).offsets;
        assert_eq!(python_3_12.text_ascii_data, Field(40));
        assert_eq!(python_3_12.text_compact_data, Field(56));
        assert_eq!(python_3_12.frame_previous, Field(8));
        let python_3_13 = first(0x030d_00f0).offsets;
        assert_eq!(python_3_13.frame_instruction, Field(56));
        assert_eq!(python_3_13.thread_cframe, Field::ABSENT);
        assert_eq!(python_3_13.thread_current_frame, Field(72));
        // In builds without a GIL the bits of a string's state start after a whole byte.
        let free_threaded = candidates(0x030e_0af0, true)[0].offsets;
        assert_eq!((free_threaded.text_kind_bit, free_threaded.text_ascii_bit), (Field(8), Field(12)));
        assert_eq!(first(0x030e_0af0).offsets.text_kind_bit, Field(2));
        assert_eq!((free_threaded.frame_code_copy, free_threaded.code_copies), (Field(72), Field(224)));
        assert_eq!(first(0x030f_02f0).offsets.thread_base_frame, Field(80));
    }

    #[test]
    fn every_table_says_where_it_is_from() {
        assert!(TABLES.iter().all(|table| !table.origin.is_empty() && !table.patches.is_empty()));
        assert!(TABLES.iter().all(|table| !table.flavours.is_empty()));
        let names: std::collections::HashSet<&str> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(names.len(), TABLES.len());
        assert_eq!(known_versions(), "2.7, 3.6, 3.7, 3.8, 3.9, 3.10, 3.11, 3.12, 3.13, 3.14, 3.15");
    }
}
