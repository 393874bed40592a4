//! Files that are not where they were: found by `--lib-search-path`, `--lib-search-root` and the executable that is given, believed
//! only if they are the very files that were mapped, and named together with what was mapped if they are not.

use crate::builds::{Private, library_of, plain, without_build_id};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Interpreter, Pipeline, Report, Scenario, Target, gcore, grab, has_program, run};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = "reduce.py";

/// What is said of a target whose files are elsewhere.
fn report(arguments: &[OsString]) -> Result<(Report, String)> {
    let snapshot = grab(arguments)?;
    ensure!(matches!(snapshot.status, Some(0 | 3)), "exit status {:?}: {}", snapshot.status, snapshot.stderr);
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&snapshot.stdout)?;
    let last = outputs.last().context("no output")?;
    Ok((Report::parse(&last.stdout)?, last.stderr.clone()))
}

fn arguments(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

/// Interpreters with a runtime in a library of its own, and one that has it in the executable.
fn some() -> impl Iterator<Item = &'static Interpreter> {
    plain().filter(|one| library_of(one).is_none() || matches!(one.version, (2, 7) | (3, 8 | 12)))
}

#[test]
fn files_of_a_core_are_found_elsewhere_and_others_are_refused() {
    let scenario = Scenario::new("files of a core");
    if !has_program("gcore") {
        return scenario.skip("all", "gdb is not installed");
    }
    for interpreter in some() {
        scenario.on(&interpreter.name, || of_core(interpreter, |_| {}, "its build-id is "));
        scenario.on(&format!("{}, no build-id", interpreter.name), || {
            of_core(interpreter, without_build_id, "there is no build-id to go by, and their contents differ")
        });
    }
    scenario.finish();
}

fn of_core(interpreter: &Interpreter, edit: fn(&mut [u8]), difference: &str) -> Result<()> {
    let private = Private::of(interpreter, edit)?;
    let target = Target::start(&private.interpreter, SCRIPT, &[])?;
    let core = gcore(&target)?;
    let (before, _) = report(&arguments(&[&core]))?;
    before.agrees_with(target.account())?;
    ensure!(before.codes().is_empty(), "diagnostics: {}", before.json["diagnostics"]);

    let elsewhere = tempfile::tempdir()?;
    let name = private.file.file_name().context("no name")?;
    let (folder, tree) = (elsewhere.path().join("folder"), elsewhere.path().join("tree"));
    let deep = tree.join(private.file.parent().and_then(|one| one.strip_prefix("/").ok()).context("no folder")?);
    fs::create_dir(&folder)?;
    fs::create_dir_all(&deep)?;
    fs::rename(&private.file, folder.join(name))?;

    // Without the file there are Python frames still, and it is said what is missing.
    let (without, said) = report(&arguments(&[&core]))?;
    without.frames_agree_with(target.account()).context("without the file")?;
    ensure!(without.codes().contains(&"file-missing".to_owned()), "diagnostics: {}", without.json["diagnostics"]);
    ensure!(said.contains(&private.file.display().to_string()), "the file is not named: {said}");

    let list = format!("/nowhere:{}", folder.display());
    same(&before, &arguments(&[&core, &"--lib-search-path", &list])).context("by --lib-search-path")?;
    if library_of(interpreter).is_none() {
        same(&before, &arguments(&[&core, &folder.join(name)])).context("given")?;
    }
    fs::rename(folder.join(name), deep.join(name))?;
    same(&before, &arguments(&[&core, &"--lib-search-root", &tree])).context("by --lib-search-root")?;
    if !difference.contains("no build-id") {
        // Under another name, the build-id leads there.
        fs::rename(deep.join(name), tree.join("renamed"))?;
        same(&before, &arguments(&[&core, &"--lib-search-root", &tree])).context("by build-id")?;
        fs::rename(tree.join("renamed"), deep.join(name))?;
    }

    // Another file of the name; one with the same headers, too, if there is no build-id.
    let wrong = fs::read("/bin/true")?;
    if !difference.contains("no build-id") {
        return is_refused(&private, &target, &core, &folder.join(name), &wrong, difference);
    }
    is_refused(&private, &target, &core, &folder.join(name), &wrong, "it is loaded to 0x")?;
    let mut wrong = fs::read(deep.join(name))?;
    let code = wrong.len() / 3;
    wrong.iter_mut().skip(4096).take(code).for_each(|byte| *byte ^= 0x55);
    is_refused(&private, &target, &core, &folder.join(name), &wrong, difference)
}

