//! Command lines that make no sense for a reason the argument parser cannot see.

/// A usage error: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
