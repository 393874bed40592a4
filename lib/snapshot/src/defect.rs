//! What can be wrong with the bytes of a snapshot.

use crate::format::SectionKind;
use crate::payload::{Diagnostic, Severity};

/// Something wrong with the bytes of a snapshot, the rest of which can still be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The stream ended before END.
    #[error(
        "the snapshot is cut off after {sections} sections and {bytes} bytes: what follows was lost, take or copy it again"
    )]
    CutOff {
        /// Whole sections read.
        sections: usize,
        /// Bytes read of this snapshot.
        bytes: u64,
    },
    /// A payload's CRC-32 is wrong; the section was dropped.
    #[error("the {} section is damaged (CRC-32 mismatch) and was dropped: copy the snapshot again", .kind.name())]
    Damaged {
        /// The section's kind.
        kind: SectionKind,
    },
    /// A section header is damaged, or states a size beyond all bounds: nothing after it can be read.
    #[error("the snapshot is damaged after {bytes} bytes: what follows was lost, copy it again")]
    Unreadable {
        /// Bytes read of this snapshot.
        bytes: u64,
    },
    /// A section that one must know to understand the snapshot is unknown here.
    #[error("the snapshot needs section {} (version {version}), which this tool does not know: use {tool} or newer", .kind.name())]
    UnknownCritical {
        /// The section's kind.
        kind: SectionKind,
        /// Its payload version.
        version: u16,
        /// The tool that wrote the snapshot, with its version.
        tool: String,
    },
}

impl Defect {
    /// Whether nothing of the snapshot may be shown.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Defect::UnknownCritical { .. })
    }

    /// What to say of it, where the rest of the snapshot is `usable`.
    #[must_use]
    pub fn diagnostic(&self, usable: bool) -> Diagnostic {
        let code = match self {
            Defect::CutOff { .. } => "cut-off",
            Defect::Damaged { .. } | Defect::Unreadable { .. } => "damaged",
            Defect::UnknownCritical { .. } => "unknown-critical-section",
        };
        let severity = if usable && !self.is_fatal() { Severity::LOSS } else { Severity::FAILURE };
        Diagnostic::new(severity, code, self.to_string())
    }
}
