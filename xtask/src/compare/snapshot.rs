//! What a snapshot says of the stop that it comes from, and the floor of that stop.

use super::probe::parse_floor;
use anyhow::{Context, Result, ensure};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::{Capture, Memory};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

const PAGE: u64 = 4096;

/// One capture by pyst-grab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// How long it says that it stopped the target, in nanoseconds.
    pub(crate) stopped: u64,
    /// What it read meanwhile, in bytes.
    pub(crate) read: u64,
    /// How many bytes of memory it keeps: used stacks and what Python's frames are made of.
    pub(crate) kept: u64,
    /// How large the snapshot is.
    pub(crate) size: u64,
    /// The ranges of memory that it keeps: address and length.
    ranges: Vec<(u64, u64)>,
}

impl Taken {
    /// Reads a snapshot.
    pub(crate) fn read(path: &Path) -> Result<Taken> {
        let bytes = fs::read(path)?;
        let snapshot = StreamReader::new(bytes.as_slice()).next().context("no snapshot")??;
        let capture = snapshot.get::<Capture>()?.context("no capture section")?;
        let mut ranges = Vec::new();
        for memory in snapshot.all::<Memory>() {
            let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or_default();
            ranges.extend(memory?.read.iter().map(|(address, bytes)| (address.0, length(bytes))));
        }
        Ok(Taken {
            stopped: capture.stopped_ns.unwrap_or_default(),
            read: capture.stopped_bytes.unwrap_or_default(),
            kept: ranges.iter().map(|(_, length)| length).sum(),
            size: bytes.len().try_into()?,
            ranges,
        })
    }

    /// The command that stops a process for as long as it takes to read as many bytes as this capture did, from the same places.
    pub(crate) fn floor(&self, program: &Path, pid: u32, scratch: &Path) -> Result<Command> {
        let mut text = String::new();
        for (address, length) in joined(&self.ranges, self.read) {
            writeln!(text, "{address:x} {length:x}")?;
        }
        let ranges = scratch.join("ranges");
        fs::write(&ranges, text)?;
        let mut command = Command::new(program);
        command.arg(pid.to_string()).arg(self.read.to_string()).stdin(File::open(ranges)?);
        Ok(command)
    }
}

/// The ranges, each an address and a length, in as few parts as `wanted` bytes allow: the smallest gaps are read along first, and
/// then what is left of the last page of each. No page is touched that has nothing to read, for it may not be there.
fn joined(ranges: &[(u64, u64)], wanted: u64) -> Vec<(u64, u64)> {
    let mut parts = ranges.to_vec();
    parts.sort_unstable();
    let mut left = wanted.saturating_sub(parts.iter().map(|(_, length)| length).sum());
    let ends = parts.iter().map(|(address, length)| address.saturating_add(*length));
    let mut gaps: Vec<u64> = ends.zip(parts.iter().skip(1)).map(|(end, next)| next.0.saturating_sub(end)).collect();
    gaps.sort_unstable();
    gaps.retain(|gap| *gap < PAGE);
    let afforded = gaps.iter().take_while(|gap| {
        let is_afforded = **gap <= left;
        left -= if is_afforded { **gap } else { 0 };
        is_afforded
    });
    // Of gaps of this size not all may be afforded: those of the next smaller one are.
    let afforded = afforded.count();
    let largest = match (gaps.get(afforded), afforded.checked_sub(1).and_then(|last| gaps.get(last))) {
        (Some(next), Some(last)) if next == last => last.saturating_sub(1),
        (_, Some(last)) => *last,
        (_, None) => 0,
    };
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (address, length) in parts {
        match joined.last_mut() {
            Some((start, total)) if address.saturating_sub(start.saturating_add(*total)) <= largest => {
                *total = (*total).max(address.saturating_add(length).saturating_sub(*start));
            }
            _ => joined.push((address, length)),
        }
    }
    let mut left = wanted.saturating_sub(joined.iter().map(|(_, length)| length).sum());
    for (address, length) in &mut joined {
        let rest = address.saturating_add(*length).wrapping_neg() % PAGE;
        *length += rest.min(left);
        left -= rest.min(left);
    }
    joined
}

/// Runs the floor: how long it says that it stopped the target, in nanoseconds.
pub(crate) fn run_floor(mut command: Command) -> Result<u64> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let (nanoseconds, _) = parse_floor(&text).with_context(|| format!("the floor said: {text}"))?;
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gaps_are_read_along() {
        let ranges = [(0x3000, 0x100), (0x1000, 0x100), (0x1180, 0x80), (0x1300, 0x100)];
        assert_eq!(joined(&ranges, 0x380), [(0x1000, 0x100), (0x1180, 0x80), (0x1300, 0x100), (0x3000, 0x100)]);
        assert_eq!(joined(&ranges, 0x400), [(0x1000, 0x200), (0x1300, 0x100), (0x3000, 0x100)]);
        assert_eq!(joined(&ranges, 0x500), [(0x1000, 0x400), (0x3000, 0x100)]);
    }

    #[test]
    fn what_is_left_goes_to_the_rest_of_the_pages_and_no_further() {
        assert_eq!(joined(&[(0x1000, 0x100), (0x8000, 0x10)], 0x400), [(0x1000, 0x3f0), (0x8000, 0x10)]);
        assert_eq!(joined(&[(0x1000, 0x1000), (0x8ff0, 0x10)], 0x4000), [(0x1000, 0x1000), (0x8ff0, 0x10)]);
        assert_eq!(joined(&[], 0x4000), []);
    }

    #[test]
    fn of_equal_gaps_all_are_read_along_or_none() {
        let ranges = [(0, 1), (3, 1), (6, 1)];
        assert_eq!(joined(&ranges, 5), [(0, 3), (3, 1), (6, 1)]);
        assert_eq!(joined(&ranges, 7), [(0, 7)]);
    }
}
