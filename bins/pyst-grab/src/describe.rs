//! What `--verbose` says of a snapshot.

use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Capture, Runtime};

/// What `--verbose` says: how long, how much, and how the runtime was found.
pub(crate) fn describe(snapshot: &Snapshot) {
    if let Ok(Some(Capture { stopped_ns: Some(stopped), stopped_bytes, .. })) = snapshot.get() {
        let microseconds = stopped / 1000;
        let bytes = stopped_bytes.unwrap_or_default();
        eprintln!("pyst-grab: the process was stopped for {microseconds} µs, in which {bytes} bytes were read");
    }
    if let Ok(Some(Runtime { found, tried })) = snapshot.get() {
        for step in tried {
            eprintln!("pyst-grab: runtime: {step}");
        }
        if let Some(found) = found {
            let (version, by, layout) = (found.version(), found.found_by.name(), &found.layout);
            let source = found.layout_source.name();
            eprintln!("pyst-grab: Python {version} at {}, found by {by}; layout {layout} ({source})", found.address);
        }
    }
    for section in &snapshot.sections {
        eprintln!("pyst-grab: section {:<12} {:>9} bytes", section.kind.name(), section.payload.len());
    }
}
