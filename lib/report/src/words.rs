//! How values of the snapshot are written in a report: words for codes, `0x` for addresses, strings for large numbers.

use crate::merge::PlacedBy;
use pyst_snapshot::payload::{
    AnchorKind, Arch, Attachment, Blocking, CaptureSource, FoundBy, FrameChainEnd, GilState, LayoutSource,
    RuntimeFoundBy, Severity, SocketProtocol, SocketState, StackEnd, Stage, ThreadReading, ValueAbsence, VariableKind,
    VersionFoundBy,
};
use pyst_snapshot::{Address, Ident};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;

/// An open enum of the snapshot.
pub trait Code: Copy + 'static {
    /// Its word, `code-N` for one that this version does not know.
    fn word(self) -> Cow<'static, str>;
    /// The words this version knows.
    fn words() -> Vec<&'static str>;
}

macro_rules! codes {
    ($($code:ty),*) => {$(
        impl Code for $code {
            fn word(self) -> Cow<'static, str> {
                self.name()
            }

            fn words() -> Vec<&'static str> {
                <$code>::KNOWN.iter().map(|(_, word)| *word).collect()
            }
        }
    )*};
}

codes!(
    Arch,
    Attachment,
    Blocking,
    CaptureSource,
    FoundBy,
    FrameChainEnd,
    GilState,
    LayoutSource,
    RuntimeFoundBy,
    Severity,
    SocketProtocol,
    SocketState,
    StackEnd,
    Stage,
    ThreadReading,
    ValueAbsence,
    VariableKind,
    VersionFoundBy
);

impl Code for PlacedBy {
    fn word(self) -> Cow<'static, str> {
        match self {
            PlacedBy::Anchor(kind) => kind.name(),
            PlacedBy::Register => Cow::Borrowed("register"),
            PlacedBy::Order => Cow::Borrowed("order"),
            PlacedBy::Unplaced => Cow::Borrowed("unplaced"),
        }
    }

    fn words() -> Vec<&'static str> {
        AnchorKind::KNOWN.iter().map(|(_, word)| *word).chain(["register", "order", "unplaced"]).collect()
    }
}

/// A code, written as its word. The schema lists the known words without forbidding others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<C>(pub C);

impl<C: Code> Serialize for Word<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.word())
    }
}

impl<C: Code> JsonSchema for Word<C> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Word")
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": C::words() })
    }
}

/// An address, written `0x` and hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub Address);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Hex {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Hex")
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x[0-9a-f]+$" })
    }
}

/// A number that may pass 2^53, which many JSON readers round: written as a string of decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub u64);

impl From<Ident> for Decimal {
    fn from(ident: Ident) -> Decimal {
        Decimal(ident.0)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Decimal")
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+$" })
    }
}
