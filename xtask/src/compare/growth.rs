//! How time and memory of pyst grow with the target: that is to be linear.

use super::aims::memory_bound;
use super::interpreters::Interpreter;
use super::measure::{Output, run, run_watching_memory};
use super::report::{none, row, rule};
use super::rounds::{Bench, milliseconds};
use super::snapshot::{Taken, run_floor};
use super::statistics::{Sample, short};
use super::targets::{Program, Target, deep, threads};
use super::tools::{Kind, Mode, Tool};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs::File;

/// Large targets take long, and vary little.
const ROUNDS: usize = 5;

/// A stop of this size can take longer than one should by default.
pub(crate) const UNLIMITED: [&str; 2] = ["--stop-limit", "5000"];

/// What grows, each in three sizes.
pub(crate) fn programs() -> [[Program; 3]; 2] {
    [[threads(50), threads(500), threads(5000)], [deep(1000), deep(10_000), deep(100_000)]]
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
    pub(crate) memory: Sample,
    pub(crate) failure: Option<String>,
}

impl Grown {
    /// Whether this is a larger size of the same thing.
    fn is_larger(&self, other: &Grown) -> bool {
        let kind = |one: &Grown| {
            (one.interpreter.clone(), one.mode, one.target.split_once(' ').map(|(_, what)| what.to_owned()))
        };
        kind(self) == kind(other) && self.units > other.units
    }
}

/// Measures one size.
pub(crate) fn measure(bench: &Bench, interpreter: &Interpreter, program: &Program) -> Result<Vec<Grown>> {
    let pyst = bench.tools.iter().find(|tool| tool.kind == Kind::Pyst).context("pyst itself is there")?;
    eprintln!("{}, growth: {}", interpreter.name, program.name);
    let probe = &bench.programs.probe;
    let target = Target::start(interpreter, program, probe, bench.processors.probe, bench.scratch)?;
    let of = |mode| measure_mode(bench, pyst, &target, mode);
    let sizes = [Mode::Python, Mode::Native].map(of).into_iter().collect::<Result<Vec<Grown>>>()?;
    let named = |one| Grown {
        interpreter: interpreter.name.clone(),
        target: program.name.clone(),
        units: program.deep.max(program.threads) as f64,
        ..one
    };
    Ok(sizes.into_iter().map(named).collect())
}

fn measure_mode(bench: &Bench, pyst: &Tool, target: &Target, mode: Mode) -> Result<Grown> {
    let mut grown = Grown { mode: Some(mode), ..Grown::default() };
    let pipeline = || {
        let mut pipeline = pyst.pipeline(mode, target.pid()).unwrap_or_default();
        if let Some(grab) = pipeline.first_mut() {
            grab.args(UNLIMITED);
        }
        pipeline
    };
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
    grown.memory.push(peaks.iter().map(|peak| peak.anonymous).max().unwrap_or_default() as f64);
    Ok(grown)
}

/// The table, and how much more each thread or frame takes in a target that is ten times as large.
pub(crate) fn render(text: &mut String, grown: &[Grown]) -> Result<()> {
    writeln!(text, "### Growth\n")?;
    writeln!(
        text,
        "With `pyst-grab {}`, by pyst-grab's and the floor's own clocks. Ratios are for each thread or frame, to the size before.\n",
        UNLIMITED.join(" ")
    )?;
    let columns = [
        "Python",
        "target",
        "",
        "stop, ms",
        "floor, ms",
        "stop each, µs",
        "ratio",
        "wall, ms",
        "wall each, µs",
        "ratio",
        "kept, KiB",
        "anonymous memory of the largest tool, MiB",
        "each, bytes",
        "ratio",
        "of its bound",
        "",
    ];
    row(text, columns)?;
    rule(text, columns.len())?;
    for one in grown {
        let before = grown.iter().rfind(|other| one.is_larger(other));
        let each = |of: fn(&Grown) -> &Sample, scale: f64| -> [String; 3] {
            let each = |one: &Grown| of(one).median().map(|all| all / one.units);
            let ratio = before.and_then(|before| Some(each(one)? / each(before)?));
            let number = |number: Option<f64>| number.map_or_else(none, short);
            [number(of(one).median()), number(each(one).map(|each| each * scale)), number(ratio)]
        };
        let [stop, stop_each, stop_ratio] = each(|one| &one.stop, 1e3);
        let [wall, wall_each, wall_ratio] = each(|one| &one.wall, 1e3);
        let [_, memory_each, memory_ratio] = each(|one| &one.memory, 1.0);
        let memory = one.memory.median().unwrap_or_default();
        let kept = one.kept.median().unwrap_or_default();
        let floor = one.floor.median().map_or_else(none, short);
        let mode = one.mode.map_or("", Mode::name).to_owned();
        let mib = short(memory / f64::from(1 << 20));
        let (kib, bound) = (short(kept / 1024.0), short(memory / memory_bound(kept)));
        let names = [one.interpreter.clone(), one.target.clone(), mode];
        let times = [stop, floor, stop_each, stop_ratio, wall, wall_each, wall_ratio];
        let sizes = [kib, mib, memory_each, memory_ratio, bound, one.failure.clone().unwrap_or_default()];
        row(text, names.into_iter().chain(times).chain(sizes))?;
    }
    writeln!(text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(target: &str, units: f64, stop: f64) -> Grown {
        let mut grown = Grown { target: target.to_owned(), units, mode: Some(Mode::Python), ..Grown::default() };
        grown.stop.push(stop);
        grown
    }

    #[test]
    fn a_size_is_told_beside_the_size_before_of_the_same_thing() {
        let all =
            [grown("50 threads", 50.0, 1.0), grown("500 threads", 500.0, 20.0), grown("1000 frames deep", 1000.0, 1.0)];
        let mut text = String::new();
        render(&mut text, &all).unwrap();
        assert!(text.contains("| 50 threads | Python only | 1.00 | – | 20.0 | – |"), "{text}");
        assert!(text.contains("| 500 threads | Python only | 20.0 | – | 40.0 | 2.00 |"), "{text}");
        assert!(text.contains("| 1000 frames deep | Python only | 1.00 | – | 1.00 | – |"), "{text}");
    }
}
