//! What arguments and locals add to the stop: the same captures without them and with them, one after the other.
//!
//! A benchmark and no test: nothing here fails because of a time. It does fail where the tool needs more memory of its own
//! than it may, for that does not depend on the machine.

use crate::bench::{Target, spread};
use crate::build;
use anyhow::{Context, Result, ensure};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::Capture;
use std::path::Path;
use std::process::Command;

/// How much anonymous memory the tool may have, in KiB.
const MEMORY: u64 = 32 << 10;

/// What the targets sleep in, with values as locals.
const TARGETS: [(&str, &str); 6] = [
    ("1 thread, 5 frames", "f = lambda n: f(n - 1) if n else wait()\nf(4)"),
    (
        "50 threads",
        "def work(job, retries=3):\n    batch = list(range(job)); state = {'phase': 'wait', 'left': len(batch)}\n    time.sleep(1000)\nfor n in range(49): threading.Thread(target=work, args=(n,), daemon=True).start()\nwait()",
    ),
    (
        "900 frames deep",
        "def f(n, a='text', *b, **c):\n    d = [n, a]\n    return f(n - 1, a, d) if n else wait()\nf(900)",
    ),
    (
        "list of 200 million items",
        "def f():\n    big = [None] * 200_000_000\n    big[:1000] = range(1000)\n    wait()\nf()",
    ),
    ("bytes of 1 GiB", "def f():\n    big = b'x' * (1 << 30)\n    wait()\nf()"),
    ("dict of 20 million keys", "def f():\n    big = dict.fromkeys(range(20_000_000))\n    wait()\nf()"),
];

/// Captures each target `runs` times each way, and prints the median stops and what they are to each other.
pub(crate) fn run(root: &Path, python: &str, runs: usize) -> Result<()> {
    ensure!(runs > 0, "at least one run");
    let tools = build::tools(root)?;
    let version = Command::new(python).arg("-V").output().context("no such Python")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    println!("| target | median stop µs | with locals | ratio | bytes read in the stop | with locals |");
    println!("|---|---|---|---|---|---|");
    for (name, program) in TARGETS {
        let wait = "def wait():\n    print('ready', flush=True)\n    time.sleep(1000)";
        let target = Target::start(python, &format!("{wait}\n{program}"))?;
        let mut stops = [Vec::new(), Vec::new()];
        let mut bytes = [0, 0];
        // The first runs warm the page cache. Turn by turn, so that what else the machine does counts for both.
        for run in 0..=runs {
            for (way, options) in [&[][..], &["--locals"][..]].into_iter().enumerate() {
                let capture = capture(&tools, target.id(), options)?;
                if let (Some(stops), Some(bytes), true) = (stops.get_mut(way), bytes.get_mut(way), run > 0) {
                    stops.push(capture.stopped_ns.unwrap_or_default() / 1000);
                    *bytes = capture.stopped_bytes.unwrap_or_default();
                }
            }
        }
        let [(_, without, _), (_, with, _)] = stops.map(spread);
        let [bytes_without, bytes_with] = bytes;
        println!(
            "| {name} | {without} | {with} | {:.2} | {bytes_without} | {bytes_with} |",
            with as f64 / without.max(1) as f64
        );
    }
    Ok(())
}

/// Captures with no more memory than the tool may have.
fn capture(tools: &Path, pid: u32, options: &[&str]) -> Result<Capture> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {MEMORY}; exec \"$0\" \"$@\"")]).arg(tools.join("pyst-grab"));
    let output = command.args(options).arg(pid.to_string()).output()?;
    ensure!(output.status.success(), "pyst-grab failed: {}", String::from_utf8_lossy(&output.stderr));
    let snapshot = StreamReader::new(output.stdout.as_slice()).next().context("no snapshot")??;
    snapshot.get::<Capture>()?.context("no capture section")
}
