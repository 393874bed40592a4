//! `/proc/PID/maps`.

use pyst_snapshot::payload::Map;
use pyst_snapshot::{Address, Bytes, Range};

/// The mappings in the text of `/proc/PID/maps`, ascending. Lines that no kernel writes are left out.
pub(crate) fn parse(text: &[u8]) -> Vec<Map> {
    let mut maps: Vec<Map> = text.split(|byte| *byte == b'\n').filter_map(parse_line).collect();
    // The file is read in pieces while the target runs: a mapping that moved meanwhile may come twice.
    maps.sort_by_key(|map| map.range);
    maps.dedup_by(|later, earlier| later.range.start < earlier.range.end);
    maps
}

/// The mapping that holds `address`.
pub(crate) fn find(maps: &[Map], address: Address) -> Option<&Map> {
    let after = maps.partition_point(|map| map.range.start <= address);
    maps.get(after.checked_sub(1)?).filter(|map| map.range.contains(address))
}

/// `7f0000000000-7f0000001000 r-xp 00002000 fd:01 123456                     /usr/lib/a path with spaces.so`
fn parse_line(line: &[u8]) -> Option<Map> {
    let (range, rest) = field(line)?;
    let (permissions, rest) = field(rest)?;
    let (offset, rest) = field(rest)?;
    let (device, rest) = field(rest)?;
    let (inode, rest) = field(rest).unwrap_or((rest, &[]));
    let (start, end) = split(range, b'-')?;
    let (major, minor) = split(device, b':')?;
    let permission = |at: usize, letter: u8, bit: u16| if permissions.get(at) == Some(&letter) { bit } else { 0 };
    Some(Map {
        range: Range { start: Address(hex(start)?), end: Address(hex(end)?) },
        permissions: permission(0, b'r', 4) | permission(1, b'w', 2) | permission(2, b'x', 1) | permission(3, b's', 8),
        offset: hex(offset)?,
        device_major: u32::try_from(hex(major)?).ok()?,
        device_minor: u32::try_from(hex(minor)?).ok()?,
        inode: std::str::from_utf8(inode).ok()?.parse().ok()?,
        path: Bytes(unescape(rest.trim_ascii_start())),
    })
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    split(line, b' ').or(Some((line, &[][..]))).filter(|(field, _)| !field.is_empty())
}

fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The kernel writes a newline in a path as `\012`, and nothing else escaped.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            bytes.push(b'\n');
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_hold_spaces_newlines_and_deletion_marks() {
        let text =
            b"55d0c0000000-55d0c0001000 r-xp 00002000 fd:1a 123456                     /a b/x\\012y.so (deleted)\n\
            7f0000000000-7f0000001000 rw-s 00000000 00:00 0 \n\
            7ffd0000-7ffe0000 ---p 00000000 00:00 0                          [stack]\n\
            garbage\n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let maps = parse(text);
        assert_eq!(maps.len(), 4);
        let code = maps.iter().find(|map| map.inode == 123_456).unwrap();
        assert_eq!(code.path.0, b"/a b/x\ny.so (deleted)");
        assert_eq!((code.device_major, code.device_minor, code.offset), (0xfd, 0x1a, 0x2000));
        assert!(code.is_readable() && code.is_executable() && !code.is_writable());
        let shared = maps.iter().find(|map| map.permissions & 8 != 0).unwrap();
        assert!(shared.path.0.is_empty() && shared.is_writable());
        assert_eq!(find(&maps, Address(0x7ffd_0010)).unwrap().path.0, b"[stack]");
        assert!(find(&maps, Address(0x7ffe_0000)).is_none());
        assert!(maps.is_sorted_by_key(|map| map.range));
    }

    #[test]
    fn the_maps_of_this_process_are_all_read() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let maps = parse(&text);
        assert_eq!(maps.len(), text.iter().filter(|byte| **byte == b'\n').count());
        let here = Address(std::ptr::from_ref(&text).addr() as u64);
        assert!(find(&maps, here).unwrap().is_writable());
    }
}
