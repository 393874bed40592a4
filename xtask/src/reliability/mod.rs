//! How often a capture does harm: pyst-grab killed at random moments, a busy program captured again and again that checks itself,
//! frames read without a stop of threads that never stand still, and storms of signals.
//!
//! What harm is, the targets say themselves, and the kernel. Any harm, and any stack that cannot have been, fails the command.

mod busy;
mod kill;
mod sampling;
mod signals;
mod target;
mod unblocked;

use crate::build;
use crate::page::{self, PAGE};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What to run, and how often; what is not named is left out if anything is.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Kill pyst-grab at this many random moments [default: 1000]
    #[arg(long, value_name = "N")]
    kill: Option<usize>,
    /// Capture a busy program with 50 threads that checks itself as often [default: 10000]
    #[arg(long, value_name = "N")]
    busy: Option<usize>,
    /// Read as many stacks, without a stop, of threads that alternate two chains of calls [default: 100000]
    #[arg(long, value_name = "N")]
    no_block: Option<usize>,
    /// Capture a program in a storm of signals as often; every other pyst-grab is killed [default: 1000]
    #[arg(long, value_name = "N")]
    signals: Option<usize>,
    /// The interpreter of the targets
    #[arg(long, default_value = "python3")]
    python: String,
    /// Run the tools in this folder instead of building them
    #[arg(long, value_name = "FOLDER")]
    tools: Option<PathBuf>,
    /// What chance begins with; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// What all parts need.
struct Bench<'a> {
    root: &'a Path,
    tools: PathBuf,
    folder: tempfile::TempDir,
    python: &'a str,
    random: Random,
}

impl Bench<'_> {
    fn tool(&self, name: &str) -> Command {
        Command::new(self.tools.join(name))
    }
}

/// What one part found: a row of the page.
struct Finding {
    what: String,
    result: String,
    /// Whether nothing was harmed, and nothing wrong.
    well: bool,
}

type Part<'a> = fn(&mut Bench<'a>, usize) -> Result<Finding>;

/// Runs the parts, and writes the page if they were all run as often as by default, or more.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let seed =
        options.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()));
    println!("seed: {seed}");
    let version = Command::new(&options.python).arg("-V").output().context("no such Python")?;
    let version = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).trim().to_owned();
    let tools = options.tools.clone().map_or_else(|| build::static_tools(root), Ok)?;
    let mut bench = Bench { root, tools, folder: tempfile::tempdir()?, python: &options.python, random: Random(seed) };
    let parts: [(Option<usize>, usize, Part<'_>); 4] = [
        (options.kill, 1000, kill::run),
        (options.busy, 10_000, busy::run),
        (options.no_block, 100_000, unblocked::run),
        (options.signals, 1000, signals::run),
    ];
    let all = parts.iter().all(|(times, ..)| times.is_none());
    let whole =
        parts.iter().all(|(times, default, _)| if all { true } else { times.is_some_and(|times| times >= *default) });
    let mut findings = Vec::new();
    for (times, default, part) in parts {
        let Some(times) = times.or(all.then_some(default)).filter(|times| *times > 0) else { continue };
        let began = Instant::now();
        let finding = part(&mut bench, times)?;
        let verdict = if finding.well { "unharmed" } else { "HARMED" };
        println!("{}: {} ({verdict}; {} s)", finding.what, finding.result, began.elapsed().as_secs());
        findings.push(finding);
    }
    if whole {
        let rows: String =
            findings.iter().map(|finding| format!("| {} | {} |\n", finding.what, finding.result)).collect();
        let content =
            format!("{}, {version}, seed {seed}.\n\n| what was done | what came of it |\n|---|---|\n{rows}", machine());
        page::write_section(root, "reliability", &content)?;
        println!("written to {PAGE}");
    }
    let harmed: Vec<&str> =
        findings.iter().filter(|finding| !finding.well).map(|finding| finding.what.as_str()).collect();
    ensure!(harmed.is_empty(), "harm was done: {harmed:?}");
    Ok(())
}

/// The machine, in a few words.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("", |(_, model)| model);
    format!("{} processors {model}, Linux {}", processors, kernel.trim())
}

/// SplitMix64: the same everywhere for a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
