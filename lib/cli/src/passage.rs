//! One snapshot on its way through a stage. Sections are written as they come, some at once, so that the next tool has them while
//! this one works, and only those are kept that the work needs.
//!
//! `pyst-grab` ends a snapshot with its diagnostics. When they come, all that the work needs is there, and work that is to be done
//! early begins, while the tool before this one may still be at its own. Other writers may order sections otherwise: so what came
//! of such work is held back until the snapshot ends, and made anew if more has come that it depends on. It is as if all were done
//! at the end.

use crate::output::OutputArgs;
use crate::snapshots::of_stream_error;
use crate::speech::diagnostics_in;
use crate::task::{Adding, Begins, Task};
use anyhow::Context;
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity, Stage};
use pyst_snapshot::{Part, Parts, Payload, RawSection, SectionKind, Snapshot, SnapshotWriter, WireError};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

/// What every stage keeps: messages name the process, and whether defects leave anything of use goes by the threads.
const ALWAYS: [SectionKind; 3] = [SectionKind::CAPTURE, SectionKind::PROCESS, SectionKind::THREADS];

/// A snapshot of which the beginning has been written.
pub(crate) struct Passage<'a, W> {
    task: &'a Task,
    work: Work<'a>,
    out: SnapshotWriter<W>,
    output: &'a OutputArgs,
    /// The sections that are needed, and the defects.
    kept: Snapshot,
    /// What an earlier run of this stage added. It stays where this one has nothing for its place.
    earlier: Vec<RawSection>,
    diagnostics: Vec<(Stage, Diagnostic)>,
    /// There is nothing to add to.
    has_failed: bool,
    has_begun_early: bool,
    added: Option<Added>,
}

