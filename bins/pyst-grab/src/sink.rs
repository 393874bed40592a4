//! Where snapshots go, one after the other, each as soon as it is taken; and what is said of them.

use crate::args::Args;
use crate::describe::{Described, describe};
use anyhow::Context;
use pyst_cli::{Exit, Outcome, Output, Progress, diagnostics_of, process_of_several, say, speaks_here};
use pyst_snapshot::{RawSection, SnapshotWriter};
use std::io;

/// The stream that is being written.
pub(crate) struct Sink<'a> {
    args: &'a Args,
    progress: &'a Progress,
    out: Output,
    outcome: Outcome,
    count: u64,
}

impl<'a> Sink<'a> {
    /// Opens the output.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn open(args: &'a Args, progress: &'a Progress) -> anyhow::Result<Sink<'a>> {
        Ok(Sink { args, progress, out: args.output.to.open()?, outcome: Outcome::default(), count: 0 })
    }

    /// Writes the sections of a snapshot, each as soon as it comes, and says what is wrong with it if nobody after this tool will.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn put(&mut self, sections: impl IntoIterator<Item = RawSection>) -> anyhow::Result<()> {
        let Sink { args, progress, out, outcome, count } = self;
        let speaks = speaks_here(args.output.to.path());
        if !speaks {
            progress.end();
        }
        let described = write(sections, out).with_context(|| args.output.to.cannot_write())?;
        let Described { told, .. } = &described;
        *count += 1;
        let diagnostics = diagnostics_of(told);
        outcome.add(diagnostics.iter().map(|(_, diagnostic)| diagnostic));
        if args.verbose || !diagnostics.is_empty() {
            progress.pause();
        }
        if args.verbose {
            describe(&described);
        }
        if args.verbose || speaks {
            say(&diagnostics, process_of_several(told), args.verbose);
        }
        Ok(())
    }

    /// How many snapshots were written.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Ends the stream. A file is for snapshots to keep: where there is none that is of use, an earlier one is left alone.
    ///
    /// # Errors
    /// The last of it cannot be written.
    pub(crate) fn finish(self) -> anyhow::Result<Exit> {
        let exit = self.outcome.exit();
        if exit == Exit::Failed {
            self.out.abandon()?
        } else {
            self.out.finish()?
        }
        Ok(exit)
    }
}

/// Writes a snapshot. What is left of it is what there is to say of it.
fn write(sections: impl IntoIterator<Item = RawSection>, out: &mut Output) -> io::Result<Described> {
    let mut described = Described::default();
    let mut writer = SnapshotWriter::begin(out)?;
    let mut sections = sections.into_iter();
    for section in &mut sections {
        writer.write(&section)?;
        // The next tool has work to do.
        writer.flush()?;
        described.note(section);
    }
    writer.end()?;
    // Which may take a while.
    drop(sections);
    Ok(described)
}
