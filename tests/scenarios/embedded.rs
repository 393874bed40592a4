//! Python inside other programs: editors, debuggers, programs in C, bundles that unpack an interpreter; and with another libc.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Interpreter, Report, Scenario, Target, analyse, cache, gcore, grab, has_program, interpreters, run, targets_dir,
    write_program,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What `tests/run` has no part in: the interpreter that Debian's own programs embed.
fn debian() -> Option<&'static Interpreter> {
    interpreters().iter().find(|one| one.root.is_none() && one.name.starts_with("debian 3.11"))
}

/// A program that takes the place of an interpreter: `exe -u SCRIPT`.
fn in_place_of(interpreter: &Interpreter, exe: PathBuf) -> Interpreter {
    Interpreter { exe, ..interpreter.clone() }
}

/// The same by a shell script, which becomes the program: `$2` is the script.
fn by_shell(interpreter: &Interpreter, folder: &TempDir, become_it: &str) -> Result<Interpreter> {
    let exe = folder.path().join("run");
    fs::write(&exe, format!("#!/bin/sh\nexport PYTHONPATH=\"$PYST_TARGET_DIR\"\nexec {become_it}\n"))?;
    fs::set_permissions(&exe, fs::Permissions::from_mode(0o755))?;
    Ok(in_place_of(interpreter, exe))
}

/// `embedding.c`, linked with libpython in the way that `arguments` say.
fn embedding(folder: &TempDir, arguments: &[&str]) -> Result<PathBuf> {
    let program = folder.path().join("embedding");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-I/usr/include/python3.11", "-o"]).arg(&program).arg(targets_dir().join("embedding.c"));
    run(gcc.args(arguments))?.expect_status(0)?;
    Ok(program)
}

fn report_of(target: &Target) -> Result<Report> {
    analyse(&grab([target.pid().to_string()])?.snapshot()?)
}

/// The frames are those of the account, live and from gdb's core, and the runtime was found as said.
fn agrees(target: &Target, found_by: &str) -> Result<()> {
    let report = report_of(target)?;
    ensure!(report.agrees_with(target.account())? > 0, "the account is empty");
    ensure!(report.json["python"]["found_by"] == found_by, "found by {}", report.json["python"]["found_by"]);
    let unplaced = |frame: &serde_json::Value| frame["kind"] == "python" && frame["placed_by"] == "unplaced";
    let unplaced = report.threads().iter().flat_map(|one| one.frames()).filter(unplaced).count();
    // musl has no unwind tables, and there is no getting out of it.
    let is_musl = report.threads().iter().any(|one| one.json["stack_end"] == "no-cfi");
    ensure!(unplaced == 0 || is_musl, "{unplaced} Python frames without a place among the native ones");
    if has_program("gcore") {
        let core = python_of_core(&gcore(target)?)?;
        core.agrees_with(target.account()).context("gcore")?;
    }
    Ok(())
}

fn python_of_core(core: &Path) -> Result<Report> {
    analyse(&grab(["--python-only".as_ref(), core.as_os_str()])?.snapshot()?)
}

#[test]
fn vim() {
    let scenario = Scenario::new("embedded in vim");
    match debian() {
        Some(debian) if has_program("vim.nox") => scenario.on("vim-nox", || {
            let folder = tempfile::tempdir()?;
            let vim = by_shell(debian, &folder, "vim.nox -u NONE -es -c \"py3file $2\"")?;
            agrees(&Target::start(&vim, "five_frames.py", &[])?, "section")
        }),
        _ => scenario.skip("vim-nox", "vim-nox with Debian's Python 3.11 is not installed"),
    }
    scenario.finish();
}

#[test]
fn gdb() {
    let scenario = Scenario::new("embedded in gdb");
    match debian() {
        Some(debian) if has_program("gdb") => scenario.on("gdb", || {
            let folder = tempfile::tempdir()?;
            let code = "gdb -nx -batch -ex \"python exec(compile(open('$2').read(), '$2', 'exec'))\"";
            let gdb = by_shell(debian, &folder, code)?;
            agrees(&Target::start(&gdb, "five_frames.py", &[])?, "section")
        }),
        _ => scenario.skip("gdb", "gdb with Debian's Python 3.11 is not installed"),
    }
    scenario.finish();
}

