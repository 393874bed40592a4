//! Targets for the tests: children that are killed and reaped whatever happens.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses its part"
)]

use pyst_capture::{CaptureError, Captured, Options, Target, capture};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Payload, Python};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A child that does not outlive the test.
pub struct TestChild(pub Child);

impl Drop for TestChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TestChild {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until the target has said a line, and returns it.
    pub fn line(&mut self) -> String {
        let stdout = self.0.stdout.as_mut().expect("a piped standard output");
        let mut line = String::new();
        BufReader::with_capacity(1, stdout).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

pub const PYTHON: &str = "/usr/bin/python3.11";

/// Whether there is a Python to test with; says so when not.
pub fn have_python() -> bool {
    let have = std::path::Path::new(PYTHON).exists();
    if !have {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no {PYTHON}\n"));
    }
    have
}

/// Runs a script that says a line when it is ready, and then sleeps.
pub fn python(script: &str) -> TestChild {
    let mut child = TestChild(
        Command::new(PYTHON).args(["-u", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap(),
    );
    child.line();
    wait_for_state(child.pid(), "S");
    child
}

pub fn grab(pid: u32) -> Snapshot {
    grab_with(pid, &Options::default()).unwrap()
}

/// The target may be stopped for as long as a machine that is busy with other tests needs.
pub fn grab_with(pid: u32, options: &Options) -> Result<Snapshot, CaptureError> {
    let patient = Options { stop_limit: Duration::from_secs(10), ..options.clone() };
    capture(Target::Live(pid), &patient).and_then(Captured::snapshot)
}

pub fn section<P: Payload>(snapshot: &Snapshot) -> P {
    snapshot.get().unwrap().expect("the section")
}

pub fn diagnostics(snapshot: &Snapshot) -> Vec<Diagnostic> {
    section::<Diagnostics>(snapshot).items
}

pub fn size(snapshot: &Snapshot) -> usize {
    let mut bytes = Vec::new();
    pyst_snapshot::write_snapshot(snapshot, &mut bytes).unwrap();
    bytes.len()
}

/// The functions of each thread state, innermost first, as `pyst-py` finds them in the snapshot.
pub fn python_functions(snapshot: &Snapshot) -> Vec<Vec<String>> {
    let (python, diagnostics) = pyst_python::walk_snapshot(snapshot);
    let Python { states, codes, .. } = python.unwrap_or_else(|| panic!("no Python: {diagnostics:?}"));
    let name = |code: u32| codes[code as usize].function.escaped();
    states.iter().map(|state| state.frames.iter().map(|frame| name(frame.code)).collect()).collect()
}

fn state(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.unwrap_or_default().trim().chars().take(1).collect()
}

/// Waits until the process is in that state for good.
pub fn wait_for_state(pid: u32, wanted: &str) {
    for _ in 0..500 {
        if state(pid) == wanted {
            // It may have been on its way through that state.
            std::thread::sleep(Duration::from_millis(20));
            if state(pid) == wanted {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{pid} is in state {} and not {wanted}", state(pid));
}
