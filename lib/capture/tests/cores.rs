//! Captures of core files, of the kernel's and of gdb's, compared with what gdb and the signal's sender say.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{TestChild, diagnostics, have_python, python_functions, section};
use pyst_capture::{Captured, Options, Target, capture};
use pyst_elf::Search;
use pyst_snapshot::payload::{Blocking, Capture, Process, Source, Threads};
use pyst_snapshot::{Address, Snapshot};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const THREADS: &str = "
import threading, time, sys, ctypes, os, signal
# Who starts tests in the background of a shell without job control has them ignore it.
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
def worker(): time.sleep(1000)
threading.Thread(target=worker, daemon=True).start()
time.sleep(0.2)
def crash():
    print('ready')
    if sys.argv[1] == 'fault': ctypes.string_at(0x1234)
    if sys.argv[1] == 'abort': os.abort()
    time.sleep(1000)
def caller(): crash()
caller()
";

/// A script that dumps core in a directory of its own.
struct Crash {
    directory: tempfile::TempDir,
    child: TestChild,
}

impl Crash {
    fn run(how: &str) -> Option<Crash> {
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        if !have_python() || pattern.trim() != "core" {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("skipped: no Python, or the kernel does not write cores to the working directory\n"),
            );
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("crash.py");
        std::fs::write(&script, THREADS).unwrap();
        let run = format!("ulimit -c unlimited || exit 1; exec {} -u crash.py {how}", common::PYTHON);
        let mut child = TestChild(
            Command::new("sh").args(["-c", &run]).current_dir(directory.path()).stdout(Stdio::piped()).spawn().unwrap(),
        );
        if child.line() != "ready" {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("skipped: the size of cores is limited here\n"),
            );
            return None;
        }
        Some(Crash { directory, child })
    }

    /// The kernel's core, once the process has died.
    fn core(&mut self) -> PathBuf {
        self.child.0.wait().unwrap();
        let mut entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_core = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("core");
        entries.find(is_core).expect("a core file")
    }
}

fn grab(core: &Path, exe: Option<&str>) -> Snapshot {
    let target = Target::Core { core: core.to_owned(), exe: exe.map(PathBuf::from) };
    capture(target, &Options::default()).and_then(Captured::snapshot).unwrap()
}

/// What gdb prints for each thread: tid, sp, pc.
fn gdb_registers(core: &Path) -> Option<Vec<(u32, u64, u64)>> {
    let script = "python\nfor t in gdb.selected_inferior().threads():\n t.switch()\n \
        f = gdb.newest_frame()\n print('REG', t.ptid[1], int(f.read_register('sp')), int(f.read_register('pc')))\nend";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]).arg("-core").arg(core).arg("-x").arg(file.path());
    let output = gdb.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("REG "));
    let mut threads: Vec<_> = lines
        .map(|line| {
            let fields: Vec<u64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
            (fields[0] as u32, fields[1], fields[2])
        })
        .collect();
    threads.sort_unstable();
    (!threads.is_empty()).then_some(threads)
}

fn registers(snapshot: &Snapshot) -> Vec<(u32, u64, u64)> {
    let threads = section::<Threads>(snapshot).threads.into_iter();
    threads
        .map(|thread| {
            let registers = thread.registers.unwrap();
            (thread.tid.0, registers.get(7).unwrap(), registers.get(16).unwrap())
        })
        .collect()
}

fn assert_threads(snapshot: &Snapshot, core: &Path) {
    let functions = python_functions(snapshot);
    assert!(functions.iter().any(|stack| stack.ends_with(&["crash".into(), "caller".into(), "<module>".into()])));
    assert!(functions.iter().any(|stack| stack.first().is_some_and(|function| function == "worker")));
    match gdb_registers(core) {
        Some(expected) => assert_eq!(registers(snapshot), expected),
        None => println!("not compared: no gdb"),
    }
    assert!(section::<Threads>(snapshot).threads.iter().all(|thread| thread.name.is_none()));
}

