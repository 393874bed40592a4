//! What there is to say of a snapshot that has been written.

use pyst_snapshot::payload::{Capture, Runtime};
use pyst_snapshot::{RawSection, SectionKind, Snapshot};

/// What is left of a snapshot whose sections have been written.
#[derive(Default)]
pub(crate) struct Described {
    /// The sections that tell of it, and no others.
    pub(crate) told: Snapshot,
    /// What it consisted of: the kind and the length of each section.
    sizes: Vec<(SectionKind, usize)>,
}

impl Described {
    /// Notes a section that has been written.
    pub(crate) fn note(&mut self, section: RawSection) {
        const TELLING: [SectionKind; 4] =
            [SectionKind::CAPTURE, SectionKind::PROCESS, SectionKind::RUNTIME, SectionKind::DIAGNOSTICS];
        let (kind, size) = (section.kind, section.payload.len());
        match self.sizes.last_mut() {
            // A memory comes in many.
            Some((last, sum)) if *last == kind && kind == SectionKind::MEMORY => *sum += size,
            _ => self.sizes.push((kind, size)),
        }
        if TELLING.contains(&kind) {
            self.told.sections.push(section);
        }
    }
}

/// What `--verbose` says: how long, how much, and how the runtime was found.
pub(crate) fn describe(Described { told: snapshot, sizes }: &Described) {
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
    for (kind, size) in sizes {
        eprintln!("pyst-grab: section {:<12} {size:>9} bytes", kind.name());
    }
}
