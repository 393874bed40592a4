//! What pyst must show, on every interpreter that this machine has. One file a subject; the harness is the crate itself.
// Test code: a panic is how it reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod aarch64;
mod builds;
mod command_line;
mod company;
mod comparison;
mod containers;
mod cores;
mod debug_files;
mod debug_info;
mod embedded;
mod empty_root;
mod errors;
mod evolution;
mod exceptions;
mod files;
mod golden;
mod init;
mod lifecycle;
mod locks;
mod matrix;
mod merge;
mod native;
mod no_block;
mod oracles;
mod out_of_reach;
mod permissions;
mod random;
mod replay;
mod safety;
mod served_files;
mod sizes;
mod specification;
mod streams;
mod terminal;
mod trees;
mod values;
mod waits;
