//! The command line of `pyst-unwind`.

use clap::Parser;
use pyst_cli::{SearchArgs, SnapshotOutputArgs, StageInput};

/// Adds native frames to a snapshot
///
/// Reads snapshots, unwinds every thread by its call-frame information, names the functions, and writes the snapshots with
/// the native frames added. It commutes with pyst-py.
///
/// Everything it needs travels in the snapshot. What a snapshot lacks is looked up in the files of this machine where their
/// build-ids match, unless --snapshot-only forbids it.
#[derive(Parser, Clone, Debug)]
#[command(name = "pyst-unwind", version, long_version = pyst_cli::long_version!())]
#[command(after_help = "Exit status: 0 complete, 1 failed, 2 usage, 3 partial.")]
pub struct Args {
    /// Where the snapshots come from.
    #[command(flatten)]
    pub input: StageInput,

    /// Use nothing but what the snapshot holds
    #[arg(long)]
    pub snapshot_only: bool,

    /// Where else files are.
    #[command(flatten)]
    pub search: SearchArgs,

    /// Where the snapshots go.
    #[command(flatten)]
    pub output: SnapshotOutputArgs,

    /// Say how each stack was found and why it ends
    #[arg(short, long)]
    pub verbose: bool,
}