#[test]
fn a_fault_has_its_address_and_its_thread() {
    let Some(mut crash) = Crash::run("fault") else { return };
    let pid = crash.child.pid();
    let core = crash.core();
    let snapshot = grab(&core, None);
    assert_threads(&snapshot, &core);
    let process: Process = section(&snapshot);
    let signal = process.signal.unwrap();
    assert_eq!((signal.number, signal.fault_address, signal.sender_pid), (11, Some(Address(0x1234)), None));
    // The kernel gives the very thread that started the process as its parent.
    assert_eq!((process.pid, process.ppid), (pid, Some(nix::unistd::gettid().as_raw().cast_unsigned())));
    assert_eq!(process.zombie, Some(false));
    assert_eq!(process.exe_found, "in the core file");
    assert_eq!(process.exe.unwrap().escaped(), common::PYTHON);
    let crashed: Vec<u32> =
        section::<Threads>(&snapshot).threads.iter().filter(|t| t.crashed).map(|t| t.tid.0).collect();
    assert_eq!((crashed, signal.tid.0), (vec![pid], pid));
    let capture: Capture = section(&snapshot);
    assert_eq!(capture.blocking, Blocking::NOT_APPLICABLE);
    assert!(capture.complete, "{:?}", diagnostics(&snapshot));
}

#[test]
fn an_abort_was_sent_by_the_process_itself() {
    let Some(mut crash) = Crash::run("abort") else { return };
    let pid = crash.child.pid();
    let snapshot = grab(&crash.core(), None);
    let signal = section::<Process>(&snapshot).signal.unwrap();
    assert_eq!((signal.number, signal.sender_pid, signal.fault_address), (6, Some(pid), None));
}

#[test]
fn a_signal_from_elsewhere_names_its_sender() {
    let Some(mut crash) = Crash::run("wait") else { return };
    let pid = nix::unistd::Pid::from_raw(crash.child.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).unwrap();
    let snapshot = grab(&crash.core(), None);
    let signal = section::<Process>(&snapshot).signal.unwrap();
    assert_eq!((signal.number, signal.sender_pid, signal.code), (3, Some(std::process::id()), 0));
    assert_eq!(signal.sender_uid, Some(nix::unistd::getuid().as_raw()));
}

#[test]
fn a_core_taken_on_demand_tells_of_no_crash() {
    let Some(crash) = Crash::run("wait") else { return };
    let core = crash.directory.path().join("on-demand");
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", &crash.child.pid().to_string(), "-ex"])
        .arg(format!("gcore {}", core.display()))
        .output();
    if gdb.is_err() || !core.exists() {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no gdb\n"));
        return;
    }
    let snapshot = grab(&core, None);
    assert_threads(&snapshot, &core);
    assert_eq!(section::<Process>(&snapshot).signal, None);
    assert!(section::<Threads>(&snapshot).threads.iter().all(|thread| !thread.crashed));
    assert_eq!(section::<Process>(&snapshot).pid, crash.child.pid());
}

#[test]
fn a_truncated_core_says_what_is_missing_and_gives_the_rest() {
    let Some(mut crash) = Crash::run("abort") else { return };
    let core = crash.core();
    let length = std::fs::metadata(&core).unwrap().len();
    let file = std::fs::File::options().write(true).open(&core).unwrap();
    file.set_len(length - 1000).unwrap();
    let snapshot = grab(&core, None);
    let diagnostics = diagnostics(&snapshot);
    let truncated = diagnostics.iter().find(|diagnostic| diagnostic.code == "core-truncated").unwrap();
    assert!(truncated.message.contains(" 1000 bytes"), "{}", truncated.message);
    assert_eq!(section::<Threads>(&snapshot).threads.len(), 2);
    assert!(!section::<Capture>(&snapshot).complete);
    // At every length there is an answer.
    for length in [length / 2, 20_000, 5000, 700, 64, 20, 3] {
        file.set_len(length).unwrap();
        let target = Target::Core { core: core.clone(), exe: None };
        match capture(target, &Options::default()).and_then(Captured::snapshot) {
            Ok(snapshot) => assert!(!section::<Capture>(&snapshot).complete, "{length}"),
            Err(error) => assert!(["core-damaged", "not-a-core"].contains(&error.code()), "{length}: {error}"),
        }
    }
}

