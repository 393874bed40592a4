//! `.gnu_debugdata`: a small ELF file with symbols of functions, packed by xz into a stripped file, as Fedora ships them.
//!
//! The decoder keeps all that it unpacks in memory, so how much that will be is read off the chunks before anything is
//! unpacked.

use crate::file::ElfFile;
use std::io::Write;

/// The most that is unpacked, in bytes: ten times what the largest programs have.
const MAX_UNPACKED: usize = 64 << 20;

/// The most blocks of one stream. `xz` makes one for what fits into its memory.
const MAX_BLOCKS: usize = 64;

const STREAM_HEADER: &[u8] = b"\xfd7zXZ\0";

impl ElfFile {
    /// The file within.
    pub(crate) fn debugdata(&self) -> Option<&ElfFile> {
        let unpack = || {
            let (_, packed) = self.section_bytes(b".gnu_debugdata")?;
            ElfFile::from_bytes(unpack(packed)?).ok().map(Box::new)
        };
        self.debugdata.get_or_init(unpack).as_deref()
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let size = unpacked_size(packed).filter(|size| *size <= MAX_UNPACKED)?;
    let mut out = Bounded { bytes: Vec::with_capacity(size), limit: size };
    lzma_rs::xz_decompress(&mut &*packed, &mut out).ok()?;
    Some(out.bytes)
}

/// Refuses more than was announced.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(std::io::Error::other("more than its chunks announce"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the chunks of all blocks unpack to, in bytes. (The .xz File Format, version 1.1.0)
fn unpacked_size(packed: &[u8]) -> Option<usize> {
    let flags = packed.strip_prefix(STREAM_HEADER)?.get(1)?;
    let check = match flags {
        0x00 => 0,
        0x01 => 4,
        0x04 => 8,
        0x0a => 32,
        _ => return None,
    };
    let mut at: usize = 12;
    let mut total: usize = 0;
    for _ in 0..MAX_BLOCKS {
        // The index starts with a zero where a block has the size of its header.
        let header = match packed.get(at)? {
            0 => return Some(total),
            size => (usize::from(*size) + 1) * 4,
        };
        at = at.checked_add(header)?;
        let (length, unpacked) = chunks(packed.get(at..)?)?;
        total = total.checked_add(unpacked)?;
        at = at.checked_add(length)?.checked_next_multiple_of(4)?.checked_add(check)?;
    }
    None
}

/// The length of a block's LZMA2 chunks, and what they unpack to.
fn chunks(packed: &[u8]) -> Option<(usize, usize)> {
    let size = |at: usize| {
        let bytes = packed.get(at..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes(*bytes)) + 1)
    };
    let (mut at, mut total) = (0usize, 0usize);
    loop {
        let control = *packed.get(at)?;
        let (length, unpacked) = match control {
            0 => return Some((at.checked_add(1)?, total)),
            // Stored.
            1 | 2 => (3 + size(at.checked_add(1)?)?, size(at.checked_add(1)?)?),
            3..=0x7f => return None,
            _ => {
                let high = usize::from(control & 0x1f) << 16;
                // Those that set new properties have one byte more.
                let header = if control >= 0xc0 { 6 } else { 5 };
                (header + size(at.checked_add(3)?)?, high + size(at.checked_add(1)?)?)
            }
        };
        total = total.checked_add(unpacked)?;
        at = at.checked_add(length)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What `xz` makes of these bytes.
    fn xz(bytes: &[u8], options: &[&str]) -> Option<Vec<u8>> {
        let mut xz = Command::new("xz");
        let mut child = xz.arg("-c").args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let packed = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap().unwrap();
        Some(packed)
    }

    #[test]
    fn what_xz_packs_is_unpacked_and_its_size_is_known_before() {
        let noise: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let zeros = vec![0; 5_000_000];
        for content in [&b""[..], b"short", &noise, &zeros] {
            for options in [&["-9"][..], &["--check=crc32", "--block-size=100000"], &["--check=none"]] {
                let Some(packed) = xz(content, options) else {
                    let _ = writeln!(std::io::stderr(), "skipped: xz is not installed");
                    return;
                };
                let blocks = if options.len() == 2 { content.len().div_ceil(100_000) } else { 1 };
                if blocks > MAX_BLOCKS {
                    continue;
                }
                assert_eq!(unpacked_size(&packed), Some(content.len()), "{options:?}");
                assert!(unpack(&packed).unwrap() == content, "{options:?}");
            }
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_not_unpacked() {
        let Some(packed) = xz(&vec![0; MAX_UNPACKED + 1], &[]) else { return };
        assert!(packed.len() < 100_000);
        assert_eq!(unpack(&packed), None);
    }

    #[test]
    fn damage_is_no_panic() {
        let Some(packed) = xz(&[7; 1000], &[]) else { return };
        for at in 0..packed.len() {
            assert!(unpack(&packed[..at]).is_none_or(|bytes| bytes.len() <= 1000));
            for value in [0, 1, 0x7f, 0x80, 0xe0, 0xff] {
                let mut damaged = packed.clone();
                damaged[at] = value;
                let _ = unpack(&damaged);
            }
        }
    }
}
