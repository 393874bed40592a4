//! What an executable maps, for a core whose notes list no mapped files: QEMU's user emulation writes such.

use super::notes::FileNote;
use crate::modules::open_regular;
use pyst_elf::ElfFile;
use pyst_snapshot::{Address, Bias, Range};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const PAGE: u64 = 4096;

/// The mappings of `exe`, whose first instruction was at `entry`, ascending.
pub(super) fn mappings(exe: &Path, entry: u64) -> Vec<FileNote> {
    let Some(file) = open_regular(exe).ok().and_then(|file| ElfFile::open(file).ok()) else { return Vec::new() };
    let bias = Bias(entry.wrapping_sub(file.entry().0));
    let mappings = file.load_segments().iter().filter_map(|segment| {
        let start = segment.svmas.start.to_address(bias).0;
        let end = segment.svmas.end.to_address(bias).0.checked_next_multiple_of(PAGE)?;
        let range = Range { start: Address(start & !(PAGE - 1)), end: Address(end) };
        let path = exe.as_os_str().as_bytes().to_vec();
        (!range.is_empty()).then_some(FileNote { range, offset: segment.offset & !(PAGE - 1), path })
    });
    let mut mappings: Vec<FileNote> = mappings.collect();
    mappings.sort_by_key(|mapping| mapping.range);
    mappings
}
