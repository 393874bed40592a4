//! What a native frame costs to unwind from a snapshot: `cargo xtask bench --native` runs it on snapshots of real
//! processes.
//!
//! Warm: the snapshot is loaded, and the walk is repeated. Its rules are not kept from one walk to the next, so a stack
//! with thousands of frames is needed for their compilation not to count.
#![allow(clippy::unwrap_used, reason = "whoever runs a benchmark reads its backtrace")]

use pyst_elf::{ModuleTable, RecordedFiles};
use pyst_memory::Image;
use pyst_native::{Evidence, unwind};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::{Capture, Maps, Modules, Threads};
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
    let (memory, errors) = Image::of_snapshot(&snapshot);
    assert!(errors.is_empty(), "{errors:?}");
    let (files, errors) = RecordedFiles::of_snapshot(&snapshot);
    assert!(errors.is_empty(), "{errors:?}");
    let capture: Capture = snapshot.get().unwrap().unwrap();
    let threads: Threads = snapshot.get().unwrap().unwrap();
    let modules = ModuleTable::new(&snapshot.get::<Modules>().unwrap().unwrap());
    let mut maps = snapshot.get::<Maps>().unwrap().unwrap_or_default();
    maps.maps.sort_by_key(|map| map.range);
    let evidence = Evidence {
        arch: capture.arch,
        pac_mask: capture.pac_mask,
        threads: &threads,
        maps: &maps.maps,
        memory: &memory,
        modules: &modules,
        files: &files,
    };

    let walk = || {
        let started = Instant::now();
        let unwound = unwind(evidence);
        let took = started.elapsed();
        (unwound.native.stacks.iter().map(|stack| stack.frames.len()).sum::<usize>(), took)
    };
    let started = Instant::now();
    let (frames, mut best) = walk();
    while started.elapsed() < LONG_ENOUGH {
        best = best.min(walk().1);
    }
    println!("{frames} {}", best.as_nanos());
}
