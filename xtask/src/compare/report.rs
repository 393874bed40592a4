//! The results as Markdown.

use super::aims::Aim;
use super::growth::{self, Grown};
use super::measure::machine;
use super::results::{Cell, Measured};
use super::rounds::Bench;
use super::statistics::{Sample, ratio, short};
use super::tools::{Kind, Mode};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The whole section.
pub(crate) fn render(
    root: &Path,
    bench: &Bench,
    measured: &[Measured],
    grown: &[Grown],
    failed: &[String],
) -> Result<String> {
    let mut text = String::new();
    let (machine, rounds) = (machine(), bench.rounds);
    writeln!(
        text,
        "{machine}; pyst as of {}. Medians of {rounds} rounds, least and greatest in brackets.\n",
        commit(root)
    )?;
    commands(&mut text, bench)?;
    summary(&mut text, measured)?;
    let mut interpreters: Vec<&str> = measured.iter().map(|one| one.interpreter.as_str()).collect();
    interpreters.dedup();
    for interpreter in interpreters {
        let of: Vec<&Measured> = measured.iter().filter(|one| one.interpreter == interpreter).collect();
        writeln!(text, "### Python {interpreter}\n")?;
        tables(&mut text, &of)?;
    }
    if !grown.is_empty() {
        growth::render(&mut text, grown)?;
    }
    shortcomings(&mut text, measured)?;
    for what in failed {
        writeln!(text, "Not measured: {what}.\n")?;
    }
    Ok(text)
}

/// The commit that is measured.
fn commit(root: &Path) -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root).output();
    let name = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "an unknown commit".to_owned())
}

fn commands(text: &mut String, bench: &Bench) -> Result<()> {
    row(text, std::iter::once("").chain(Mode::ALL.map(Mode::name)))?;
    rule(text, Mode::ALL.len() + 1)?;
    for tool in bench.tools {
        let commands = Mode::ALL.map(|mode| tool.kind.command(mode));
        let cells =
            commands.map(|command| command.map_or_else(none, |command| format!("`{}`", command.replace('|', "\\|"))));
        row(text, std::iter::once(format!("{} {}", tool.kind.name(), tool.version)).chain(cells))?;
    }
    writeln!(text)?;
    Ok(())
}

/// Each aim, and where it is missed.
fn summary(text: &mut String, measured: &[Measured]) -> Result<()> {
    writeln!(text, "### The aims\n")?;
    row(text, ["aim", "met", "missed"])?;
    rule(text, 3)?;
    for aim in Aim::ALL {
        let all = measured.iter().flat_map(|one| Mode::ALL.map(|mode| (one, mode)));
        let judged = all.filter_map(|(one, mode)| Some((one, mode, aim.judge(one, mode)?)));
        let asked: Vec<_> = judged.filter(|(_, _, judged)| judged.limit.is_some()).collect();
        let missed = asked.iter().filter(|(_, _, judged)| !judged.is_met());
        let missed: Vec<String> = missed
            .map(|(one, mode, judged)| {
                let release = one.interpreter.split(' ').next().unwrap_or_default();
                format!("{release}, {}, {}: {}", one.target, mode.name(), short(judged.value))
            })
            .collect();
        let met = format!("{} of {}", asked.len() - missed.len(), asked.len());
        row(text, [aim.text().to_owned(), met, missed.join("; ")])?;
    }
    writeln!(text)?;
    Ok(())
}

