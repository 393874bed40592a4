//! Notes that QEMU leaves out of its cores, where the kernel has them.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// The mapped files.
const NT_FILE: u32 = 0x4649_4c45;
/// The bits of addresses that hold signatures: those of data, and those of code.
const NT_ARM_PAC_MASK: u32 = 0x406;

const HEADER: usize = 56;

/// A note of the mapped files in the lines of `/proc/self/maps`.
#[must_use]
pub fn note_of_files<'a>(maps: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let (mut table, mut paths, mut count) = (Vec::new(), Vec::new(), 0u64);
    for line in maps {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, _, offset, _, _, path] = fields[..] else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
        let (start, end) = range.split_once('-').unwrap_or_default();
        if path.starts_with('/') {
            table.extend([hex(start), hex(end), hex(offset) / 4096].iter().flat_map(|word| word.to_le_bytes()));
            paths.extend(path.bytes().chain([0]));
            count += 1;
        }
    }
    let words: Vec<u8> = [count, 4096].iter().flat_map(|word| word.to_le_bytes()).collect();
    note("CORE", NT_FILE, &[words, table, paths].concat())
}

/// A note of the bits that hold signatures.
#[must_use]
pub fn note_of_signatures(mask: u64) -> Vec<u8> {
    note("LINUX", NT_ARM_PAC_MASK, &[mask.to_le_bytes(), mask.to_le_bytes()].concat())
}

fn note(owner: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    let sizes = [owner.len() + 1, content.len()].map(|size| u32::try_from(size).unwrap().to_le_bytes());
    let mut note = [&sizes.concat(), &kind.to_le_bytes()[..], owner.as_bytes(), &[0]].concat();
    note.resize(note.len().next_multiple_of(4), 0);
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The core beside `core` that has `notes` too, and in whose memory `change` was made of each word.
///
/// # Errors
/// It is no core.
pub fn completed_core(core: &Path, notes: &[Vec<u8>], change: impl Fn(u64) -> u64) -> Result<PathBuf> {
    let mut bytes = std::fs::read(core)?;
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "no ELF file of 64 bits");
    let at = |bytes: &[u8], offset: usize| u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap()) as usize;
    let table = at(&bytes, 32);
    let count = usize::from(u16::from_le_bytes(bytes[56..58].try_into().unwrap()));
    let headers = bytes.get(table..table + count * HEADER).context("no program headers")?.to_vec();
    for header in headers.chunks(HEADER) {
        let is_data = header[..4] == 1u32.to_le_bytes() && header[4] & 2 != 0;
        let (start, length) = (at(header, 8), at(header, 32));
        for word in bytes[start..start + length].chunks_exact_mut(8).filter(|_| is_data) {
            let value = u64::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&change(value).to_le_bytes());
        }
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let notes = notes.concat();
    let place = bytes.len() as u64;
    bytes.extend(&notes);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let new_table = bytes.len() as u64;
    bytes.extend(headers);
    bytes.extend([4u32.to_le_bytes(), 4u32.to_le_bytes()].concat());
    bytes.extend([place, 0, 0, notes.len() as u64, 0, 4].iter().flat_map(|word| word.to_le_bytes()));
    bytes[32..40].copy_from_slice(&new_table.to_le_bytes());
    bytes[56..58].copy_from_slice(&u16::try_from(count + 1)?.to_le_bytes());
    let path = core.with_file_name("completed.core");
    std::fs::write(&path, bytes)?;
    Ok(path)
}
