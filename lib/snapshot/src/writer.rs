//! Writes snapshots to a stream, whole or a section at a time.

use crate::format::{SectionFlags, SectionHeader, SectionKind, snapshot_header};
use crate::snapshot::{RawSection, Snapshot};
use std::io::{self, Write};

/// Writes `snapshot` with its header, all its sections, unknown ones too, and END.
///
/// # Errors
/// Those of `out`.
pub fn write_snapshot(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    let mut writer = SnapshotWriter::begin(out)?;
    for section in &snapshot.sections {
        writer.write(section)?;
    }
    writer.write_end()
}

/// A snapshot that is being written; without [`SnapshotWriter::end`] it is cut off.
#[derive(Debug)]
pub struct SnapshotWriter<W> {
    out: W,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the header; buffering is the caller's.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin(mut out: W) -> io::Result<SnapshotWriter<W>> {
        out.write_all(&snapshot_header())?;
        Ok(SnapshotWriter { out })
    }

    /// Writes a section.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn write(&mut self, section: &RawSection) -> io::Result<()> {
        let RawSection { kind, flags, version, payload } = section;
        let (length, payload_crc) = (payload.len() as u64, crc32fast::hash(payload));
        let header = SectionHeader { kind: *kind, flags: *flags, version: *version, length, payload_crc };
        self.out.write_all(&header.to_bytes())?;
        self.out.write_all(payload)
    }

    /// Has all that was written reach the one who reads it.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes END, and has it reach them, too: the next snapshot may be taken minutes later.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn end(mut self) -> io::Result<()> {
        self.write_end()?;
        self.flush()
    }

    fn write_end(&mut self) -> io::Result<()> {
        let (kind, flags) = (SectionKind::END, SectionFlags::default());
        self.write(&RawSection { kind, flags, version: 1, payload: Vec::new() })
    }
}