#[test]
fn another_executable_is_refused_and_the_right_one_is_used() {
    let Some(mut crash) = Crash::run("abort") else { return };
    let core = crash.core();
    let copy = crash.directory.path().join("moved-python");
    std::fs::copy(common::PYTHON, &copy).unwrap();
    let snapshot = grab(&core, copy.to_str());
    assert_threads(&snapshot, &core);
    let process: Process = section(&snapshot);
    assert_eq!(process.exe.unwrap().escaped(), copy.to_str().unwrap());
    assert_eq!(process.exe_found, "on the command line");

    let snapshot = grab(&core, Some("/bin/sh"));
    let mismatches = diagnostics(&snapshot).into_iter().filter(|diagnostic| diagnostic.code == "file-mismatch");
    let messages: Vec<String> = mismatches.map(|diagnostic| diagnostic.message).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("/bin/sh") && messages[0].contains(common::PYTHON), "{messages:?}");
    assert_eq!(section::<Threads>(&snapshot).threads.len(), 2);
    assert!(Target::Core { core, exe: Some("/no/such".into()) }.clone().fails_with("cannot-read"));
}

#[test]
fn a_missing_executable_is_named() {
    let Some(mut crash) = Crash::run("abort") else { return };
    let core = crash.core();
    // The same core as if its executable had been elsewhere: a path of the same length in the notes.
    let mut bytes = std::fs::read(&core).unwrap();
    let end = 64 << 10;
    let path = common::PYTHON.as_bytes();
    for at in 0..end {
        if bytes[at..].starts_with(path) {
            bytes[at + 1] = b'U';
        }
    }
    std::fs::write(&core, bytes).unwrap();
    let snapshot = grab(&core, None);
    let missing: Vec<String> =
        diagnostics(&snapshot).into_iter().map(|d| format!("{}: {}", d.code, d.message)).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("file-missing: /Usr/bin/python3.11, "), "{missing:?}");
    assert_eq!(section::<Process>(&snapshot).exe_found, "");
    // With the executable it is as it was.
    let snapshot = grab(&core, Some(common::PYTHON));
    assert_threads(&snapshot, &core);
    assert!(section::<Capture>(&snapshot).complete, "{:?}", diagnostics(&snapshot));
    // So it is with a folder that has it, or a tree that has it under another name; another file of that name is refused.
    let folder = crash.directory.path().join("found");
    let tree = folder.join("below/it");
    std::fs::create_dir_all(&tree).unwrap();
    let search = |folders: &[&Path], roots: &[&Path]| {
        let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
        let search = Arc::new(Search::new(owned(folders), owned(roots), Vec::new()));
        let target = Target::Core { core: core.clone(), exe: None };
        capture(target, &Options { search, ..Options::default() }).and_then(Captured::snapshot).unwrap()
    };
    std::fs::copy("/bin/sh", folder.join("python3.11")).unwrap();
    let refused = search(&[&folder], &[&folder]);
    let refusal = diagnostics(&refused).into_iter().find(|d| d.code == "file-mismatch").unwrap().message;
    assert!(refusal.contains("found/python3.11") && refusal.contains("/Usr/bin/python3.11"), "{refusal}");
    std::fs::copy(common::PYTHON, tree.join("renamed")).unwrap();
    for snapshot in [search(&[&folder], &[&folder]), {
        std::fs::copy(common::PYTHON, folder.join("python3.11")).unwrap();
        search(&[&folder], &[])
    }] {
        assert_threads(&snapshot, &core);
        assert!(section::<Capture>(&snapshot).complete, "{:?}", diagnostics(&snapshot));
    }
}

trait FailsWith {
    fn fails_with(self, code: &str) -> bool;
}

impl FailsWith for Target {
    fn fails_with(self, code: &str) -> bool {
        capture(self, &Options::default()).is_err_and(|error| error.code() == code)
    }
}

#[test]
fn source_lines_are_found_where_the_core_says() {
    let Some(mut crash) = Crash::run("abort") else { return };
    let core = crash.core();
    let snapshot = grab(&core, None);
    // The script was given by a relative path, which leads nowhere without the working directory.
    let source: Source = section(&snapshot);
    assert!(source.files.iter().all(|file| file.newer != Some(true)), "{source:?}");
}