type Work<'a> = &'a mut dyn FnMut(&Snapshot, &mut Adding<'_>);

/// What came of the work.
#[derive(Default)]
struct Added {
    /// The sections that are not written yet.
    sections: Vec<RawSection>,
    /// The kinds of all.
    kinds: BTreeSet<SectionKind>,
    diagnostics: Vec<Diagnostic>,
    notes: Vec<String>,
}

/// What is left of a snapshot that has been written.
pub(crate) struct Passed {
    /// The sections that were needed.
    pub(crate) kept: Snapshot,
    /// All diagnostics that it has now, each with its stage.
    pub(crate) diagnostics: Vec<(Stage, Diagnostic)>,
}

impl<'a, W: Write> Passage<'a, W> {
    /// Begins to write a snapshot.
    ///
    /// # Errors
    /// Writing fails.
    pub(crate) fn begin(
        task: &'a Task,
        out: W,
        output: &'a OutputArgs,
        work: Work<'a>,
    ) -> anyhow::Result<Passage<'a, W>> {
        let out = SnapshotWriter::begin(out).with_context(|| output.cannot_write())?;
        let (kept, earlier, diagnostics) = Default::default();
        let (has_failed, has_begun_early, added) = Default::default();
        Ok(Passage { task, work, out, output, kept, earlier, diagnostics, has_failed, has_begun_early, added })
    }

    /// Takes what there is up to the snapshot's end, and ends it.
    ///
    /// # Errors
    /// Writing fails.
    pub(crate) fn run(mut self, parts: &mut Parts<impl Read>) -> anyhow::Result<Passed> {
        for part in parts {
            match part {
                Ok(Part::Begin) => {}
                Ok(Part::Section(section)) if section.kind == Diagnostics::KIND => self.take_diagnostics(section)?,
                Ok(Part::Section(section)) => self.take(section)?,
                Ok(Part::Defect(defect)) => self.kept.defects.push(defect),
                Ok(Part::End) => break,
                // What has been written cannot be taken back.
                Err(error) => return self.fail(of_stream_error(&error)),
            }
        }
        self.end(None)
    }

    /// Ends it for a reason that leaves nothing to add to.
    ///
    /// # Errors
    /// Writing fails.
    pub(crate) fn fail(self, reason: Diagnostic) -> anyhow::Result<Passed> {
        self.end(Some(reason))
    }

    fn take(&mut self, section: RawSection) -> anyhow::Result<()> {
        let Task { reads, writes, .. } = self.task;
        // Of several the first counts: their order must stay.
        if writes.contains(&section.kind) && !(self.has_failed && self.earlier.is_empty()) {
            self.earlier.push(section);
            return Ok(());
        }
        self.write(&section)?;
        // There will be a defect that says so.
        self.has_failed |= section.is_unknown_critical();
        let is_read = reads.contains(&section.kind);
        if is_read {
            self.added = None;
        }
        if is_read || ALWAYS.contains(&section.kind) {
            self.kept.sections.push(section);
        }
        Ok(())
    }

    fn take_diagnostics(&mut self, section: RawSection) -> anyhow::Result<()> {
        let decoded = Diagnostics::decode(section.version, &section.payload);
        let stage = decoded.as_ref().map(|diagnostics| diagnostics.stage).ok();
        if stage == Some(self.task.stage) {
            // What an earlier run had to say.
            return Ok(());
        }
        self.write(&section)?;
        self.note(diagnostics_in(decoded));
        // Once only: a stream may have as many of them as it likes. And defects may turn out to have left nothing of use.
        let is_time = self.task.begins == Begins::Early && stage == Some(Stage::GRAB);
        if is_time && !self.has_begun_early && !self.has_failed && self.kept.defects.is_empty() {
            self.has_begun_early = true;
            self.added = Some(self.work_ahead()?);
        }
        Ok(())
    }

    fn note(&mut self, diagnostics: Vec<(Stage, Diagnostic)>) {
        self.has_failed |= diagnostics.iter().any(|(_, diagnostic)| diagnostic.severity == Severity::FAILURE);
        self.diagnostics.extend(diagnostics);
    }

    /// Works before the end has come.
    fn work_ahead(&mut self) -> anyhow::Result<Added> {
        // It may take long, and the next tool has its own to do.
        self.out.flush().with_context(|| self.output.cannot_write())?;
        let mut added = Added::default();
        let mut keep = |section: RawSection| {
            added.kinds.insert(section.kind);
            added.sections.push(section);
        };
        let mut adding = Adding::to(&mut keep);
        (self.work)(&self.kept, &mut adding);
        let Adding { diagnostics, notes, .. } = adding;
        Ok(Added { diagnostics, notes, ..added })
    }

    /// Works when nothing more can come.
    fn work(&mut self) -> anyhow::Result<Added> {
        self.out.flush().with_context(|| self.output.cannot_write())?;
        let (mut kinds, mut written) = (BTreeSet::new(), Ok(()));
        let out = &mut self.out;
        let mut write = |section: RawSection| {
            kinds.insert(section.kind);
            if written.is_ok() {
                written = write_through(out, &section);
            }
        };
        let mut adding = Adding::to(&mut write);
        (self.work)(&self.kept, &mut adding);
        let Adding { diagnostics, notes, .. } = adding;
        written.with_context(|| self.output.cannot_write())?;
        Ok(Added { sections: Vec::new(), kinds, diagnostics, notes })
    }

    fn end(mut self, failure: Option<Diagnostic>) -> anyhow::Result<Passed> {
        let mut defects = self.kept.defect_diagnostics();
        defects.extend(failure);
        if let Some(defects) = self.say(Stage::STREAM, defects)? {
            self.write(&defects)?;
        }
        let Added { sections, kinds, diagnostics, notes } = match self.added.take() {
            _ if self.has_failed => Added::default(),
            Some(added) => added,
            None => self.work()?,
        };
        for note in notes {
            eprintln!("{note}");
        }
        let mut earlier = std::mem::take(&mut self.earlier);
        earlier.retain(|earlier| !kinds.contains(&earlier.kind));
        let diagnostics = self.say(self.task.stage, diagnostics)?;
        for section in sections.iter().chain(&earlier).chain(&diagnostics) {
            self.write(section)?;
        }
        let Passage { out, output, kept, diagnostics, .. } = self;
        out.end().with_context(|| output.cannot_write())?;
        Ok(Passed { kept, diagnostics })
    }

    /// Notes diagnostics that are new; the section for them, if there are any.
    fn say(&mut self, stage: Stage, items: Vec<Diagnostic>) -> Result<Option<RawSection>, WireError> {
        if items.is_empty() {
            return Ok(None);
        }
        let diagnostics = Diagnostics { stage, items };
        let section = RawSection::of(&diagnostics)?;
        self.note(diagnostics_in(Ok(diagnostics)));
        Ok(Some(section))
    }

    fn write(&mut self, section: &RawSection) -> anyhow::Result<()> {
        self.out.write(section).with_context(|| self.output.cannot_write())
    }
}

/// Writes a section, and has it reach the next tool.
fn write_through(out: &mut SnapshotWriter<impl Write>, section: &RawSection) -> io::Result<()> {
    out.write(section)?;
    out.flush()
}
