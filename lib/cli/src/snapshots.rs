//! The snapshots of a stream, whatever the stream is: what is none becomes one that says why.

use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity, Stage};
use pyst_snapshot::{Snapshot, StreamError, StreamReader};
use std::io::Read;

/// The snapshots of a stream. What is no snapshot, or a stream without any, becomes one that holds a diagnostic saying so.
pub fn snapshots(input: impl Read) -> impl Iterator<Item = Snapshot> {
    let mut reader = StreamReader::new(input);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match reader.next() {
            Some(Ok(snapshot)) => Some(snapshot),
            Some(Err(error)) => Some(only(of_stream_error(&error))),
            None => {
                ended = true;
                reader.was_empty().then(|| only(empty_input()))
            }
        }
    })
}

/// A snapshot that holds nothing but the reason why.
fn only(reason: Diagnostic) -> Snapshot {
    let mut snapshot = Snapshot::default();
    // A single diagnostic fits any section.
    let _ = snapshot.append(&Diagnostics { stage: Stage::STREAM, items: vec![reason] });
    snapshot
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
