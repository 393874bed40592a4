//! The sections of a snapshot that a report is made of, decoded; what does not decode is said and left out.

use crate::model::Diagnostic;
use pyst_kernel::Call;
use pyst_memory::{Image, Recorder};
use pyst_snapshot::payload::{
    self as wire, Capture, Diagnostics, Modules, PackedNative, Process, Python, Runtime, Severity, Source, Stage,
    Thread, ThreadWait, Threads, Variables, Verdicts, Waits,
};
use pyst_snapshot::{Defect, Gather, Payload, PayloadError, RawSection, SectionKind, Snapshot, Tid};
use std::collections::{BTreeMap, BTreeSet};

/// The decoded sections, and what was wrong.
#[derive(Debug, Default)]
pub struct Sections {
    pub(crate) capture: Option<Capture>,
    pub(crate) process: Option<Process>,
    pub(crate) threads: Threads,
    pub(crate) modules: Modules,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) source: Source,
    pub(crate) native: PackedNative,
    pub(crate) python: Option<Python>,
    pub(crate) variables: Option<Variables>,
    pub(crate) waits: Waits,
    pub(crate) verdicts: Option<Verdicts>,
    /// The system calls that threads are in.
    pub(crate) calls: BTreeMap<Tid, Call>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether some of it could not be read.
    pub(crate) defective: bool,
    is_one_of_several: bool,
    process_of_several: Option<u32>,
}

/// A snapshot whose sections come one after the other. What all stages but the last leave as it is, is decoded at once, while
/// those still work; the rest at the end, when most of the bytes have been let go of.
#[derive(Debug, Default)]
pub struct Incoming {
    sections: Sections,
    /// The kinds of sections that have come: of several of a kind the first counts.
    seen: BTreeSet<SectionKind>,
    /// The memory sections.
    memory: Snapshot,
    /// What is decoded at the end.
    rest: Vec<RawSection>,
    defects: Vec<Defect>,
    /// Whether system calls were looked for before the end.
    looked_early: bool,
    /// Whether more has come since that tells of them.
    told_more: bool,
}

impl Gather for Incoming {
    type Whole = Sections;

    fn add(&mut self, section: RawSection) {
        let kind = section.kind;
        if kind == SectionKind::DIAGNOSTICS {
            return self.add_diagnostics(&section);
        }
        let tells_of_calls = [SectionKind::CAPTURE, SectionKind::THREADS, SectionKind::WAITS, SectionKind::MEMORY];
        self.told_more |= tells_of_calls.contains(&kind);
        if kind == SectionKind::MEMORY {
            self.memory.sections.push(section);
        } else if kind == SectionKind::NATIVE {
            // One comes while the next is made.
            self.sections.take(section);
        } else if self.seen.insert(kind) {
            let is_added = [SectionKind::PYTHON, SectionKind::VARIABLES].contains(&kind);
            if is_added { self.rest.push(section) } else { self.sections.take(section) }
        }
    }

    fn add_defect(&mut self, defect: Defect) {
        self.defects.push(defect);
    }

    fn end(mut self) -> Sections {
        if self.told_more {
            self.sections.add_calls(&self.memory);
        }
        let Incoming { mut sections, seen, memory, rest, defects, .. } = self;
        drop(memory);
        let usable = seen.contains(&SectionKind::THREADS);
        let items = defects.iter().map(|defect| defect.diagnostic(usable)).collect();
        sections.add_recorded(Diagnostics { stage: Stage::STREAM, items });
        sections.defective = !defects.is_empty();
        let process = sections.process.as_ref();
        if let Some(capture) = &sections.capture {
            sections.is_one_of_several = capture.is_one_of_several();
            sections.process_of_several = process.filter(|_| capture.has_children()).map(|process| process.pid);
        }
        if defects.iter().any(Defect::is_fatal) {
            return sections.without_content();
        }
        rest.into_iter().for_each(|section| sections.take(section));
        sections
    }
}