/// A core of `target` is not analysed with `wrong`, and who reads the report learns of both files and how they differ.
fn is_refused(
    private: &Private,
    target: &Target,
    core: &Path,
    place: &Path,
    wrong: &[u8],
    difference: &str,
) -> Result<()> {
    fs::write(place, wrong)?;
    let folder = place.parent().context("no folder")?;
    let (refused, said) = report(&arguments(&[&core, &"--lib-search-path", &folder]))?;
    refused.frames_agree_with(target.account()).context("with another file")?;
    ensure!(refused.codes().contains(&"file-mismatch".to_owned()), "diagnostics: {}", refused.json["diagnostics"]);
    let both = [place, &private.file].map(|path| said.contains(&path.display().to_string()));
    ensure!(both == [true, true] && said.contains(difference), "not both are named, or not `{difference}`: {said}");
    Ok(())
}

/// The frames are those there were.
fn same(before: &Report, arguments: &[OsString]) -> Result<()> {
    let (found, said) = report(arguments)?;
    ensure!(frames(&found) == frames(before), "other frames: {said}");
    ensure!(found.codes().is_empty(), "diagnostics: {}", found.json["diagnostics"]);
    Ok(())
}

/// A deleted file is still in memory, as far as it is mapped; symbols of functions that it does not export are not. Without the right to
/// open what is mapped (`CAP_SYS_ADMIN`, `CAP_CHECKPOINT_RESTORE`), another copy has them.
#[test]
fn a_deleted_file_of_a_living_process_is_found_elsewhere() {
    let scenario = Scenario::new("deleted file of a living process");
    if !has_program("setpriv") || !pyst_tests::is_root() {
        return scenario.skip("all", "no setpriv, or not root");
    }
    for interpreter in some().filter(|one| !one.stripped && one.version >= (3, 0)) {
        scenario.on(&interpreter.name, || {
            let private = Private::of(interpreter, |_| {})?;
            let target = Target::start(&private.interpreter, SCRIPT, &[])?;
            let elsewhere = tempfile::tempdir()?;
            let copy = elsewhere.path().join(private.file.file_name().context("no name")?);
            let before = without_map_files(&target, &[])?;
            fs::copy(&private.file, &copy)?;
            fs::remove_file(&private.file)?;
            ensure!(functions(&before)?.contains(&"functools_reduce".to_owned()), "{:?}", functions(&before)?);
            let without = without_map_files(&target, &[])?;
            without.agrees_with(target.account())?;
            ensure!(!functions(&without)?.contains(&"functools_reduce".to_owned()), "it is no private function");
            let found = without_map_files(&target, &["--lib-search-path".into(), elsewhere.path().into()])?;
            ensure!(frames(&found) == frames(&before), "other frames: {:?}", functions(&found)?);

            fs::copy("/bin/true", &copy)?;
            let refused = without_map_files(&target, &["--lib-search-path".into(), elsewhere.path().into()])?;
            refused.agrees_with(target.account())?;
            ensure!(refused.codes().contains(&"file-mismatch".to_owned()), "{}", refused.json["diagnostics"]);
            Ok(())
        });
    }
    scenario.finish();
}

/// The frames of all threads: what two looks at a sleeper have in common.
fn frames(report: &Report) -> Vec<Vec<serde_json::Value>> {
    report.threads().iter().map(|thread| thread.frames()).collect()
}

fn functions(report: &Report) -> Result<Vec<String>> {
    let threads = report.threads();
    let frames = threads.first().context("no thread")?.native_frames();
    Ok(frames.iter().map(|frame| frame["function"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The report of a capture by one that may trace, and no more.
fn without_map_files(target: &Target, options: &[PathBuf]) -> Result<Report> {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--bounding-set=-sys_admin,-checkpoint_restore", "--inh-caps=-all"]);
    setpriv.arg(pyst_tests::Tool::Grab.path()).arg("--stop-limit=10000").args(options).arg(target.pid().to_string());
    let snapshot = run(&mut setpriv)?;
    ensure!(snapshot.status == Some(0), "exit status {:?}: {}", snapshot.status, snapshot.stderr);
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&snapshot.stdout)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

/// A path that is not used at all is of no effect, and no error.
#[test]
fn folders_that_are_not_there_are_no_error() {
    let scenario = Scenario::new("search in folders that are not there");
    for interpreter in some().take(1) {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, SCRIPT, &[])?;
            let pid = target.pid().to_string();
            let nowhere = Path::new("/no/such/folder");
            let options = arguments(&[&pid, &"--lib-search-path", &nowhere, &"--lib-search-root", &nowhere]);
            let (found, _) = report(&options)?;
            found.agrees_with(target.account())?;
            ensure!(found.codes().is_empty(), "diagnostics: {}", found.json["diagnostics"]);
            Ok(())
        });
    }
    scenario.finish();
}
