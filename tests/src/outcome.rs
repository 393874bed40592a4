//! What came of each scenario on each interpreter, for people to see, also when all is well.

use anyhow::Result;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;

/// A scenario that runs on several interpreters. Failures are gathered, so that one does not hide the others.
#[derive(Debug)]
pub struct Scenario {
    name: &'static str,
    failures: Mutex<Vec<String>>,
}

impl Scenario {
    /// A scenario by its name.
    #[must_use]
    pub fn new(name: &'static str) -> Scenario {
        Scenario { name, failures: Mutex::default() }
    }

    /// Runs `check` as the part of this scenario on the interpreter (or other circumstance) named.
    pub fn on(&self, circumstance: &str, check: impl FnOnce() -> Result<()>) {
        match check() {
            Ok(()) => note(self.name, circumstance, "ok", ""),
            Err(error) => {
                let reason = format!("{error:#}");
                note(self.name, circumstance, "FAILED", &reason);
                self.failures.lock().unwrap().push(format!("{circumstance}: {reason}"));
            }
        }
    }

    /// Says that the scenario, or its part named, is left out, and why.
    pub fn skip(&self, circumstance: &str, reason: &str) {
        note(self.name, circumstance, "skipped", reason);
    }

    /// Says that there is no such scenario under the circumstance named, and why: nothing was left out.
    pub fn has_none(&self, circumstance: &str, reason: &str) {
        note(self.name, circumstance, "none", reason);
    }

    /// Writes a figure that was measured.
    pub fn figure(&self, circumstance: &str, figure: &str) {
        note(self.name, circumstance, "figure", figure);
    }

    /// Ends the scenario.
    ///
    /// # Panics
    /// One of its checks failed.
    pub fn finish(self) {
        let failures = self.failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{}: {} failed\n{}", self.name, failures.len(), failures.join("\n"));
    }
}

/// A line to standard error, past libtest's capturing, which hides what passing tests print; and one to the file that
/// `tests/run` makes its table of.
fn note(scenario: &str, circumstance: &str, outcome: &str, detail: &str) {
    let first = detail.lines().next().unwrap_or_default();
    if !matches!(outcome, "ok" | "none") {
        let _ = writeln!(std::io::stderr(), "{outcome}: {scenario}, {circumstance}: {first}");
    }
    let Some(path) = std::env::var_os("PYST_TEST_RESULTS") else { return };
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        // One write a line: the tests run in parallel.
        let _ = file.write_all(format!("{scenario}\t{circumstance}\t{outcome}\t{first}\n").as_bytes());
    }
}