impl Incoming {
    fn add_diagnostics(&mut self, section: &RawSection) {
        let recorded = match Diagnostics::decode(section.version, &section.payload) {
            Ok(recorded) => recorded,
            Err(error) => return self.sections.note_undecoded(&error),
        };
        // pyst-grab says last what it has to say, and writes no more memory. Once only: a stream may have as many of them as it likes.
        if recorded.stage == Stage::GRAB && !std::mem::replace(&mut self.looked_early, true) {
            let used = self.sections.add_calls(&self.memory);
            self.told_more = false;
            // What was not asked for now will not be asked for, unless who asks comes later.
            let asking = [SectionKind::CAPTURE, SectionKind::THREADS, SectionKind::WAITS];
            if asking.iter().all(|kind| self.seen.contains(kind)) {
                self.memory.sections = used;
            }
        }
        self.sections.add_recorded(recorded);
    }
}

impl Sections {
    /// Decodes what a report needs; when a defect forbids to show anything, only the diagnostics.
    #[must_use]
    pub fn of_snapshot(snapshot: Snapshot) -> Sections {
        let mut incoming = Incoming::default();
        snapshot.sections.into_iter().for_each(|section| incoming.add(section));
        snapshot.defects.into_iter().for_each(|defect| incoming.add_defect(defect));
        incoming.end()
    }

    /// Whether others go with it in its stream, by what it says itself.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.is_one_of_several
    }

    /// The process that it is of, where it is one of several.
    #[must_use]
    pub fn process_of_several(&self) -> Option<u32> {
        self.process_of_several
    }

    /// The diagnostics alone, and its place in the stream.
    fn without_content(self) -> Sections {
        let Sections { diagnostics, defective, is_one_of_several, process_of_several, .. } = self;
        Sections { diagnostics, defective, is_one_of_several, process_of_several, ..Sections::default() }
    }

    /// Decodes a section that a report needs.
    fn take(&mut self, section: RawSection) {
        match section.kind {
            SectionKind::CAPTURE => self.capture = self.decode(&section),
            SectionKind::PROCESS => self.process = self.decode(&section),
            SectionKind::THREADS => self.threads = self.decode(&section).unwrap_or_default(),
            SectionKind::MODULES => self.modules = self.decode(&section).unwrap_or_default(),
            SectionKind::RUNTIME => self.runtime = self.decode(&section),
            SectionKind::SOURCE => self.source = self.decode(&section).unwrap_or_default(),
            SectionKind::NATIVE => {
                let added = self.native.add(section.version, section.payload);
                added.unwrap_or_else(|error| self.note_undecoded(&error));
            }
            SectionKind::PYTHON => self.python = self.decode(&section),
            SectionKind::VARIABLES => self.variables = self.decode(&section),
            SectionKind::WAITS => self.waits = self.decode(&section).unwrap_or_default(),
            SectionKind::VERDICTS => self.verdicts = self.decode(&section),
            _ => {}
        }
    }

    fn decode<P: Payload>(&mut self, section: &RawSection) -> Option<P> {
        P::decode(section.version, &section.payload).map_err(|error| self.note_undecoded(&error)).ok()
    }

    /// Finds the system call of each thread, in the memory that the capture recorded for this. The memory that was asked for.
    fn add_calls(&mut self, snapshot: &Snapshot) -> Vec<RawSection> {
        let Some(arch) = self.capture.as_ref().map(|capture| capture.arch) else { return Vec::new() };
        // Memory that does not decode is a matter of the stages that found frames in it, and said so.
        let (memory, _) = Image::of_snapshot(snapshot);
        let memory = Recorder::new(&memory);
        let waits = self.waits.threads.iter().map(|wait| (wait.tid, wait));
        let waits: BTreeMap<Tid, &ThreadWait> = waits.collect();
        let threads = self.threads.threads.iter();
        let call = |thread: &Thread| {
            let wait = waits.get(&thread.tid).copied();
            Some((thread.tid, Call::of(thread, wait, arch, &memory)?))
        };
        self.calls = threads.filter_map(call).collect();
        let mut used = Vec::new();
        // A few bytes for each thread, which fit any section.
        let _ = memory.into_sections(&mut |section| used.push(section));
        used
    }

    /// Adds a diagnostic of this report.
    fn note(&mut self, item: wire::Diagnostic) {
        self.diagnostics.push(Diagnostic::new(Stage::FMT, item));
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
