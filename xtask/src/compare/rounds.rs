//! The rounds: every tool does everything once, in turn, so that what else the machine does falls on all alike.

use super::measure::{Output, Processors, run, run_watching_memory};
use super::output::missing;
use super::probe::Programs;
use super::results::{Cell, Measured};
use super::snapshot::{Taken, run_floor};
use super::targets::{Program, Target};
use super::tools::{Kind, Mode, Tool};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How many runs are watched for their memory, which changes little from run to run.
const MEMORY_RUNS: usize = 3;

/// What all rounds need.
pub(crate) struct Bench<'a> {
    pub(crate) tools: &'a [Tool],
    pub(crate) programs: &'a Programs,
    pub(crate) processors: &'a Processors,
    pub(crate) scratch: &'a Path,
    pub(crate) rounds: usize,
}

/// One tool, and what it is asked.
type Entry<'a> = (&'a Tool, Mode);

impl Bench<'_> {
    /// Measures all tools on one target; `name` is for whoever waits.
    pub(crate) fn measure(&self, target: &mut Target, program: &Program, name: &str) -> Result<Measured> {
        let mut measured = Measured { target: program.name.clone(), threads: program.threads, ..Measured::default() };
        let mut entries = self.entries(target.pid());
        // The first runs warm the page cache, too.
        entries.retain(|(tool, mode)| {
            let cell = self.first_run(target, program, (tool, *mode));
            let cell = cell.unwrap_or_else(|error| Cell {
                failures: Some((format!("{error:#}"), 1)),
                missing: Some("all".to_owned()),
                ..Cell::default()
            });
            let is_useful = !cell.is_useless();
            measured.cells.insert((*mode, tool.kind), cell);
            is_useful
        });
        for round in 1..=self.rounds {
            eprintln!("{name}, {}: round {round} of {}", program.name, self.rounds);
            for entry in &entries {
                self.stop(target, *entry, &mut measured)?;
            }
            let ((), idle) = target.watch(|| self.idle())?;
            measured.noise.push(milliseconds(idle.longest));
            for entry in &entries {
                self.time(target, *entry, &mut measured)?;
            }
        }
        for _ in 0..MEMORY_RUNS.min(self.rounds) {
            for (tool, mode) in &entries {
                let mut pipeline = tool.pipeline(*mode, target.pid()).unwrap_or_default();
                let peaks = run_watching_memory(&mut pipeline)?;
                let cell = measured.cells.entry((*mode, tool.kind)).or_default();
                cell.peaks.resize(peaks.len(), Default::default());
                for (most, peak) in cell.peaks.iter_mut().zip(peaks) {
                    most.anonymous = most.anonymous.max(peak.anonymous);
                    most.resident = most.resident.max(peak.resident);
                }
            }
        }
        Ok(measured)
    }

    /// What is measured: by mode, so that the tools which do the same thing follow each other.
    fn entries(&self, pid: u32) -> Vec<Entry<'_>> {
        let all = Mode::ALL.into_iter().flat_map(|mode| self.tools.iter().map(move |tool| (tool, mode)));
        all.filter(|(tool, mode)| tool.pipeline(*mode, pid).is_some()).collect()
    }

    /// A run whose output is looked at.
    fn first_run(&self, target: &Target, program: &Program, (tool, mode): Entry) -> Result<Cell> {
        let path = self.scratch.join("output");
        let mut pipeline = tool.pipeline(mode, target.pid()).unwrap_or_default();
        let cost = run(&mut pipeline, &Output::File(&File::create(&path)?))?;
        let text = fs::read(&path)?;
        let missing = missing(&String::from_utf8_lossy(&text), program, mode);
        let mut cell = Cell { printed: text.len().try_into()?, missing, ..Cell::default() };
        cell.fail(cost.failure);
        target.was_left_stopped()?;
        Ok(cell)
    }

    /// How long the target is stopped; after pyst, the floor of the same stop.
    fn stop(&self, target: &mut Target, (tool, mode): Entry, measured: &mut Measured) -> Result<()> {
        let pid = target.pid();
        let mut pipeline = tool.pipeline(mode, pid).unwrap_or_default();
        let path = self.scratch.join("snapshot");
        if tool.kind == Kind::Pyst {
            // The others never see the target, and would share what processor the probe leaves with pyst-grab.
            pipeline.truncate(1);
        }
        let file = File::create(&path)?;
        let output = if tool.kind == Kind::Pyst { Output::File(&file) } else { Output::Nowhere };
        let (cost, stops) = target.watch(|| self.processors.away_from_probe(|| run(&mut pipeline, &output)))?;
        let cell = measured.cells.entry((mode, tool.kind)).or_default();
        cell.stop.push(milliseconds(stops.longest));
        cell.fail(cost.failure);
        if target.was_left_stopped()? {
            measured.left_stopped.push(format!("{}, {}", tool.kind.name(), mode.name()));
        }
        if tool.kind == Kind::Pyst {
            let taken = Taken::read(&path).context("pyst-grab's snapshot")?;
            let command = taken.floor(&self.programs.floor, pid, self.scratch)?;
            let (own, floor) = target.watch(|| self.processors.away_from_probe(|| run_floor(command)))?;
            let stop = measured.stops.entry(mode).or_default();
            stop.own.push(milliseconds(taken.stopped));
            stop.read.push(taken.read as f64);
            stop.kept.push(taken.kept as f64);
            stop.size.push(taken.size as f64);
            stop.floor.push(milliseconds(floor.longest));
            stop.floor_own.push(milliseconds(own));
        }
        Ok(())
    }

    /// What the probe sees of a program that leaves the target alone.
    fn idle(&self) -> Result<()> {
        self.processors.away_from_probe(|| run(&mut [Command::new("true")], &Output::Nowhere)).map(drop)
    }

    /// How long the whole pipeline takes, on all processors, and how much of them.
    fn time(&self, target: &Target, (tool, mode): Entry, measured: &mut Measured) -> Result<()> {
        let mut pipeline = tool.pipeline(mode, target.pid()).unwrap_or_default();
        let cost = run(&mut pipeline, &Output::Nowhere)?;
        let cell = measured.cells.entry((mode, tool.kind)).or_default();
        cell.wall.push(of(cost.wall));
        cell.processor.push(of(cost.processor));
        cell.fail(cost.failure);
        target.was_left_stopped().map(drop)
    }
}

pub(crate) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn of(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
