//! Exit statuses, the same for all four tools.

use pyst_snapshot::payload::{Diagnostic, Severity};
use std::process::ExitCode;

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: all that was asked for is there.
    Complete,
    /// 3: something that was asked for was lost. Not so: debug information that never existed, or a stated cap.
    Partial,
    /// 1: nothing usable.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Complete => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
        })
    }
}

/// Adds up the snapshots of a stream: it failed only if every one did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    usable: usize,
    failed: usize,
    lossy: usize,
}

impl Outcome {
    /// Counts a snapshot by its diagnostics.
    pub fn add<'a>(&mut self, diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
        let severities: Vec<_> = diagnostics.into_iter().map(|diagnostic| diagnostic.severity).collect();
        let has = |severity| severities.contains(&severity);
        if has(Severity::FAILURE) {
            self.failed += 1;
        } else {
            self.usable += 1;
            self.lossy += usize::from(has(Severity::LOSS));
        }
    }

    /// The exit status for all that was added; nothing at all is a failure.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Outcome { usable: 0, .. } => Exit::Failed,
            Outcome { failed: 0, lossy: 0, .. } => Exit::Complete,
            _ => Exit::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(snapshots: &[&[Severity]]) -> Exit {
        let mut outcome = Outcome::default();
        for severities in snapshots {
            let diagnostics: Vec<_> = severities.iter().map(|severity| Diagnostic::new(*severity, "x", "x")).collect();
            outcome.add(diagnostics.iter());
        }
        outcome.exit()
    }

    #[test]
    fn one_lost_thing_makes_it_partial_and_only_failures_make_it_failed() {
        assert_eq!(exit_of(&[&[]]), Exit::Complete);
        assert_eq!(exit_of(&[&[Severity::INFO, Severity::WARNING, Severity(99)]]), Exit::Complete);
        assert_eq!(exit_of(&[&[Severity::LOSS], &[]]), Exit::Partial);
        assert_eq!(exit_of(&[&[Severity::FAILURE], &[]]), Exit::Partial);
        assert_eq!(exit_of(&[&[Severity::FAILURE, Severity::LOSS]]), Exit::Failed);
        assert_eq!(exit_of(&[]), Exit::Failed);
    }
}
