//! `diagnostics`: what a stage could not do, or did in a way the reader must know. May occur any number of times.

use super::first_version;
use crate::address::Tid;
use crate::code::open_enum;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Diagnostics = DiagnosticsV1;
/// The newest version of one diagnostic.
pub type Diagnostic = DiagnosticV1;

open_enum!(
    /// The tool that speaks. Reports sort by it.
    Stage {
        /// `pyst-grab`.
        GRAB = 1, "grab";
        /// `pyst-unwind`.
        UNWIND = 2, "unwind";
        /// `pyst-py`.
        PY = 3, "py";
        /// `pyst-fmt`.
        FMT = 4, "fmt";
        /// Whoever read the stream: what is wrong with its bytes. Unlike a stage's, these stay when a stage runs again.
        STREAM = 5, "stream";
    }
);

open_enum!(
    /// How much a diagnostic matters. Exit statuses follow from it.
    Severity {
        /// Good to know; nothing that was asked for is missing. Exit status 0.
        INFO = 1, "info";
        /// Something may not be what it seems. Exit status 0.
        WARNING = 2, "warning";
        /// Something that was asked for was lost. Exit status 3.
        LOSS = 3, "loss";
        /// Nothing usable came of it. Exit status 1.
        FAILURE = 4, "failure";
    }
);

/// The `diagnostics` payload, version 1: those of one run of one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticsV1 {
    /// The stage.
    pub stage: Stage,
    /// What it has to say.
    pub items: Vec<DiagnosticV1>,
}

/// One diagnostic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticV1 {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word for programs: `stack-truncated`. Open: readers must accept words they do not know.
    pub code: String,
    /// The thread it is about.
    pub tid: Option<Tid>,
    /// One sentence for people: what happened, to what, and what to do next.
    pub message: String,
}

impl DiagnosticV1 {
    /// A diagnostic about the whole snapshot.
    pub fn new(severity: Severity, code: &str, message: impl Into<String>) -> DiagnosticV1 {
        DiagnosticV1 { severity, code: code.to_owned(), tid: None, message: message.into() }
    }

    /// The same about one thread.
    #[must_use]
    pub fn on(self, tid: Tid) -> DiagnosticV1 {
        DiagnosticV1 { tid: Some(tid), ..self }
    }
}

first_version!(DiagnosticsV1, DIAGNOSTICS);
