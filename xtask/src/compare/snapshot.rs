//! What a snapshot says of the stop that it comes from, and the floor of that stop.

use super::probe::parse_floor;
use anyhow::{Context, Result, ensure};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::{Capture, Memory};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

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
        for (address, length) in &self.ranges {
            writeln!(text, "{address:x} {length:x}")?;
        }
        let ranges = scratch.join("ranges");
        fs::write(&ranges, text)?;
        let mut command = Command::new(program);
        command.arg(pid.to_string()).arg(self.read.to_string()).stdin(File::open(ranges)?);
        Ok(command)
    }
}

/// Runs the floor: how long it says that it stopped the target, in nanoseconds.
pub(crate) fn run_floor(mut command: Command) -> Result<u64> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let (nanoseconds, _) = parse_floor(&text).with_context(|| format!("the floor said: {text}"))?;
    Ok(nanoseconds)
}
