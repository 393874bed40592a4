//! Reports of synthetic snapshots, through every output format.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod build;
mod hostile;
mod json;
mod sections;
mod text;
mod waits;
