//! How fast Python frames are decoded from a snapshot, and in how much memory: `cargo xtask bench --decode` runs it on
//! snapshots of real processes.
//!
//! One snapshot a run: the peak of a process's memory is that of its greatest snapshot.
#![allow(clippy::unwrap_used, reason = "whoever runs a benchmark reads its backtrace")]

use pyst_snapshot::{Snapshot, StreamReader};
use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

/// How long the walk is repeated.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

fn main() {
    // `cargo bench` adds `--bench`.
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some(path) = path else { return };
    let snapshot = StreamReader::new(BufReader::new(File::open(path).unwrap())).next().unwrap().unwrap();
    let before = peak();
    let (frames, threads, first) = walk(&snapshot);
    let used = peak().saturating_sub(before);
    let started = Instant::now();
    let mut best = first;
    while started.elapsed() < LONG_ENOUGH {
        best = best.min(walk(&snapshot).2);
    }
    let bytes: usize = snapshot.raw(pyst_snapshot::SectionKind::MEMORY).map(|section| section.payload.len()).sum();
    println!("{frames} {threads} {} {bytes} {used}", best.as_nanos());
}

/// How many frames and threads there are, and how long it took.
fn walk(snapshot: &Snapshot) -> (usize, usize, Duration) {
    let started = Instant::now();
    let (python, _) = pyst_python::walk_snapshot(snapshot);
    let took = started.elapsed();
    let python = python.unwrap();
    (python.states.iter().map(|state| state.frames.len()).sum(), python.states.len(), took)
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}
