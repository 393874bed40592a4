//! Layouts as data: one table for each version and flavour whose fields are where no other's are.
//!
//! To add a version is to add a table, its semantics and its tests; the walk knows no version. Two things must hold: a
//! table's offsets come from a compiler (see `layouts/generate.py`), and what a process states about itself
//! (`_Py_DebugOffsets`, 3.13 and later) wins over every table, for distributors patch structures.

mod objects;
mod offsets;
mod semantics;
mod tables;

pub(crate) use objects::Objects;
pub(crate) use offsets::{Field, Offsets};
pub(crate) use semantics::{Attributes, Lines, Names, OwnLine, Runs, Semantics, SplitOrder};

use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;
use pyst_snapshot::payload::{FoundRuntime, LayoutSource};
use tables::TABLES;

/// What `_Py_DebugOffsets` starts with.
pub(crate) const COOKIE: &[u8; 8] = b"xdebugpy";

/// The last byte of the `PY_VERSION_HEX` of final releases.
const FINAL: u8 = 0xf0;

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
    pub(crate) flavours: &'static [Flavour],
    /// What the fields mean.
    pub(crate) semantics: &'static Semantics,
    /// Where they are.
    pub(crate) offsets: &'static Offsets,
    /// Where in `_Py_DebugOffsets` the process states them, for versions that have it.
    pub(crate) stated: Option<&'static Offsets>,
    /// Where objects have what their values are made of.
    pub(crate) objects: &'static Objects,
    /// Where the process states that.
    pub(crate) objects_stated: Option<&'static Objects>,
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
    /// Where objects have what their values are made of; none for a version that the table is not of.
    pub(crate) objects: Option<Objects>,
    /// Where that is from.
    pub(crate) source: LayoutSource,
}

impl Table {
    /// The layout by this table alone.
    pub(crate) fn layout(&'static self, patch: u8) -> Layout {
        let source = if self.patches.contains(&patch) { LayoutSource::TABLE } else { LayoutSource::NEAREST_TABLE };
        let objects = Some(*self.objects);
        Layout { table: self, semantics: self.semantics, offsets: *self.offsets, objects, source }
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
        let objects = self.objects.corrected(self.objects_stated?, &description);
        let source = LayoutSource::SELF_DESCRIBED;
        Some(Layout { table: self, semantics: self.semantics, offsets, objects, source })
    }

    /// The layout that the runtime at `runtime` has by this table. Of a version that the table is not of, only what
    /// the runtime says of itself counts, and no field that the walk can do without.
    pub(crate) fn layout_of(&'static self, version_hex: u32, runtime: Address, memory: &dyn Memory) -> Option<Layout> {
        let [_, _, patch, _] = version_hex.to_be_bytes();
        let described = self.described(runtime, memory);
        if self.is_of_minor(version_hex) {
            return Some(described.unwrap_or_else(|| self.layout(patch)));
        }
        let Layout { offsets, .. } = described?;
        let offsets = Offsets {
            runtime_core_initialized: Field::ABSENT,
            runtime_initialized: Field::ABSENT,
            runtime_interpreters_main: Field::ABSENT,
            runtime_main_thread: Field::ABSENT,
            thread_executor: Field::ABSENT,
            thread_chunk_top: Field::ABSENT,
            ..offsets
        };
        let source = LayoutSource::SELF_DESCRIBED;
        Some(Layout { table: self, semantics: self.semantics, offsets, objects: None, source })
    }

    /// Whether it is of this minor version.
    pub(crate) fn is_of_minor(&self, version_hex: u32) -> bool {
        let [major, minor, ..] = version_hex.to_be_bytes();
        self.minor == (major, minor)
    }

    /// Whether it is known to be right for this very release. Fields move until the final one.
    pub(crate) fn is_of(&self, version_hex: u32) -> bool {
        let [_, _, patch, level] = version_hex.to_be_bytes();
        self.is_of_minor(version_hex) && self.patches.contains(&patch) && level == FINAL
    }

    /// How far a patch release is from those the table is known to be right for.
    fn distance(&self, patch: u8) -> u8 {
        self.patches.iter().map(|known| known.abs_diff(patch)).min().unwrap_or(u8::MAX)
    }
}

impl Layout {
    /// The fields that the process states to be elsewhere than the table has them. Sizes differ from build to build.
    pub(crate) fn moved(&self) -> Vec<&'static str> {
        let Some(stated) = self.table.stated else { return Vec::new() };
        let mut moved = Vec::new();
        self.table.offsets.each_stated(stated, &self.offsets, |name, usual, own| {
            if usual != own && !name.ends_with("_size") {
                moved.push(name);
            }
        });
        moved
    }

    /// How many of all that the process states differs from the table.
    pub(crate) fn differences(&self) -> usize {
        let Some(stated) = self.table.stated else { return 0 };
        let mut differences: usize = 0;
        self.table.offsets.each_stated(stated, &self.offsets, |_, usual, own| {
            differences = differences.saturating_add(usize::from(usual != own));
        });
        differences
    }

    /// Whether the build is one of `--with-pydebug`, as far as sizes tell that the process states.
    pub(crate) fn debug(&self, version_hex: u32) -> Option<bool> {
        let states = self.source == LayoutSource::SELF_DESCRIBED && self.table.is_of(version_hex);
        let debug = self.table.flavours.contains(&Flavour::Debug);
        let only = debug == (self.table.flavours == [Flavour::Debug]);
        (states && only && self.differences() == 0).then_some(debug)
    }
}

/// The tables for a version, the likeliest first: those of its minor version. For one that is newer than all of them, those
/// by which it may describe itself, the newest first. None for an older one or a flavour that is not known here.
pub(crate) fn candidates(version_hex: u32, free_threaded: bool) -> Vec<&'static Table> {
    let [major, minor, patch, _] = version_hex.to_be_bytes();
    let mut candidates: Vec<&Table> =
        TABLES.iter().filter(|table| table.minor == (major, minor) && table.free_threaded == free_threaded).collect();
    candidates.sort_by_key(|table| table.distance(patch));
    if candidates.is_empty() && TABLES.iter().all(|table| table.minor < (major, minor)) {
        let describes = |table: &&Table| table.stated.is_some() && table.free_threaded == free_threaded;
        candidates = TABLES.iter().filter(describes).collect();
        candidates.sort_by_key(|table| std::cmp::Reverse(table.minor));
        candidates.dedup_by_key(|table| table.minor);
    }
    candidates
}

/// The layout of a runtime that was found: what its finder chose, if this version still has that table.
pub(crate) fn of_runtime(runtime: &FoundRuntime, memory: &dyn Memory) -> Option<Layout> {
    let [_, _, patch, _] = runtime.version_hex.to_be_bytes();
    let candidates = candidates(runtime.version_hex, runtime.free_threaded);
    let chosen = candidates.iter().find(|table| table.name == runtime.layout);
    let nearest = || candidates.first().filter(|table| table.is_of_minor(runtime.version_hex));
    let table: &'static Table = chosen.or_else(nearest)?;
    if runtime.layout_source == LayoutSource::SELF_DESCRIBED {
        return table.layout_of(runtime.version_hex, runtime.address, memory);
    }
    Some(table.layout(patch))
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
        assert!(candidates(0x0305_00f0, false).is_empty());
        let newer: Vec<_> = candidates(0x0310_00f0, false).iter().map(|table| table.minor).collect();
        assert_eq!(newer, [(3, 15), (3, 14), (3, 13)]);
        assert!(first(0x030e_0af0).is_of(0x030e_0af0) && !first(0x030e_0ac1).is_of(0x030e_0ac1));
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
