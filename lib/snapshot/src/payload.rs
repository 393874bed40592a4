//! What the sections hold: one file a section, one frozen struct a payload version.
//!
//! The name without a version (`Capture`) is an alias of the newest struct, which is what tools work with. **To change a
//! payload**: leave `CaptureV1` as it is, add `CaptureV2` with `From<CaptureV1>`, point the alias at it, raise
//! [`Payload::VERSION`], decode both, and add a golden snapshot. On the wire there is no `flatten`, `untagged`,
//! `skip_serializing_if` or `char`, and every enum is an open one of `u16` codes.

mod calls;
mod capture;
mod diagnostics;
mod maps;
mod memory;
mod modules;
mod native;
mod packed;
mod process;
mod python;
mod runtime;
mod source;
mod symbols;
mod threads;
mod unwind;
mod variables;
mod verdicts;
mod waits;

pub use calls::*;
pub use capture::*;
pub use diagnostics::*;
pub use maps::*;
pub use memory::*;
pub use modules::*;
pub use native::*;
pub use packed::*;
pub use process::*;
pub use python::*;
pub use runtime::*;
pub use source::*;
pub use symbols::*;
pub use threads::*;
pub use unwind::*;
pub use variables::*;
pub use verdicts::*;
pub use waits::*;

use crate::format::SectionKind;
use crate::wire::WireError;

/// A payload this version reads and writes.
pub trait Payload: Sized {
    /// The kind of section it is in.
    const KIND: SectionKind;
    /// The payload version written; all versions up to it are read.
    const VERSION: u16;

    /// Its bytes.
    ///
    /// # Errors
    /// It is too large for a section.
    fn encode(&self) -> Result<Vec<u8>, WireError>;

    /// Decodes the payload of a section of payload version `version`.
    ///
    /// # Errors
    /// The version is unknown, or the bytes do not decode as its struct.
    fn decode(version: u16, bytes: &[u8]) -> Result<Self, PayloadError>;
}

/// Why a section's payload is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The payload is of a later version.
    #[error("the {} section has payload version {found}, this tool reads up to {newest}: use a newer pyst", .kind.name())]
    NewerVersion {
        /// The kind of section.
        kind: SectionKind,
        /// The version found.
        found: u16,
        /// The newest this tool reads.
        newest: u16,
    },
    /// The payload does not decode.
    #[error("the {} section: {source}", .kind.name())]
    Malformed {
        /// The kind of section.
        kind: SectionKind,
        /// What is wrong.
        source: WireError,
    },
}

/// Implements [`Payload`] for a struct that has had one version so far.
macro_rules! first_version {
    ($payload:ty, $kind:ident) => {
        impl crate::payload::Payload for $payload {
            const KIND: crate::format::SectionKind = crate::format::SectionKind::$kind;
            const VERSION: u16 = 1;

            fn encode(&self) -> Result<Vec<u8>, crate::wire::WireError> {
                crate::wire::encode(self)
            }

            fn decode(version: u16, bytes: &[u8]) -> Result<Self, crate::payload::PayloadError> {
                match version {
                    1 => crate::payload::decode_as::<Self, Self>(bytes),
                    found => Err(crate::payload::newer_version::<Self>(found)),
                }
            }
        }
    };
}

/// The same for the second version of a struct, which is made from the first.
macro_rules! second_version {
    ($first:ty, $payload:ty, $kind:ident) => {
        impl crate::payload::Payload for $payload {
            const KIND: crate::format::SectionKind = crate::format::SectionKind::$kind;
            const VERSION: u16 = 2;

            fn encode(&self) -> Result<Vec<u8>, crate::wire::WireError> {
                crate::wire::encode(self)
            }

            fn decode(version: u16, bytes: &[u8]) -> Result<Self, crate::payload::PayloadError> {
                match version {
                    1 => crate::payload::decode_as::<Self, $first>(bytes).map(Self::from),
                    2 => crate::payload::decode_as::<Self, Self>(bytes),
                    found => Err(crate::payload::newer_version::<Self>(found)),
                }
            }
        }
    };
}

use first_version;
use second_version;

/// Decodes the struct of one version of a payload.
fn decode_as<P: Payload, V: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<V, PayloadError> {
    crate::wire::decode(bytes).map_err(|source| PayloadError::Malformed { kind: P::KIND, source })
}

fn newer_version<P: Payload>(found: u16) -> PayloadError {
    PayloadError::NewerVersion { kind: P::KIND, found, newest: P::VERSION }
}
