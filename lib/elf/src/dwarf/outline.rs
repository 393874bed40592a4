//! What a unit's first entry says of the whole unit, read alone: most units that are asked in turn have no svma that is looked for.

use super::Slice;
use super::lines::has_rows;
use super::section::Section;
use gimli::{
    Abbreviations, AttributeValue, DebugAddrBase, DebugLocListsBase, DebugRngListsBase, DebugStrOffsetsBase, Dwarf,
    Unit, UnitHeader,
};
use std::sync::Arc;

/// A unit without its entries but the first, and without its lines.
pub(super) struct Outline<'a> {
    pub(super) unit: Unit<Slice<'a>>,
    /// Whether it has any line.
    pub(super) has_lines: bool,
}

impl<'a> Outline<'a> {
    /// What the first entry says, by its abbreviation.
    pub(super) fn read(
        header: UnitHeader<Slice<'a>>,
        abbreviation: Abbreviations,
        dwarf: &Dwarf<Slice<'a>>,
        lines: &Section<'_>,
    ) -> Option<Outline<'a>> {
        let (encoding, file_type) = (header.encoding(), dwarf.file_type);
        let mut unit = Unit {
            abbreviations: Arc::new(abbreviation),
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file_type),
            addr_base: DebugAddrBase(0),
            loclists_base: DebugLocListsBase::default_for_encoding_and_file(encoding, file_type),
            rnglists_base: DebugRngListsBase::default_for_encoding_and_file(encoding, file_type),
            line_program: None,
            dwo_id: None,
            header,
        };
        let (mut low, mut program) = (None, None);
        let mut entries = unit.header.entries_raw(&unit.abbreviations, None).ok()?;
        for attribute in entries.read_abbreviation().ok()??.attributes() {
            let attribute = entries.read_attribute(*attribute).ok()?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_low_pc, value) => low = Some(value),
                (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(start)) => program = Some(start.0),
                (_, AttributeValue::DebugAddrBase(base)) => unit.addr_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => unit.rnglists_base = base,
                _ => {}
            }
        }
        if let Some(low) = low {
            unit.low_pc = dwarf.attr_address(&unit, low).ok()?.unwrap_or_default();
        }
        let has_lines = program.is_some_and(|start| has_rows(lines.through(start).get(start..).unwrap_or_default()));
        Some(Outline { unit, has_lines })
    }
}
