//! The snapshots of a stream, whatever the stream is: what is none becomes one that says why.

use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity, Stage};
use pyst_snapshot::{Gather, Parts, RawSection, StreamError};
use std::io::Read;

/// The snapshots of a stream. What is no snapshot, or a stream without any, becomes one that holds a diagnostic saying so.
pub fn snapshots<G: Gather>(input: impl Read) -> impl Iterator<Item = G::Whole> {
    let mut parts = Parts::new(input);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match parts.next_snapshot::<G>() {
            Some(Ok(snapshot)) => Some(snapshot),
            Some(Err(error)) => Some(only::<G>(of_stream_error(&error))),
            None => {
                ended = true;
                parts.was_empty().then(|| only::<G>(empty_input()))
            }
        }
    })
}

/// A snapshot that holds nothing but the reason why.
fn only<G: Gather>(reason: Diagnostic) -> G::Whole {
    let mut gathered = G::default();
    // A single diagnostic fits any section.
    if let Ok(section) = RawSection::of(&Diagnostics { stage: Stage::STREAM, items: vec![reason] }) {
        gathered.add(section);
    }
    gathered.end()
}

pub(crate) fn empty_input() -> Diagnostic {
    let message = "the input is empty: the tool before this one wrote nothing, or the file is not a snapshot";
    Diagnostic::new(Severity::FAILURE, "empty-input", message)
}

pub(crate) fn of_stream_error(error: &StreamError) -> Diagnostic {
    let code = match error {
        StreamError::Io(_) => "read-failed",
        StreamError::NotASnapshot(_) => "not-a-snapshot",
        StreamError::NewerFormat { .. } => "newer-format",
    };
    Diagnostic::new(Severity::FAILURE, code, error.to_string())
}
