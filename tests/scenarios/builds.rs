//! However an interpreter was built and whatever became of its files: without section headers, without a build-id, deleted or
//! replaced since it started, in the company of other files that look like Python, under another name.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Interpreter, Report, Scenario, Target, analyse, copy_program, gcore, grab, has_program, interpreters, run,
};
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// An interpreter whose runtime is in a file of its own, in a folder that goes away with it.
pub(crate) struct Private {
    pub(crate) interpreter: Interpreter,
    /// The file: the shared library, or the executable where that has it all.
    pub(crate) file: PathBuf,
    /// What the file was copied from.
    original: PathBuf,
    _folder: TempDir,
}

impl Private {
    /// A copy of `interpreter` with the file that has the runtime changed by `edit`.
    pub(crate) fn of(interpreter: &Interpreter, edit: impl Fn(&mut [u8])) -> Result<Private> {
        let folder = tempfile::Builder::new().prefix("pyst-build-").tempdir()?;
        let mut copy = interpreter.clone();
        let library = library_of(interpreter);
        let original = library.clone().unwrap_or(interpreter.exe.canonicalize()?);
        let file = folder.path().join(original.file_name().context("no name")?);
        let mut bytes = fs::read(&original)?;
        edit(&mut bytes);
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::metadata(&original)?.permissions())?;
        if library.is_some() {
            copy.env.push(("LD_LIBRARY_PATH".to_owned(), folder.path().into()));
        } else {
            copy.exe.clone_from(&file);
        }
        Ok(Private { interpreter: copy, file, original, _folder: folder })
    }
}

/// The shared library that has an interpreter's runtime; `None` where the executable has it.
pub(crate) fn library_of(interpreter: &Interpreter) -> Option<PathBuf> {
    let folder = interpreter.exe.parent()?.parent()?.join("lib");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libpython") && name.ends_with(".so.1.0")
    };
    let exe = interpreter.exe.to_string_lossy();
    let files = folder.read_dir().ok()?.flatten().map(|entry| entry.path());
    files.filter(|_| exe.contains("versions")).find(is_it)
}

/// One interpreter of each version, of those outside of chroots that nothing was done to yet.
pub(crate) fn plain() -> impl Iterator<Item = &'static Interpreter> {
    interpreters().iter().filter(|one| one.root.is_none() && !one.is_variant())
}

/// As `sstrip` and packers leave a file.
fn without_section_headers(file: &mut [u8]) {
    file[40..48].fill(0);
    file[58..64].fill(0);
}

/// The note is there, and no build-id any more: its type is one that nobody knows.
pub(crate) fn without_build_id(file: &mut [u8]) {
    let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    while let Some(at) = file.windows(note.len()).position(|bytes| bytes == note) {
        file[at + 8] = 0x77;
    }
}

/// The Python side of the report on what `arguments` name.
fn python_of<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Report> {
    let mut all = vec![OsStr::new("--python-only")];
    all.extend(arguments.iter().map(AsRef::as_ref));
    analyse(&grab(all)?.snapshot()?)
}

fn agrees(report: &Report, target: &Target, found_by: &[&str]) -> Result<()> {
    let compared = report.agrees_with(target.account())?;
    ensure!(compared > 0, "the account is empty");
    let found = report.json["python"]["found_by"].as_str().unwrap_or_default().to_owned();
    ensure!(found_by.contains(&found.as_str()), "found by {found}, not by {found_by:?}");
    Ok(())
}

#[test]
fn a_file_without_section_headers_has_its_symbols_still() {
    let scenario = Scenario::new("no section headers");
    for interpreter in plain() {
        let found_by = if interpreter.version < (3, 7) { "code" } else { "symbol" };
        let mut private = None;
        scenario.on(&interpreter.name, || {
            let private = private.insert(Private::of(interpreter, without_section_headers)?);
            let target = Target::start(&private.interpreter, "five_frames.py", &[])?;
            agrees(&python_of(&[target.pid().to_string()])?, &target, &[found_by])?;
            ensure!(has_program("gcore"), "gdb is not installed");
            agrees(&python_of(&[gcore(&target)?])?, &target, &[found_by])
        });
    }
    scenario.finish();
}

#[test]
fn a_file_without_a_build_id_that_is_replaced_or_deleted() {
    let scenario = Scenario::new("no build-id, replaced, deleted");
    for interpreter in plain() {
        scenario.on(&interpreter.name, || {
            let private = Private::of(interpreter, without_build_id)?;
            let target = Target::start(&private.interpreter, "five_frames.py", &[])?;
            let by_file: &[&str] = if interpreter.version < (3, 10) { &["symbol", "code"] } else { &["section"] };
            agrees(&python_of(&[target.pid().to_string()])?, &target, by_file)?;
            // Another file has the name now, as after an upgrade.
            let other = private.file.with_extension("new");
            fs::copy("/bin/true", &other)?;
            fs::rename(&other, &private.file)?;
            agrees(&python_of(&[target.pid().to_string()])?, &target, by_file)?;
            fs::remove_file(&private.file)?;
            agrees(&python_of(&[target.pid().to_string()])?, &target, by_file)
        });
    }
    scenario.finish();
}

