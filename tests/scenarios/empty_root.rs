//! A root folder that holds the tools, the libraries that these load, and nothing else: no Python, no source, no /proc.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Tool, copy_program, is_root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub(crate) struct EmptyRoot {
    folder: TempDir,
}

impl EmptyRoot {
    /// Makes one, if this machine lets us enter it.
    pub(crate) fn new() -> Result<EmptyRoot> {
        ensure!(is_root(), "chroot needs root");
        let folder = tempfile::Builder::new().prefix("pyst-root-").tempdir()?;
        for tool in Tool::ALL {
            place(folder.path(), &tool.path(), &Path::new("/bin").join(tool.name()))?;
            for library in libraries(&tool.path())? {
                place(folder.path(), &library, &library)?;
            }
        }
        Ok(EmptyRoot { folder })
    }

    /// A command that runs a tool in there.
    pub(crate) fn command(&self, tool: Tool) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg(self.folder.path()).arg(Path::new("/bin").join(tool.name())).env_clear();
        command
    }

    /// `pyst-unwind --snapshot-only | pyst-py | pyst-fmt`, all in there.
    pub(crate) fn pipeline(&self, arguments: &[&str]) -> Pipeline {
        Pipeline { root: Some(self.folder.path().to_owned()), ..Pipeline::from_snapshot_only(arguments) }
    }
}

/// The libraries that an executable loads, the dynamic loader among them.
fn libraries(executable: &Path) -> Result<Vec<PathBuf>> {
    let listed = run(Command::new("ldd").arg(executable))?.expect_status(0)?.text();
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn place(root: &Path, file: &Path, inside: &Path) -> Result<()> {
    let to = root.join(inside.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("no folder")?)?;
    copy_program(file, &to).with_context(|| format!("copying {}", file.display()))?;
    Ok(())
}
