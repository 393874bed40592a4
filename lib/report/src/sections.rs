//! The sections of a snapshot that a report is made of, decoded; what does not decode is said and left out.

use crate::model::Diagnostic;
use pyst_kernel::Call;
use pyst_memory::Image;
use pyst_snapshot::payload::{
    self as wire, Capture, Diagnostics, Modules, PackedNative, Process, Python, Runtime, Severity, Source, Stage,
    Thread, ThreadWait, Threads, Variables, Verdicts, Waits,
};
use pyst_snapshot::{Defect, Payload, PayloadError, SectionKind, Snapshot, Tid};
use std::collections::BTreeMap;

/// The decoded sections, and what was wrong.
#[derive(Debug, Default)]
pub struct Sections {
    pub(crate) capture: Option<Capture>,
    pub(crate) process: Option<Process>,
    pub(crate) threads: Threads,
    pub(crate) modules: Modules,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) source: Source,
    pub(crate) native: Option<PackedNative>,
    pub(crate) python: Option<Python>,
    pub(crate) variables: Option<Variables>,
    pub(crate) waits: Waits,
    pub(crate) verdicts: Option<Verdicts>,
    /// The system calls that threads are in.
    pub(crate) calls: BTreeMap<Tid, Call>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether some of it could not be read.
    pub(crate) defective: bool,
}

impl Sections {
    /// Decodes what a report needs; when a defect forbids to show anything, only the diagnostics.
    #[must_use]
    pub fn of_snapshot(mut snapshot: Snapshot) -> Sections {
        let mut sections = Sections { defective: !snapshot.defects.is_empty(), ..Sections::default() };
        let items = snapshot.defect_diagnostics();
        sections.add_recorded(Diagnostics { stage: Stage::STREAM, items });
        for recorded in snapshot.all::<Diagnostics>() {
            match recorded {
                Ok(recorded) => sections.add_recorded(recorded),
                Err(error) => sections.note_undecoded(&error),
            }
        }
        if snapshot.defects.iter().any(Defect::is_fatal) {
            return sections;
        }
        let snapshot = &mut snapshot;
        sections.capture = sections.decode(snapshot);
        sections.threads = sections.decode(snapshot).unwrap_or_default();
        sections.waits = sections.decode(snapshot).unwrap_or_default();
        sections.add_calls(snapshot);
        // Most of a snapshot is memory, and then what the unwinder asked for.
        const DONE: [SectionKind; 4] =
            [SectionKind::MEMORY, SectionKind::UNWIND, SectionKind::SYMBOLS, SectionKind::CALLS];
        snapshot.sections.retain(|section| !DONE.contains(&section.kind));
        sections.process = sections.decode(snapshot);
        sections.modules = sections.decode(snapshot).unwrap_or_default();
        sections.runtime = sections.decode(snapshot);
        sections.source = sections.decode(snapshot).unwrap_or_default();
        sections.native = sections.take(snapshot, SectionKind::NATIVE, PackedNative::decode);
        sections.python = sections.decode(snapshot);
        sections.variables = sections.decode(snapshot);
        sections.verdicts = sections.decode(snapshot);
        sections
    }

    /// Finds the system call of each thread, in the memory that the capture recorded for this.
    fn add_calls(&mut self, snapshot: &Snapshot) {
        let Some(arch) = self.capture.as_ref().map(|capture| capture.arch) else { return };
        // Memory that does not decode is a matter of the stages that found frames in it, and said so.
        let (memory, _) = Image::of_snapshot(snapshot);
        let waits = self.waits.threads.iter().map(|wait| (wait.tid, wait));
        let waits: BTreeMap<Tid, &ThreadWait> = waits.collect();
        let threads = self.threads.threads.iter();
        let call = |thread: &Thread| {
            let wait = waits.get(&thread.tid).copied();
            Some((thread.tid, Call::of(thread, wait, arch, &memory)?))
        };
        self.calls = threads.filter_map(call).collect();
    }

    /// Adds a diagnostic of this report.
    fn note(&mut self, item: wire::Diagnostic) {
        self.diagnostics.push(Diagnostic::new(Stage::FMT, item));
    }

    fn decode<P: Payload>(&mut self, snapshot: &mut Snapshot) -> Option<P> {
        self.take(snapshot, P::KIND, |version, payload| P::decode(version, &payload))
    }

    /// Decodes the first section of a kind. Its bytes go, for what they say may take as much room again.
    fn take<P>(
        &mut self,
        snapshot: &mut Snapshot,
        kind: SectionKind,
        decode: impl FnOnce(u16, Vec<u8>) -> Result<P, PayloadError>,
    ) -> Option<P> {
        let section = snapshot.sections.iter_mut().find(|section| section.kind == kind)?;
        let payload = std::mem::take(&mut section.payload);
        decode(section.version, payload).map_err(|error| self.note_undecoded(&error)).ok()
    }

    fn add_recorded(&mut self, Diagnostics { stage, items }: Diagnostics) {
        self.diagnostics.extend(items.into_iter().map(|item| Diagnostic::new(stage, item)));
    }

    fn note_undecoded(&mut self, error: &PayloadError) {
        let code = match error {
            PayloadError::NewerVersion { .. } => "newer-payload",
            PayloadError::Malformed { .. } => "malformed-section",
        };
        self.note(wire::Diagnostic::new(Severity::LOSS, code, error.to_string()));
    }
}
