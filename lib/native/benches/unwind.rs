//! What a native frame costs to unwind from a snapshot, without and with its name: `cargo xtask bench --native` runs it
//! on snapshots of real processes.
//!
//! Warm: the snapshot is loaded, and the walk is repeated. Its rules are not kept from one walk to the next, so a stack
//! with thousands of frames is needed for their compilation not to count.
#![allow(clippy::unwrap_used, reason = "whoever runs a benchmark reads its backtrace")]

use pyst_elf::{Answer, Calls, CfiEntry, Files, ModuleId, ModuleTable, RecordedFiles, SymbolHit};
use pyst_memory::Image;
use pyst_native::{Evidence, unwind};
use pyst_snapshot::payload::{Capture, Maps, Modules, Threads};
use pyst_snapshot::{StreamReader, Svma};
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

    let walk = |files: &dyn Files| {
        let started = Instant::now();
        let unwound = unwind(Evidence { files, ..evidence });
        let took = started.elapsed();
        (unwound.native.stacks.iter().map(|stack| stack.frames.len()).sum::<usize>(), took)
    };
    let nameless = Nameless(&files);
    let started = Instant::now();
    let ((frames, mut alone), (named_frames, mut named)) = (walk(&nameless), walk(&files));
    assert_eq!(frames, named_frames);
    // In turn, so that what else the machine does falls on both alike.
    while started.elapsed() < LONG_ENOUGH {
        alone = alone.min(walk(&nameless).1);
        named = named.min(walk(&files).1);
    }
    println!("{frames} {} {}", alone.as_nanos(), named.as_nanos());
}

/// Files that know no names, so that none are found or copied.
struct Nameless<'a>(&'a RecordedFiles);

impl Files for Nameless<'_> {
    fn cfi(&self, module: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        self.0.cfi(module, svma)
    }

    fn symbol(&self, _: ModuleId, _: Svma) -> Answer<SymbolHit> {
        Answer::Absent
    }

    fn calls(&self, _: ModuleId, _: Svma) -> Answer<Calls> {
        Answer::Absent
    }
}
