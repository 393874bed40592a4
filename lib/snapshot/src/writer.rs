//! Writes snapshots to a stream.

use crate::format::{SectionFlags, SectionHeader, SectionKind, snapshot_header};
use crate::snapshot::Snapshot;
use std::io::{self, Write};

/// Writes `snapshot` with its header, all its sections, unknown ones too, and END.
///
/// # Errors
/// Those of `out`.
pub fn write_snapshot(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&snapshot_header())?;
    for section in &snapshot.sections {
        write_section(section.kind, section.flags, section.version, &section.payload, out)?;
    }
    write_section(SectionKind::END, SectionFlags::default(), 1, &[], out)
}

fn write_section(
    kind: SectionKind,
    flags: SectionFlags,
    version: u16,
    payload: &[u8],
    out: &mut impl Write,
) -> io::Result<()> {
    let header =
        SectionHeader { kind, flags, version, length: payload.len() as u64, payload_crc: crc32fast::hash(payload) };
    out.write_all(&header.to_bytes())?;
    out.write_all(payload)
}
