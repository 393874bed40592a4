//! The two C programs of the benchmark, and what they answer: the probe in the target, and the floor.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// When a thread of the target was stopped, as the probe saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stops {
    /// The longest time, in nanoseconds.
    pub(crate) longest: u64,
    /// All of them together.
    pub(crate) total: u64,
    /// How many there were.
    pub(crate) count: u64,
}

/// Reads the probe's answer.
pub(crate) fn parse(answer: &str) -> Option<Stops> {
    let [longest, total, count] = numbers(answer)?;
    (longest <= total && (count > 0) == (total > 0)).then_some(Stops { longest, total, count })
}

/// Reads what the floor prints: nanoseconds, and the bytes read meanwhile.
pub(crate) fn parse_floor(answer: &str) -> Option<(u64, u64)> {
    let [nanoseconds, bytes] = numbers(answer)?;
    Some((nanoseconds, bytes))
}

/// As many numbers as are wanted, and nothing else.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(u64::from_str).collect();
    numbers.ok()?.try_into().ok()
}

/// The two, compiled.
pub(crate) struct Programs {
    pub(crate) probe: PathBuf,
    pub(crate) floor: PathBuf,
}

impl Programs {
    /// Compiles them into a folder.
    pub(crate) fn compile(folder: &Path) -> Result<Programs> {
        let of = |name: &str, text: &str, options: &[&str]| -> Result<PathBuf> {
            let (source, output) = (folder.join(format!("{name}.c")), folder.join(name));
            fs::write(&source, text)?;
            let mut command = Command::new("cc");
            command.args(["-O2", "-pthread"]).args(options).arg("-o").arg(&output).arg(&source).stdin(Stdio::null());
            let status = command.status().context("cannot run cc: Debian has it in gcc")?;
            ensure!(status.success(), "{command:?} failed: {status}");
            Ok(output)
        };
        let probe = of("probe.so", include_str!("probe.c"), &["-shared", "-fPIC"])?;
        Ok(Programs { probe, floor: of("floor", include_str!("floor.c"), &[])? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_says_the_longest_stop_their_sum_and_their_number() {
        assert_eq!(parse("120 150 2\n"), Some(Stops { longest: 120, total: 150, count: 2 }));
        assert_eq!(parse("0 0 0"), Some(Stops { longest: 0, total: 0, count: 0 }));
    }

    #[test]
    fn what_the_probe_cannot_have_said_is_refused() {
        for answer in ["", "watching", "120 150", "120 150 2 1", "150 120 2", "120 150 0", "-1 0 0", "1 x 1"] {
            assert_eq!(parse(answer), None, "{answer}");
        }
    }

    #[test]
    fn the_floor_says_time_and_bytes() {
        assert_eq!(parse_floor("31000 4096\n"), Some((31000, 4096)));
        assert_eq!(parse_floor("31000"), None);
    }
}
