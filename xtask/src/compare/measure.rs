//! Running tools: how long they take, on which processors, and how much memory they have at most.

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any tool should take; then it is ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run of a pipeline took.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) processor: Duration,
    /// Why it did not do all that was asked, by its exit status.
    pub(crate) failure: Option<String>,
}

/// What a process had at most, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    /// Of memory of its own.
    pub(crate) anonymous: u64,
    /// With the files that it had mapped.
    pub(crate) resident: u64,
}

/// Where the output of a pipeline goes.
pub(crate) enum Output<'a> {
    /// It is thrown away: somebody has to format it all the same.
    Nowhere,
    File(&'a File),
}

/// Runs commands, each with the output of the one before as its input.
pub(crate) fn run(commands: &mut [Command], output: &Output) -> Result<Cost> {
    let before = processor_time()?;
    let started = Instant::now();
    let mut children = spawn(commands, output)?;
    let statuses = wait(&mut children)?;
    let wall = started.elapsed();
    let failure = statuses.iter().zip(commands).find_map(|(status, command)| failure(*status, command));
    Ok(Cost { wall, processor: processor_time()?.saturating_sub(before), failure })
}

/// The same while memory is watched: the peak of each process.
pub(crate) fn run_watching_memory(commands: &mut [Command]) -> Result<Vec<Peak>> {
    let mut children = spawn(commands, &Output::Nowhere)?;
    let status = |child: &Child| File::open(format!("/proc/{}/status", child.id()));
    let files: Vec<Option<File>> = children.iter().map(|child| status(child).ok()).collect();
    let mut peaks = vec![Peak::default(); files.len()];
    let mut buffer = vec![0; 4096];
    let started = Instant::now();
    loop {
        let mut left = false;
        for (file, peak) in files.iter().zip(&mut peaks) {
            let read = file.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok()).unwrap_or_default();
            if let Some(now) = buffer.get(..read).and_then(|text| peak_of(&String::from_utf8_lossy(text))) {
                left = true;
                peak.anonymous = peak.anonymous.max(now.anonymous);
                peak.resident = peak.resident.max(now.resident);
            }
        }
        // A process that is gone but not yet waited for has no memory in its status.
        if !left || started.elapsed() > PATIENCE {
            break;
        }
    }
    wait(&mut children)?;
    Ok(peaks)
}

/// What a `status` of /proc says; nothing once the process has no memory any more.
fn peak_of(status: &str) -> Option<Peak> {
    let bytes = |name: &str| -> Option<u64> {
        let (_, rest) = status.split_once(name)?;
        Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Peak { anonymous: bytes("\nRssAnon:")?, resident: bytes("\nVmHWM:")? })
}

fn spawn(commands: &mut [Command], output: &Output) -> Result<Vec<Child>> {
    let mut children: Vec<Child> = Vec::new();
    let last = commands.len().saturating_sub(1);
    for (index, command) in commands.iter_mut().enumerate() {
        let input = children.last_mut().and_then(|child| child.stdout.take());
        command.stdin(input.map_or_else(Stdio::null, Stdio::from));
        command.stdout(match output {
            _ if index < last => Stdio::piped(),
            Output::Nowhere => Stdio::null(),
            Output::File(file) => file.try_clone()?.into(),
        });
        command.stderr(Stdio::null());
        children.push(command.spawn().with_context(|| format!("cannot run {command:?}"))?);
    }
    Ok(children)
}

/// Waits for all of them, which are ended when that takes too long.
fn wait(children: &mut [Child]) -> Result<Vec<ExitStatus>> {
    let pids: Vec<Pid> = children.iter().map(|child| Pid::from_raw(child.id().cast_signed())).collect();
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // None of them is waited for while it hangs, so that the pids are still theirs.
            for pid in pids {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    });
    let statuses: Result<Vec<ExitStatus>, _> = children.iter_mut().map(Child::wait).collect();
    drop(done);
    let _ = watchdog.join();
    Ok(statuses?)
}

/// What an exit status says went wrong. pyst's 3 is one, too: it took less than was asked.
fn failure(status: ExitStatus, command: &Command) -> Option<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let name = program.rsplit('/').next().unwrap_or_default();
    (!status.success()).then(|| format!("{name}: {status}"))
}

/// The CPU time of all children that have ended.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| {
        u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or_default()
    };
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

/// The processors of this machine: one for the probe, the others for the tools.
pub(crate) struct Processors {
    all: CpuSet,
    others: CpuSet,
    pub(crate) probe: usize,
}

impl Processors {
    pub(crate) fn share() -> Result<Processors> {
        let all = sched_getaffinity(Pid::from_raw(0))?;
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu) == Ok(true)).collect();
        let [others @ .., probe] = &allowed[..] else { bail!("there is no processor") };
        if others.is_empty() {
            bail!("it takes two processors: one for the probe, one for the tools");
        }
        let mut without = all;
        without.unset(*probe)?;
        Ok(Processors { all, others: without, probe: *probe })
    }

    /// Does something, with what it starts, away from the probe.
    pub(crate) fn away_from_probe<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        sched_setaffinity(Pid::from_raw(0), &self.others)?;
        let done = work();
        sched_setaffinity(Pid::from_raw(0), &self.all)?;
        done
    }
}

/// What the machine is: CPU, cores, memory, kernel.
pub(crate) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = of(&cpuinfo, "model name").unwrap_or_else(|| "a CPU without a name".to_owned());
    let kind = if cpuinfo.contains(" hypervisor") { ", virtual" } else { "" };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = of(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (gib, kernel) = (memory.unwrap_or_default() >> 20, kernel.trim());
    format!("{model}{kind}, {processors} cores, {gib} GiB, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_a_process_has() {
        let status = "Name:\tx\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\nRssAnon:\t    1024 kB\n";
        assert_eq!(peak_of(status), Some(Peak { anonymous: 1 << 20, resident: 5 << 20 }));
        assert_eq!(peak_of("Name:\tx\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_pipeline_is_timed_and_says_which_command_failed() {
        let mut commands = [Command::new("true"), Command::new("false")];
        assert_eq!(run(&mut commands, &Output::Nowhere).unwrap().failure.unwrap(), "false: exit status: 1");
        let mut commands = [Command::new("echo"), Command::new("cat")];
        assert_eq!(run(&mut commands, &Output::Nowhere).unwrap().failure, None);
    }

    #[test]
    fn memory_is_seen_at_its_peak() {
        // Eight megabytes, held for as long as a busy machine may look elsewhere.
        let mut command = Command::new("sh");
        command.args(["-c", "x=$(head -c 8000000 /dev/zero | tr '\\0' x); sleep 1"]);
        let peaks = run_watching_memory(&mut [command]).unwrap();
        assert!(peaks[0].anonymous >= 8_000_000 && peaks[0].resident >= peaks[0].anonymous, "{peaks:?}");
    }
}
