//! How time and memory of pyst grow with the target: that is to be linear.

use super::interpreters::Interpreter;
use super::measure::{Output, run, run_watching_memory};
use super::rounds::{Bench, milliseconds};
use super::snapshot::{Taken, run_floor};
use super::statistics::Sample;
use super::targets::{Program, Target, deep, threads};
use super::tools::{Kind, Mode};
use anyhow::{Context, Result};
use std::fs::File;

/// Large targets take long, and vary little.
const ROUNDS: usize = 5;

/// The least, some, and as many as there may be.
fn programs() -> [Program; 6] {
    [threads(50), threads(500), threads(5000), deep(1000), deep(10_000), deep(100_000)]
}

/// What one took. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grown {
    pub(crate) interpreter: String,
    pub(crate) target: String,
    /// How many threads or frames.
    pub(crate) units: f64,
    pub(crate) mode: Option<Mode>,
    /// By pyst-grab's own clock.
    pub(crate) stop: Sample,
    /// By the floor's.
    pub(crate) floor: Sample,
    pub(crate) wall: Sample,
    pub(crate) kept: Sample,
    /// The most memory of its own that one of the tools has.
    pub(crate) memory: f64,
    pub(crate) failure: Option<String>,
}

/// Measures all sizes.
pub(crate) fn measure(bench: &Bench, interpreter: &Interpreter) -> Result<Vec<Grown>> {
    let mut all = Vec::new();
    let pyst = bench.tools.iter().find(|tool| tool.kind == Kind::Pyst).context("pyst itself is there")?;
    for program in programs() {
        eprintln!("{}, growth: {}", interpreter.name, program.name);
        let target =
            Target::start(interpreter, &program, &bench.programs.probe, bench.processors.probe, bench.scratch)?;
        for mode in [Mode::Python, Mode::Native] {
            let mut grown = Grown {
                interpreter: interpreter.name.clone(),
                target: program.name.clone(),
                units: program.deep.max(program.threads) as f64,
                mode: Some(mode),
                ..Grown::default()
            };
            let pipeline = || pyst.pipeline(mode, target.pid()).unwrap_or_default();
            let path = bench.scratch.join("snapshot");
            // The first round warms up.
            for round in 0..=ROUNDS.min(bench.rounds) {
                let mut grab = pipeline();
                grab.truncate(1);
                run(&mut grab, &Output::File(&File::create(&path)?))?;
                let taken = Taken::read(&path)?;
                let floor = run_floor(taken.floor(&bench.programs.floor, target.pid(), bench.scratch)?)?;
                let cost = run(&mut pipeline(), &Output::Nowhere)?;
                if round == 0 {
                    continue;
                }
                grown.stop.push(milliseconds(taken.stopped));
                grown.floor.push(milliseconds(floor));
                grown.kept.push(taken.kept as f64);
                grown.wall.push(cost.wall.as_secs_f64() * 1e3);
                grown.failure = grown.failure.or(cost.failure);
            }
            let peaks = run_watching_memory(&mut pipeline())?;
            grown.memory = peaks.iter().map(|peak| peak.anonymous).max().unwrap_or_default() as f64;
            all.push(grown);
        }
    }
    Ok(all)
}
