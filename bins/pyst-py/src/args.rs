//! The command line of `pyst-py`.

use clap::Parser;
use pyst_cli::{SnapshotOutputArgs, StageInput};

/// Adds Python frames to a snapshot
///
/// Reads snapshots, walks the interpreters, thread states and frames in each, and writes the snapshots with the Python
/// frames added. It needs nothing but the snapshot, and commutes with pyst-unwind.
#[derive(Parser, Clone, Debug)]
#[command(name = "pyst-py", version, long_version = pyst_cli::long_version!())]
#[command(after_help = "Exit status: 0 complete, 1 failed, 2 usage, 3 partial.")]
pub struct Args {
    /// Where the snapshots come from.
    #[command(flatten)]
    pub input: StageInput,

    /// Where the snapshots go.
    #[command(flatten)]
    pub output: SnapshotOutputArgs,

    /// Say how the runtime was found and which layout was used
    #[arg(short, long)]
    pub verbose: bool,
}