fn tables(text: &mut String, measured: &[&Measured]) -> Result<()> {
    table(text, "Ratios", measured, Aim::ALL.map(Aim::title), |one, mode| {
        Aim::ALL.map(|aim| aim.judge(one, mode).map_or_else(none, |judged| judged.text()))
    })?;
    table(text, "Longest stop, ms", measured, ["pyst", "floor", "PyStack", "py-spy", "austin"], |one, mode| {
        let [pyst, pystack, pyspy, austin] = Kind::ALL.map(|kind| of_cell(one, mode, kind, |cell| cell.stop.spread()));
        [pyst, of_stop(one, mode, |stop| stop.floor.spread()), pystack, pyspy, austin]
    })?;
    table(text, "Wall time, ms", measured, Kind::ALL.map(Kind::name), |one, mode| {
        Kind::ALL.map(|kind| of_cell(one, mode, kind, |cell| cell.wall.spread()))
    })?;
    table(text, "CPU time, ms", measured, Kind::ALL.map(Kind::name), |one, mode| {
        Kind::ALL.map(|kind| of_cell(one, mode, kind, |cell| cell.processor.spread()))
    })?;
    table(
        text,
        "Peak resident memory, MiB; of pyst's tools in turn",
        measured,
        Kind::ALL.map(Kind::name),
        |one, mode| Kind::ALL.map(|kind| of_cell(one, mode, kind, |cell| peaks(cell, |peak| peak.resident))),
    )?;
    table(
        text,
        "Written, KiB; of pyst the snapshot and the text",
        measured,
        Kind::ALL.map(Kind::name),
        |one, mode| {
            Kind::ALL.map(|kind| {
                let printed = of_cell(one, mode, kind, |cell| short(cell.printed as f64 / 1024.0));
                let snapshot = of_stop(one, mode, |stop| kib(&stop.size));
                if kind == Kind::Pyst { format!("{snapshot} {printed}") } else { printed }
            })
        },
    )?;
    let columns =
        ["read in the stop, KiB", "used of that", "whole stop, ms", "that of the floor", "ratio", "memory, MiB"];
    let title = "pyst's stop by its own clock, and the anonymous memory of its tools in turn";
    table(text, title, measured, columns, |one, mode| {
        [
            of_stop(one, mode, |stop| kib(&stop.read)),
            of_stop(one, mode, |stop| kib(&stop.kept)),
            of_stop(one, mode, |stop| stop.own.spread()),
            of_stop(one, mode, |stop| stop.floor_own.spread()),
            of_stop(one, mode, |stop| ratio(&stop.own, &stop.floor_own).map_or_else(none, short)),
            of_cell(one, mode, Kind::Pyst, |cell| peaks(cell, |peak| peak.anonymous)),
        ]
    })?;
    writeln!(text, "While nothing looked at the target, the longest stop that the probe saw was, in ms:")?;
    let noise = measured.iter().map(|one| format!("{}: {}", one.target, one.noise.spread()));
    writeln!(text, "{}.\n", noise.collect::<Vec<_>>().join("; "))?;
    Ok(())
}

fn kib(sample: &Sample) -> String {
    sample.median().map_or_else(none, |bytes| short(bytes / 1024.0))
}

/// A table with a row for each target and mode.
fn table<const N: usize>(
    text: &mut String,
    title: &str,
    measured: &[&Measured],
    columns: [&str; N],
    cells: impl Fn(&Measured, Mode) -> [String; N],
) -> Result<()> {
    writeln!(text, "{title}:\n")?;
    row(text, ["target", ""].into_iter().chain(columns))?;
    rule(text, N + 2)?;
    for one in measured {
        for mode in Mode::ALL {
            row(text, [one.target.clone(), mode.name().to_owned()].into_iter().chain(cells(one, mode)))?;
        }
    }
    writeln!(text)?;
    Ok(())
}

fn of_cell(one: &Measured, mode: Mode, kind: Kind, show: impl Fn(&Cell) -> String) -> String {
    one.cells.get(&(mode, kind)).map_or_else(none, show)
}

fn of_stop(one: &Measured, mode: Mode, show: impl Fn(&super::results::Stop) -> String) -> String {
    one.stops.get(&mode).map_or_else(none, show)
}

fn peaks(cell: &Cell, of: fn(&super::measure::Peak) -> u64) -> String {
    let mib: Vec<String> = cell.peaks.iter().map(|peak| short(of(peak) as f64 / f64::from(1 << 20))).collect();
    if mib.is_empty() { none() } else { mib.join(" ") }
}

