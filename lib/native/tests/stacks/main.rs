#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
//! Stacks made by hand, for every way there is to find a caller and every reason for a stack to end.

mod callers;
mod ends;
mod hostile;
mod world;
