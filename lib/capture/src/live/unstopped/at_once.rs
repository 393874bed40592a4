//! Reading ranges with as few calls as there can be, so that little time passes between the first byte and the last.

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_snapshot::Range;
use std::io::IoSliceMut;

/// The kernel takes no more ranges in one call.
const RANGES_PER_CALL: usize = 1024;

/// The bytes of `ranges`, one after the other; `None` if one cannot be read.
pub(super) fn read(pid: Pid, ranges: &[Range]) -> Option<Vec<u8>> {
    let length: u64 = ranges.iter().map(|range| range.len()).sum();
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let mut rest = bytes.as_mut_slice();
    for ranges in ranges.chunks(RANGES_PER_CALL) {
        let mut remote = Vec::with_capacity(ranges.len());
        for range in ranges {
            remote.push(RemoteIoVec {
                base: usize::try_from(range.start.0).ok()?,
                len: usize::try_from(range.len()).ok()?,
            });
        }
        let wanted = remote.iter().map(|range| range.len).sum();
        let (now, later) = std::mem::take(&mut rest).split_at_mut_checked(wanted)?;
        rest = later;
        if wanted > 0 && process_vm_readv(pid, &mut [IoSliceMut::new(now)], &remote) != Ok(wanted) {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pyst_snapshot::Address;

    #[test]
    fn more_ranges_than_a_call_takes_come_one_after_the_other() {
        let bytes: Vec<u8> = (0..30_000_u32).map(|i| i as u8).collect();
        let at = bytes.as_ptr().addr() as u64;
        let ranges: Vec<Range> = (0..3000).map(|i| Range::sized(Address(at + i * 10), 3).unwrap()).collect();
        let expected: Vec<u8> = bytes.chunks(10).flat_map(|ten| &ten[..3]).copied().collect();
        assert_eq!(read(nix::unistd::getpid(), &ranges).unwrap(), expected);
        let nowhere = Range::sized(Address(8), 8).unwrap();
        assert_eq!(read(nix::unistd::getpid(), &[nowhere]), None);
        assert_eq!(read(nix::unistd::getpid(), &[]), Some(Vec::new()));
    }
}
