//! Captures of living processes, compared with what `/proc`, Python and the target itself say of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{
    TestChild, diagnostics, grab, grab_with, have_python, python, python_functions, section, size, wait_for_state,
};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyst_capture::{Captured, Options, Target, capture};
use pyst_snapshot::payload::{
    Blocking, Capture, FoundBy, ModuleFile, Modules, NativeFrame, Process, Severity, Source, StackEnd, Threads,
};
use std::process::{Command, Stdio};
use std::time::Duration;

const DEEP: &str = "
import time
def e():
    print('ready')
    time.sleep(1000)
def d(): e()
def c(): d()
def b(): c()
b()
";

const MANY: &str = "
import threading, time
def work(n):
    if n: work(n - 1)
    else: time.sleep(1000)
for i in range(49): threading.Thread(target=work, args=(3,), daemon=True).start()
time.sleep(0.3)
print('ready')
time.sleep(1000)
";

/// Its frames take some megabytes.
const VERY_DEEP: &str = "
import sys, time
sys.setrecursionlimit(100000)
def down(n):
    if n: down(n - 1)
    print('ready')
    time.sleep(1000)
down(50000)
";

fn sleeper() -> TestChild {
    let child = TestChild(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap());
    wait_for_state(child.pid(), "S");
    child
}

#[test]
fn the_registers_of_a_sleeper_are_those_that_proc_shows() {
    let child = sleeper();
    let path = format!("/proc/{}/syscall", child.pid());
    let Ok(syscall) = std::fs::read_to_string(path) else {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("skipped: /proc/PID/syscall cannot be read here\n"),
        );
        return;
    };
    let fields: Vec<&str> = syscall.split_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let snapshot = grab(child.pid());
    let threads = section::<Threads>(&snapshot).threads;
    assert_eq!(threads.len(), 1);
    let registers = threads[0].registers.as_ref().unwrap();
    assert_eq!(registers.system_call, fields[0].parse().ok());
    // rdi, rsi, rdx: the first arguments of the call; then sp and pc.
    assert_eq!(registers.get(5), Some(hex(fields[1])));
    assert_eq!(registers.get(4), Some(hex(fields[2])));
    assert_eq!(registers.get(1), Some(hex(fields[3])));
    assert_eq!(registers.get(7), Some(hex(fields[7])));
    assert_eq!(registers.get(16), Some(hex(fields[8])));
    assert!(registers.thread_pointer.is_some_and(|pointer| !pointer.is_null()));
    wait_for_state(child.pid(), "S");
    let process: Process = section(&snapshot);
    assert_eq!((process.pid, process.ppid), (child.pid(), Some(std::process::id())));
    assert_eq!(process.cmdline.iter().map(|arg| arg.escaped()).collect::<Vec<_>>(), ["sleep", "1000"]);
}

#[test]
fn a_sleeping_script_is_a_few_kilobytes_and_says_where_it_is() {
    if !have_python() {
        return;
    }
    let child = python(DEEP);
    let snapshot = grab(child.pid());
    assert_eq!(python_functions(&snapshot), [["e", "d", "c", "b", "<module>"]]);
    let capture: Capture = section(&snapshot);
    assert!(capture.complete, "{:?}", diagnostics(&snapshot));
    assert_eq!(capture.blocking, Blocking::STOPPED);
    assert!(capture.stopped_ns.is_some_and(|ns| ns > 0));
    assert!(size(&snapshot) < 64 << 10, "{} bytes", size(&snapshot));
    wait_for_state(child.pid(), "S");
}

