//! The one thing that a stop does to a target: calls that return EINTR. Exactly those threads are named whose call did so, by the
//! program's own account.

use super::lacks;
use anyhow::{Context, Result, ensure};
use pyst_tests::{Program, Report, Scenario, build, report_of, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// Calls that the kernel is known to interrupt, and what the C library makes of them.
const INTERRUPTED: &[(&str, &str)] = &[
    ("epoll_wait", "epoll_wait"),
    ("epoll_wait_timeout", "epoll_wait"),
    ("epoll_pwait", "epoll_pwait"),
    ("semop", "semtimedop"),
    ("semtimedop", "semtimedop"),
    ("sigtimedwait", "rt_sigtimedwait"),
    ("sigwaitinfo", "rt_sigtimedwait"),
    ("recv_timeout", "recvfrom"),
];

/// Those that go on as if nothing had been.
const RESTARTED: &[&str] =
    &["nanosleep", "futex", "futex_timeout", "poll", "poll_timeout", "read", "recv", "pause", "waitpid"];

/// A program whose threads sleep in calls, by tid.
struct Sleepers {
    program: Program,
    names: BTreeMap<u32, String>,
}

impl Sleepers {
    fn start() -> Result<Sleepers> {
        let folder = tempfile::tempdir()?;
        let built = build("gcc", "interrupted.c", &["-O1", "-pthread"], folder.path())?;
        let program = Program::start(&mut Command::new(built), folder)?.context("the program ended at once")?;
        let lines = program.said.iter().filter_map(|line| line.strip_prefix("thread ")?.split_once(' '));
        let names = lines.map(|(tid, name)| Ok((tid.parse()?, name.to_owned()))).collect::<Result<_>>()?;
        Ok(Sleepers { program, names })
    }

    /// The names of those whose call has returned EINTR, by their own account, which is forgotten.
    fn interrupted(&self) -> Result<Vec<String>> {
        let path = self.program.folder().join("eintr");
        let mut before = Vec::new();
        // They have all gone back to sleep when nothing changes any more.
        let bytes = wait_until("the threads' account", 20, || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let now = fs::read(&path).ok()?;
            let settled = now == before;
            before.clone_from(&now);
            settled.then_some(now)
        })?;
        // In place, for the program has it mapped.
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![0; bytes.len()]))?;
        let of = |name: &&str| self.program.said.iter().position(|line| line.ends_with(&format!(" {name}")));
        let mut names: Vec<String> = self.names.values().cloned().collect();
        names.retain(|name| of(&name.as_str()).and_then(|at| bytes.get(at)) == Some(&1));
        names.sort_unstable();
        Ok(names)
    }

    /// The names of the threads of which the report says that, and the calls that it names.
    fn named(&self, report: &Report) -> Result<BTreeMap<String, String>> {
        let all = report.json["diagnostics"].as_array().context("diagnostics")?;
        let of_calls = all.iter().filter(|one| one["code"] == "interrupted-call");
        of_calls
            .map(|one| {
                ensure!(one["severity"] == "info", "{one}");
                let tid = u32::try_from(one["tid"].as_u64().context("no thread")?)?;
                let name = self.names.get(&tid).with_context(|| format!("{tid} is no thread of it"))?;
                Ok((name.clone(), one["message"].as_str().unwrap_or_default().to_owned()))
            })
            .collect()
    }
}

#[test]
fn exactly_the_threads_whose_call_returned_eintr_are_named() {
    let scenario = Scenario::new("EINTR");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("all", || {
        let sleepers = Sleepers::start()?;
        let pid = sleepers.program.pid().to_string();
        ensure!(sleepers.interrupted()?.is_empty(), "interrupted before anything happened");
        for _ in 0..3 {
            let report = report_of([&pid])?;
            let (named, interrupted) = (sleepers.named(&report)?, sleepers.interrupted()?);
            let names: Vec<String> = named.keys().cloned().collect();
            ensure!(names == interrupted, "named: {names:?}; interrupted: {interrupted:?}");
            for (name, call) in INTERRUPTED {
                let message = named.get(*name).with_context(|| format!("{name} was not interrupted"))?;
                ensure!(message.contains(&format!(" {call} ")) && message.contains("--no-block"), "{name}: {message}");
            }
            ensure!(RESTARTED.iter().all(|name| !names.iter().any(|other| other == name)), "{names:?}");
            scenario.figure("all", &format!("interrupted: {}", names.join(", ")));
        }
        Ok(())
    });
    scenario.finish();
}
