//! The target is after a capture what it was before: every byte of its memory, its signals, files, limits and priorities.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Scenario, Target, grab, representatives, wait_until};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More of one mapping is not compared: no target here has as much that is mapped and readable.
const MAX_MAPPING: u64 = 256 << 20;

/// What changes without anybody's doing: how often threads were switched, how many signals all processes of its user have
/// pending, and what of files is mapped at the moment, which reading them adds to.
const COUNTED: &[&str] = &[
    "voluntary_ctxt_switches",
    "nonvoluntary_ctxt_switches",
    "SigQ",
    "VmRSS",
    "VmHWM",
    "RssFile",
    "RssShmem",
    "VmPTE",
];

#[test]
fn a_stopped_target_is_the_same_to_the_byte_after_captures() {
    let scenario = Scenario::new("nothing changed: memory and all else");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            target.signal(Signal::SIGSTOP)?;
            target.wait_for_state('T')?;
            wait_until("all threads to stop", 20, || all_stopped(target.pid()).then_some(()))?;
            let (before, memory) = (Facts::of(target.pid())?, memory(target.pid())?);
            ensure!(memory.values().map(Vec::len).sum::<usize>() > 1 << 20, "hardly any memory was read");
            ensure!(before.0.len() > 8 * 20, "hardly anything is known: {}", before.0.len());
            for mode in
                [&[][..], &["--locals"], &["--exhaustive"], &["--python-only"], &["--debug-info"], &["--no-block"]]
            {
                let pid = target.pid().to_string();
                grab(mode.iter().copied().chain([pid.as_str()]))?.expect_status(0)?;
                // Let go by its tracer, a thread runs for the moment that it takes to stop again.
                wait_until("all threads to be stopped", 20, || all_stopped(target.pid()).then_some(()))?;
                Facts::of(target.pid())?.are(&before).with_context(|| format!("{mode:?}"))?;
                let now = self::memory(target.pid())?;
                let changed: Vec<&String> =
                    memory.iter().filter(|(map, is)| now.get(*map) != Some(*is)).map(|(map, _)| map).collect();
                ensure!(changed.is_empty() && now.len() == memory.len(), "{mode:?} changed {changed:?}");
            }
            target.signal(Signal::SIGCONT)?;
            target.wait_for_state('S')
        });
    }
    scenario.finish();
}

fn all_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    statuses.all(|status| status.contains("State:\tT (stopped)"))
}

/// Each mapping that can be read, by its line in `maps`.
fn memory(pid: u32) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = File::open(format!("/proc/{pid}/mem"))?;
    let mut memory = BTreeMap::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (start, end) = range.split_once('-').context("no range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        // What the kernel maps into each process has clocks in it, and cannot be read.
        if !rights.starts_with('r') || line.contains("[v") || end - start > MAX_MAPPING {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start)?];
        file.read_exact_at(&mut bytes, start).with_context(|| format!("reading {line}"))?;
        memory.insert(line.to_owned(), bytes);
    }
    Ok(memory)
}

/// What `/proc` says of a process and of each of its threads, by a name.
#[derive(PartialEq, Eq)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    fn of(pid: u32) -> Result<Facts> {
        let process = Path::new("/proc").join(pid.to_string());
        let mut facts = Facts(BTreeMap::new());
        for name in [
            "maps",
            "limits",
            "cgroup",
            "mounts",
            "environ",
            "cmdline",
            "oom_score_adj",
            "coredump_filter",
            "personality",
            "timers",
            "autogroup",
        ] {
            facts.file(&process, name);
        }
        for name in ["cwd", "root", "exe"] {
            let link = fs::read_link(process.join(name))?;
            facts.0.insert(name.to_owned(), link.to_string_lossy().into_owned());
        }
        for entry in fs::read_dir(process.join("fd"))?.flatten() {
            let link = fs::read_link(entry.path())?;
            facts.0.insert(format!("fd {}", entry.file_name().display()), link.to_string_lossy().into_owned());
            facts.file(&process.join("fdinfo"), &entry.file_name().to_string_lossy());
        }
        for task in fs::read_dir(process.join("task"))? {
            let task = task?.path();
            for name in ["comm", "timerslack_ns", "cpuset", "io"] {
                facts.file(&task, name);
            }
            facts.status(&task)?;
            facts.stat(&task)?;
        }
        Ok(facts)
    }

    /// A file that not every kernel has.
    fn file(&mut self, folder: &Path, name: &str) {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            self.0.insert(format!("{}/{name}", folder.display()), String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    /// State, ids, signals pending, blocked, ignored and caught, capabilities, processors it may run on, memory.
    fn status(&mut self, task: &Path) -> Result<()> {
        for line in fs::read_to_string(task.join("status"))?.lines() {
            let (name, value) = line.split_once(':').context("no colon")?;
            if !COUNTED.contains(&name) {
                self.0.insert(format!("{}/status {name}", task.display()), value.trim().to_owned());
            }
        }
        Ok(())
    }

    /// Priority, nice value, real-time priority and policy.
    fn stat(&mut self, task: &Path) -> Result<()> {
        let stat = fs::read_to_string(task.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("malformed stat")?.1.split(' ').collect();
        for (name, field) in [("priority", 15), ("nice", 16), ("real-time priority", 37), ("policy", 38)] {
            let value = fields.get(field).with_context(|| format!("no {name}"))?;
            self.0.insert(format!("{}/stat {name}", task.display()), (*value).to_owned());
        }
        Ok(())
    }

    fn are(&self, before: &Facts) -> Result<()> {
        let names = self.0.keys().chain(before.0.keys());
        for name in names {
            let (was, is) = (before.0.get(name), self.0.get(name));
            ensure!(was == is, "{name}: {was:?} before, {is:?} after");
        }
        Ok(())
    }
}
