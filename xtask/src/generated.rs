//! The files that are generated, with their content.

use crate::specification;
use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use std::path::{Path, PathBuf};

/// Every generated file: its path in the project, and its content.
pub(crate) fn files(root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = vec![
        (PathBuf::from("schemas/report.schema.json"), pyst_report::schema::generate().into_bytes()),
        (PathBuf::from("schemas/snapshot.md"), specification::generate(root)?.into_bytes()),
    ];
    for command in commands() {
        let name = command.get_name().to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).manual("User commands").source("pyst").date("").render(&mut page)?;
        files.push((format!("man/{name}.1").into(), page));
        for (shell, file) in [
            (Shell::Bash, format!("man/completions/{name}.bash")),
            (Shell::Zsh, format!("man/completions/_{name}")),
            (Shell::Fish, format!("man/completions/{name}.fish")),
        ] {
            let mut script = Vec::new();
            generate(shell, &mut command.clone(), &name, &mut script);
            files.push((file.into(), script));
        }
    }
    Ok(files)
}

/// The tools' commands, from the definitions that the tools themselves parse with.
fn commands() -> [Command; 4] {
    [pyst_grab::Args::command(), pyst_unwind::Args::command(), pyst_py::Args::command(), pyst_fmt::Args::command()]
}
