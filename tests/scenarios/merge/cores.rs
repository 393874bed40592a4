//! The same stacks from a core: of the kernel, which ends the target, where it writes some, else of gdb.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Interpreter, Pipeline, Report, Target, gcore_and_whether_whole, grab, has_program, kernel_core,
    kernel_cores_are_files,
};
use std::path::PathBuf;

/// Holds the merged stacks of a core against those of the living target. To be called last.
pub(super) fn have_the_same_stacks(interpreter: &Interpreter, target: &mut Target, live: &Report) -> Result<()> {
    let Some(core) = core_of(target)? else { return Ok(()) };
    let mut search = Vec::new();
    if let Some(root) = &interpreter.root {
        // The kernel notes paths as the target sees them.
        search = vec!["--lib-search-root".to_owned(), root.to_string_lossy().into_owned()];
    }
    let mut arguments = vec![core, interpreter.host_exe()];
    arguments.extend(search.iter().map(PathBuf::from));
    let mut pipeline = Pipeline::with_local_files(&["--format", "json", "--all-threads"]);
    pipeline.stages[0].1 = search;
    let outputs = pipeline.run(&grab(&arguments)?.snapshot()?)?;
    let report = Report::parse(&outputs.last().context("no output")?.stdout)?;
    ensure!(report.json["snapshot"]["source"] == "core", "not from a core");
    report.has_frames_of(live, interpreter).context("from a core")?;
    ensure!(report.codes() == live.codes(), "from a core, diagnostics: {}", report.json["diagnostics"]);
    Ok(())
}

fn core_of(target: &mut Target) -> Result<Option<PathBuf>> {
    if kernel_cores_are_files().is_ok() {
        return kernel_core(target, Signal::SIGABRT).map(Some);
    }
    if !has_program("gcore") {
        return Ok(None);
    }
    let (core, is_whole) = gcore_and_whether_whole(target)?;
    Ok(is_whole.then_some(core))
}
