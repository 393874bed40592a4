//! How long a capture stops its target, by the figure that the snapshot itself stores, and how large the snapshot is.
//!
//! A benchmark and no test: absolute times depend on the machine, and nothing here fails because of one.

use crate::build;
use anyhow::{Context, Result, ensure};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::Capture;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The targets: what to call them, and the program.
const TARGETS: [(&str, &str); 4] = [
    ("1 thread, 5 frames", "f = lambda n: f(n - 1) if n else (print('ready', flush=True), time.sleep(1000))\nf(4)"),
    (
        "50 threads",
        "ts = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(49)]\n[t.start() for t in ts]\nprint('ready', flush=True)\ntime.sleep(1000)",
    ),
    (
        "900 frames deep",
        "def f(n):\n    if n: return f(n - 1)\n    print('ready', flush=True)\n    time.sleep(1000)\nf(900)",
    ),
    ("2 GiB heap", "b = bytearray(b'x') * (2 << 30)\nprint('ready', flush=True)\ntime.sleep(1000)"),
];

/// Captures each target `runs` times and prints minimum, median and maximum.
pub(crate) fn run(root: &Path, python: &str, runs: usize) -> Result<()> {
    ensure!(runs > 0, "at least one run");
    let tools = build::tools(root)?;
    let version = Command::new(python).arg("-V").output().context("no such Python")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    println!("| target | stop µs: min | median | max | wall ms: median | bytes read in the stop | snapshot bytes |");
    println!("|---|---|---|---|---|---|---|");
    for (name, program) in TARGETS {
        let target = Target::start(python, program)?;
        let mut stops = Vec::new();
        let mut walls = Vec::new();
        let mut sizes = (0, 0);
        for _ in 0..=runs {
            let started = Instant::now();
            let output = Command::new(tools.join("pyst-grab")).arg(target.0.id().to_string()).output()?;
            walls.push(started.elapsed().as_micros());
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "pyst-grab failed: {message}");
            let snapshot = StreamReader::new(output.stdout.as_slice()).next().context("no snapshot")??;
            let capture = snapshot.get::<Capture>()?.context("no capture section")?;
            stops.push(capture.stopped_ns.unwrap_or_default() / 1000);
            sizes = (capture.stopped_bytes.unwrap_or_default(), output.stdout.len());
        }
        // The first run warms the page cache.
        let (min, median, max) = spread(stops.split_off(1));
        let (_, wall, _) = spread(walls.split_off(1));
        println!("| {name} | {min} | {median} | {max} | {:.1} | {} | {} |", wall as f64 / 1000.0, sizes.0, sizes.1);
    }
    Ok(())
}

/// Minimum, median and maximum.
pub(crate) fn spread<T: Ord + Copy + Default>(mut values: Vec<T>) -> (T, T, T) {
    values.sort_unstable();
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

/// A Python process that is ended when it goes out of scope.
pub(crate) struct Target(Child);

impl Target {
    pub(crate) fn start(python: &str, program: &str) -> Result<Target> {
        let program = format!("import time, threading\n{program}");
        let child = Command::new(python).args(["-c", &program]).stdout(Stdio::piped()).spawn()?;
        let mut target = Target(child);
        let mut line = String::new();
        if let Some(stdout) = target.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        ensure!(line.trim() == "ready", "{python} did not run the target");
        Ok(target)
    }
}

impl Target {
    /// Its pid.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