/// What the tools did not do.
fn shortcomings(text: &mut String, measured: &[Measured]) -> Result<()> {
    writeln!(text, "### What a tool did not show\n")?;
    row(text, ["Python", "target", "tool", "", "what is missing"])?;
    rule(text, 5)?;
    for one in measured {
        for ((mode, kind), cell) in &one.cells {
            let failed = cell.failures.as_ref().map(|(first, runs)| format!("failed {runs} times: {first}"));
            let all: Vec<String> = cell.missing.clone().into_iter().chain(failed).collect();
            if !all.is_empty() {
                row(text, [&one.interpreter, &one.target, kind.name(), mode.name(), &all.join("; ")])?;
            }
        }
        for what in &one.left_stopped {
            row(text, [&one.interpreter, &one.target, what, "", "it left the target stopped"])?;
        }
    }
    Ok(())
}

pub(crate) fn row(text: &mut String, cells: impl IntoIterator<Item = impl AsRef<str>>) -> Result<()> {
    for cell in cells {
        write!(text, "| {} ", cell.as_ref())?;
    }
    writeln!(text, "|")?;
    Ok(())
}

pub(crate) fn rule(text: &mut String, columns: usize) -> Result<()> {
    writeln!(text, "{}|", "|---".repeat(columns))?;
    Ok(())
}

pub(crate) fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::results::Stop;
    use super::*;

    fn once(value: f64) -> Sample {
        let mut sample = Sample::default();
        sample.push(value);
        sample
    }

    /// pyst stops its target for three times the floor, and PyStack fails.
    fn measured() -> Measured {
        let mut one = Measured { interpreter: "3.12.1 (x)".into(), target: "1 thread".into(), ..Measured::default() };
        one.cells.insert((Mode::Python, Kind::Pyst), Cell { stop: once(3.0), wall: once(2.5), ..Cell::default() });
        let mut cell = Cell { missing: Some("0 of 1 frames".to_owned()), ..Cell::default() };
        cell.fail(Some("pystack: exit status: 1".to_owned()));
        cell.fail(Some("pystack: another reason".to_owned()));
        one.cells.insert((Mode::Python, Kind::PyStack), cell);
        one.stops.insert(Mode::Python, Stop { floor: once(1.0), ..Stop::default() });
        one
    }

    #[test]
    fn a_missed_aim_says_where_and_by_how_much() {
        let mut text = String::new();
        summary(&mut text, &[measured()]).unwrap();
        assert!(text.contains(
            "| the longest stop is at most 1.5 times the floor | 0 of 1 | 3.12.1, 1 thread, Python only: 3.00 |"
        ));
        assert!(text.contains("| PyStack's longest stop is at least 20 times as long | 0 of 0 |  |"));
    }

    #[test]
    fn what_was_not_measured_has_a_dash_in_its_place() {
        let mut text = String::new();
        tables(&mut text, &[&measured()]).unwrap();
        assert!(text.contains("| 1 thread | Python only | 2.50 (2.50–2.50) | – | – | – |"));
        assert!(text.contains("| 1 thread | native | – | – | – | – |"));
        let columns = |line: &str| line.matches('|').count();
        let is_even =
            |lines: &[&str]| !lines.iter().all(|line| line.starts_with('|')) || columns(lines[0]) == columns(lines[1]);
        assert!(text.lines().collect::<Vec<_>>().windows(2).all(is_even));
    }

    #[test]
    fn what_a_tool_did_not_show_and_how_often_it_failed_is_listed() {
        let mut text = String::new();
        shortcomings(&mut text, &[measured()]).unwrap();
        let row = "| PyStack | Python only | 0 of 1 frames; failed 2 times: pystack: exit status: 1 |";
        assert!(text.contains(row), "{text}");
    }
}