/// A core holds what was written to, and of each file the first page: neither symbols nor constants.
#[test]
fn a_core_whose_files_are_gone() {
    let scenario = Scenario::new("core, files gone");
    if !has_program("gcore") {
        return scenario.skip("all", "gdb is not installed");
    }
    for interpreter in plain() {
        scenario.on(&interpreter.name, || {
            let private = Private::of(interpreter, |_| {})?;
            let target = Target::start(&private.interpreter, "eight_threads.py", &[])?;
            let core = gcore(&target)?;
            fs::remove_file(&private.file)?;
            // Of an executable that is not moved gdb dumps more.
            let found_by = if interpreter.version < (3, 13) { ["scan", "symbol"] } else { ["cookie", "symbol"] };
            let report = python_of(&[core])?;
            ensure!(report.frames_agree_with(target.account())? > 0, "the account is empty");
            let found = &report.json["python"]["found_by"];
            ensure!(found_by.iter().any(|one| found == one), "found by {found}, not by {found_by:?}");
            let version = report.json["python"]["version"].as_str().unwrap_or_default();
            let (major, minor) = interpreter.version;
            ensure!(version.starts_with(&format!("{major}.{minor}.")), "version {version}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_stub_a_copy_as_data_and_a_second_library_are_not_taken_for_the_one_that_runs() {
    let scenario = Scenario::new("other files like Python");
    for interpreter in plain() {
        scenario.on(&interpreter.name, || {
            let private = Private::of(interpreter, |_| {})?;
            let folder = private.file.parent().context("no folder")?;
            let mut arguments = vec![format!("data:{}", private.file.display())];
            let second = folder.join("libpython-second.so");
            if library_of(interpreter).is_some() {
                copy_program(&private.original, &second)?;
                arguments.push(format!("load:{}", second.display()));
            }
            if has_program("gcc") {
                let stub = folder.join("libpython3.so");
                fs::write(folder.join("stub.c"), "int stub(void) { return 3; }\n")?;
                let mut gcc = Command::new("gcc");
                gcc.args(["-shared", "-fPIC", "-o"]).arg(&stub).arg(folder.join("stub.c"));
                run(&mut gcc)?.expect_status(0)?;
                arguments.push(format!("load:{}", stub.display()));
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let target = Target::start(&private.interpreter, "company_of_files.py", &arguments)?;
            let by_file = ["symbol", "code", "section"];
            agrees(&python_of(&[target.pid().to_string()])?, &target, &by_file)?;
            // The native side knows where the library is too, not where its bytes are mapped as data.
            let whole = analyse(&grab([target.pid().to_string()])?.snapshot()?)?;
            ensure!(whole.codes().is_empty(), "diagnostics: {}", whole.json["diagnostics"]);
            let unwound = whole.thread(target.pid())?.native_frames().len();
            ensure!(unwound > 5, "{unwound} native frames");
            if has_program("gcore") {
                agrees(&python_of(&[gcore(&target)?])?, &target, &by_file)?;
            }
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_virtual_environment() {
    let scenario = Scenario::new("virtual environment");
    for interpreter in plain().filter(|one| one.version >= (3, 6)) {
        scenario.on(&interpreter.name, || {
            let folder = tempfile::tempdir()?;
            let venv = folder.path().join("venv");
            let mut make = interpreter.command();
            make.args(["-m", "venv", "--without-pip", "--symlinks"]).arg(&venv);
            run(&mut make)?.expect_status(0)?;
            let inside = Interpreter { exe: venv.join("bin/python"), ..interpreter.clone() };
            let target = Target::start(&inside, "five_frames.py", &[])?;
            let by_file = ["symbol", "section"];
            agrees(&python_of(&[target.pid().to_string()])?, &target, &by_file)
        });
    }
    scenario.finish();
}

/// Whatever the search costs, it is not made where it can't find anything.
#[test]
fn an_exhaustive_search_of_what_is_no_python_ends_soon() {
    let scenario = Scenario::new("exhaustive search without Python");
    let mut sleep = pyst_tests::Child::spawn(Command::new("sleep").arg("900")).unwrap();
    scenario.on("sleep", || {
        let pid = sleep.pid().to_string();
        let said = grab(["--python-only", &pid])?.said()?;
        ensure!(said.contains("pyst-grab --exhaustive"), "nothing said of --exhaustive: {said}");
        let output = grab(["--python-only", "--exhaustive", &pid])?;
        let said = output.said()?;
        ensure!(said.contains("outside of the modules"), "no exhaustive search: {said}");
        ensure!(!said.contains("--exhaustive"), "advice to do what was done: {said}");
        let took = output.took;
        ensure!(took.as_secs() < 10, "took {took:?}");
        ensure!(sleep.ended().is_none(), "sleep has ended");
        scenario.figure("sleep", &format!("{} ms", took.as_millis()));
        Ok(())
    });
    scenario.finish();
}
