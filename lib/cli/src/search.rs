//! Where else the files of a target are looked for.

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options of every tool that opens files of a target.
#[derive(Args, Clone, Debug, Default)]
pub struct SearchArgs {
    /// Look for the target's files in these folders too, separated by colons
    ///
    /// A file is used only if its build-id is that of the file that was mapped, or, where there is none, its contents.
    #[arg(long, value_name = "A:B")]
    pub lib_search_path: Option<OsString>,

    /// Look for the target's files anywhere below DIR, by their build-ids
    #[arg(long, value_name = "DIR")]
    pub lib_search_root: Vec<PathBuf>,

    /// Look for debug files in DIR too, which is laid out like /usr/lib/debug
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
}