const STATIC_LIBRARY: &str = "/usr/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11.a";

/// In a program that exports nothing and was stripped of all there is to strip, only pointers lead to the runtime.
#[test]
fn a_program_with_python_in_it_that_says_nothing_of_it() {
    let scenario = Scenario::new("static in a stripped C program");
    let Some(debian) = debian().filter(|_| has_program("gcc") && Path::new(STATIC_LIBRARY).exists()) else {
        return scenario.skip("all", "Debian's Python 3.11 with its -dev package, or gcc, is not installed");
    };
    for (what, in_a_thread) in [("in the main thread", false), ("in another thread", true)] {
        scenario.on(what, || {
            let folder = tempfile::tempdir()?;
            let mut arguments = vec!["-no-pie", "-s", STATIC_LIBRARY, "-lz", "-lexpat", "-lm", "-ldl"];
            arguments.extend(in_a_thread.then_some("-DIN_A_THREAD"));
            let program = embedding(&folder, &arguments)?;
            // Nor any section header.
            let mut bytes = fs::read(&program)?;
            bytes[40..48].fill(0);
            bytes[58..64].fill(0);
            write_program(&bytes, &program)?;
            let target = Target::start(&in_place_of(debian, program.clone()), "eight_threads.py", &[])?;
            agrees(&target, "scan")?;
            let report = report_of(&target)?;
            let version = debian.name.strip_prefix("debian ").context("a name without version")?;
            ensure!(report.json["python"]["version"] == version, "{}", report.json["python"]["version"]);
            if has_program("gcore") {
                let core = gcore(&target)?;
                fs::remove_file(&program)?;
                let report = python_of_core(&core)?;
                report.frames_agree_with(target.account()).context("core, executable gone")?;
                ensure!(report.json["python"]["found_by"] == "scan");
            }
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_program_that_loads_libpython() {
    let scenario = Scenario::new("shared in a C program");
    let Some(debian) = debian().filter(|_| has_program("gcc") && Path::new(STATIC_LIBRARY).exists()) else {
        return scenario.skip("all", "Debian's Python 3.11 with its -dev package, or gcc, is not installed");
    };
    for (what, define) in [("in the main thread", None), ("in another thread", Some("-DIN_A_THREAD"))] {
        scenario.on(what, || {
            let folder = tempfile::tempdir()?;
            let mut arguments = vec!["-lpython3.11"];
            arguments.extend(define);
            let program = embedding(&folder, &arguments)?;
            agrees(&Target::start(&in_place_of(debian, program), "eight_threads.py", &[])?, "section")
        });
    }
    scenario.finish();
}

#[test]
fn a_bundle_that_unpacks_its_interpreter() {
    let scenario = Scenario::new("PyInstaller, one file");
    let bundle = cache().join("bundles/one-file");
    let Some(debian) = debian().filter(|_| bundle.exists()) else {
        return scenario.skip("all", "there is none: tests/run makes one, with Debian's python3 and PyPI");
    };
    scenario.on("PyInstaller", || {
        // The bundle unpacks, and has the interpreter in a child.
        let target = Target::start_through(&[], &in_place_of(debian, bundle.clone()), "five_frames.py")?;
        agrees(&target, "section")?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid()))?;
        let library = maps.lines().find_map(|line| line.split_once("/libpython3.11.so.1.0"));
        let folder = library.and_then(|(line, _)| Some(&line[line.find('/')?..])).context("no unpacked libpython")?;
        ensure!(folder.contains("_MEI"), "libpython is in {folder}");
        fs::remove_dir_all(folder)?;
        agrees(&target, "section").context("its folder is gone")
    });
    scenario.finish();
}

#[test]
fn another_libc() {
    let scenario = Scenario::new("musl");
    let exe = cache().join("musl/python3.11/bin/python3.11");
    let Some(debian) = debian().filter(|_| exe.exists()) else {
        return scenario
            .skip("all", "there is none: tests/run builds one, where musl-gcc and Debian's sources can be had");
    };
    let musl = in_place_of(debian, exe);
    for script in ["five_frames.py", "eight_threads.py"] {
        scenario.on(script, || agrees(&Target::start(&musl, script, &[])?, "section"));
    }
    scenario.finish();
}