#[test]
fn fifty_threads_are_all_there_and_run_on() {
    if !have_python() {
        return;
    }
    let child = python(MANY);
    let snapshot = grab(child.pid());
    let mut tids: Vec<u32> = std::fs::read_dir(format!("/proc/{}/task", child.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    tids.sort_unstable();
    let threads = section::<Threads>(&snapshot).threads;
    assert_eq!(threads.iter().map(|thread| thread.tid.0).collect::<Vec<_>>(), tids);
    assert!(threads.iter().all(|thread| thread.registers.is_some() && thread.stack.is_some()));
    assert!(threads.iter().all(|thread| thread.state.is_some()));
    let functions = python_functions(&snapshot);
    let workers = functions.iter().filter(|functions| functions.starts_with(&["work".to_owned()])).count();
    assert_eq!((functions.len(), workers), (50, 49));
    assert!(size(&snapshot) < 512 << 10, "{} bytes", size(&snapshot));
    let (native, complaints) = pyst_native::unwind_from_snapshot(&snapshot, None);
    assert_eq!((native.stacks.len(), complaints), (50, vec![]));
    assert!(native.stacks.iter().all(|stack| stack.end == StackEnd::COMPLETE));
    tids.iter().for_each(|tid| wait_for_state(*tid, "S"));
}

#[test]
fn the_environment_stays_at_home() {
    if !have_python() {
        return;
    }
    let secret = "hunter2-in-the-environment";
    let mut child = TestChild(
        Command::new(common::PYTHON)
            .args(["-u", "-c", DEEP])
            .env("PASSWORD", secret)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    child.line();
    wait_for_state(child.pid(), "S");
    let mut bytes = Vec::new();
    pyst_snapshot::write_snapshot(&grab(child.pid()), &mut bytes).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("time.sleep") && !holds(secret));
}

#[test]
fn python_only_leaves_out_stacks() {
    if !have_python() {
        return;
    }
    let child = python(DEEP);
    let snapshot = grab_with(child.pid(), &Options { python_only: true, ..Options::default() }).unwrap();
    assert_eq!(python_functions(&snapshot), [["e", "d", "c", "b", "<module>"]]);
    assert!(section::<Capture>(&snapshot).python_only());
    let threads = section::<Threads>(&snapshot).threads;
    assert!(threads.iter().all(|thread| thread.stack.is_none() && thread.registers.is_some()));
    let whole = grab(child.pid());
    assert!(size(&snapshot) < size(&whole), "{} {}", size(&snapshot), size(&whole));
}

#[test]
fn however_much_there_is_to_read_the_limit_of_the_stop_holds() {
    if !have_python() {
        return;
    }
    let child = python(VERY_DEEP);
    let limited = |stop_limit| {
        let snapshot =
            capture(Target::Live(child.pid()), &Options { python_only: true, stop_limit, ..Options::default() })
                .and_then(Captured::snapshot)
                .unwrap();
        let codes: Vec<String> = diagnostics(&snapshot).into_iter().map(|diagnostic| diagnostic.code).collect();
        (python_functions(&snapshot).iter().map(Vec::len).max(), codes)
    };
    // Nobody reads that much in so little time: the target must have been let go in the middle of it.
    let (_, codes) = limited(Duration::from_micros(20));
    assert!(codes.contains(&"stop-limit".to_owned()), "{codes:?}");
    assert_eq!(limited(Duration::from_secs(10)), (Some(50_002), vec![]));
}

#[test]
fn a_stopped_process_stays_stopped() {
    let child = sleeper();
    let pid = Pid::from_raw(child.pid().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_for_state(child.pid(), "T");
    let snapshot = grab(child.pid());
    assert!(section::<Threads>(&snapshot).threads[0].registers.is_some());
    wait_for_state(child.pid(), "T");
    kill(pid, Signal::SIGCONT).unwrap();
    wait_for_state(child.pid(), "S");
}

#[test]
fn no_signal_is_lost_to_a_capture() {
    if !have_python() {
        return;
    }
    // A real-time signal counts every time that it is sent.
    let mut child = python(
        "
import signal, time
count = 0
def handler(*_):
    global count
    count += 1
    print(count)
signal.signal(signal.SIGRTMIN + 3, handler)
print('ready')
while True: time.sleep(1000)
",
    );
    for sent in 1..=30 {
        let pid = child.pid();
        // With kill(1), for nix names no real-time signals.
        let kill = Command::new("sh").args(["-c", &format!("kill -37 {pid}")]).status().unwrap();
        assert!(kill.success());
        grab(pid);
        assert_eq!(child.line(), sent.to_string());
    }
}

#[test]
fn what_cannot_be_captured_says_why() {
    let code = |pid| grab_with(pid, &Options::default()).unwrap_err().code();
    assert_eq!(code(u32::MAX), "no-such-process");
    assert_eq!(code(0), "no-such-process");
    assert_eq!(code(std::process::id()), "own-process");

    let mut zombie = TestChild(Command::new("true").spawn().unwrap());
    wait_for_state(zombie.pid(), "Z");
    assert_eq!(code(zombie.pid()), "zombie");
    zombie.0.wait().unwrap();
    assert_eq!(code(zombie.pid()), "no-such-process");

    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        assert_eq!(code(2), "kernel-thread");
    }
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (say, tid) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        say.send(nix::unistd::gettid()).unwrap();
        let _ = stopped.recv();
    });
    let error = grab_with(tid.recv().unwrap().as_raw().cast_unsigned(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains(&format!("give the process id {}", std::process::id())), "{error}");
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_traced_process_still_has_its_python_frames() {
    if !have_python() {
        return;
    }
    let child = python(DEEP);
    let pid = Pid::from_raw(child.pid().cast_signed());
    // On a thread of its own, whose end lets go.
    let snapshot = std::thread::spawn(move || {
        ptrace::seize(pid, ptrace::Options::empty()).unwrap();
        grab(pid.as_raw().cast_unsigned())
    })
    .join()
    .unwrap();
    assert_eq!(python_functions(&snapshot), [["e", "d", "c", "b", "<module>"]]);
    let capture: Capture = section(&snapshot);
    assert_eq!((capture.blocking, capture.stopped_ns, capture.complete), (Blocking::NOT_STOPPED, None, false));
    let diagnostics = diagnostics(&snapshot);
    assert_eq!(diagnostics[0].code, "already-traced");
    assert_eq!(diagnostics[0].severity, Severity::LOSS);
    assert!(diagnostics[0].message.contains(&std::process::id().to_string()), "{}", diagnostics[0].message);
}

#[test]
fn the_other_threads_of_an_exited_leader_are_captured() {
    if !have_python() {
        return;
    }
    let mut child = python(
        "
import threading, time, ctypes
def left(): time.sleep(1000)
threading.Thread(target=left).start()
time.sleep(0.2)
print('ready')
time.sleep(0.1)
ctypes.CDLL(None).pthread_exit(None)
",
    );
    wait_for_state(child.pid(), "Z");
    let snapshot = grab(child.pid());
    let threads = section::<Threads>(&snapshot).threads;
    assert_eq!(threads.len(), 2);
    assert!(threads[0].registers.is_none() && threads[1].registers.is_some());
    assert!(diagnostics(&snapshot).iter().any(|diagnostic| diagnostic.code == "thread-exited"));
    assert!(python_functions(&snapshot).iter().any(|functions| functions.first().is_some_and(|f| f == "left")));
    child.0.kill().unwrap();
}

#[test]
fn source_lines_come_from_the_working_directory_of_the_target() {
    if !have_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "# coding: latin-1\nimport time\nprint('ready')\ntime.sleep(1000) # caf\u{e9}\n";
    let bytes: Vec<u8> = script.chars().map(|c| c as u32 as u8).collect();
    std::fs::write(directory.path().join("café.py"), bytes).unwrap();
    let mut child = TestChild(
        Command::new(common::PYTHON)
            .args(["-u", "-c", "exec(compile(open('café.py', 'rb').read(), 'café.py', 'exec'))"])
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    child.line();
    wait_for_state(child.pid(), "S");
    let lines = || {
        let source: Source = section(&grab(child.pid()));
        source.files.into_iter().map(|file| (file.file.escaped(), file.newer, file.lines)).collect::<Vec<_>>()
    };
    let before = lines();
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!((before[0].0.as_str(), before[0].1), ("café.py", Some(false)));
    assert_eq!((before[0].2[0].line, before[0].2[0].text.as_str()), (4, "time.sleep(1000) # café"));
    std::fs::write(directory.path().join("café.py"), "\n\n\nchanged\n").unwrap();
    let after = lines();
    assert_eq!((after[0].1, after[0].2[0].text.as_str()), (Some(true), "changed"));
    let bare = grab_with(child.pid(), &Options { source: false, ..Options::default() }).unwrap();
    assert_eq!(bare.get::<Source>().unwrap(), None);
}

#[test]
fn a_deleted_executable_is_read_all_the_same() {
    if !have_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("python");
    // Not with this process, whose other threads start children that would hold it open for writing.
    assert!(Command::new("cp").arg(common::PYTHON).arg(&copy).status().unwrap().success());
    let mut child = TestChild(
        Command::new(&copy).args(["-u", "-c", DEEP]).env("PYTHONHOME", "/usr").stdout(Stdio::piped()).spawn().unwrap(),
    );
    child.line();
    wait_for_state(child.pid(), "S");
    // Another file by that name must not be taken for it.
    std::fs::remove_file(&copy).unwrap();
    std::fs::copy("/bin/sh", &copy).unwrap();
    let snapshot = grab(child.pid());
    assert_eq!(python_functions(&snapshot), [["e", "d", "c", "b", "<module>"]]);
    let modules = section::<Modules>(&snapshot).modules;
    let module = modules.iter().find(|module| module.path.escaped() == copy.to_str().unwrap()).unwrap();
    assert_eq!((module.file, module.build_id.is_some()), (ModuleFile::DELETED, true));
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own_leads_back_to_the_threads() {
    if !have_python() {
        return;
    }
    // faulthandler's handler runs on a signal stack, and here it blocks there, for its pipe is full.
    let child = python(
        "
import faulthandler, os, signal, time
r, w = os.pipe()
os.set_blocking(w, False)
for size in 4096, 1:
    try:
        while True: os.write(w, b'x' * size)
    except BlockingIOError: pass
os.set_blocking(w, True)
faulthandler.enable(file=w)
faulthandler.register(signal.SIGUSR1, file=w, all_threads=False)
def inner():
    print('ready')
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(1000)
inner()
",
    );
    let snapshot = grab(child.pid());
    let (native, diagnostics) = pyst_native::unwind_from_snapshot(&snapshot, None);
    assert_eq!(diagnostics, []);
    assert_eq!(native.stacks[0].end, StackEnd::COMPLETE);
    let on_trampoline = |frame: &NativeFrame| frame.found_by == FoundBy::SIGNAL_TRAMPOLINE;
    if !native.stacks[0].frames.iter().any(on_trampoline) {
        println!("not compared: this faulthandler uses no signal stack");
    }
    assert_eq!(python_functions(&snapshot), [["inner", "<module>"]]);
    assert!(size(&snapshot) < 64 << 10, "{} bytes", size(&snapshot));
}

#[test]
fn a_process_that_is_no_python_has_its_native_frames() {
    let child = sleeper();
    let snapshot = grab(child.pid());
    let (native, diagnostics) = pyst_native::unwind_from_snapshot(&snapshot, None);
    assert_eq!(diagnostics, []);
    assert!(native.stacks[0].frames.len() > 2);
    assert!(section::<Capture>(&snapshot).complete);
}
