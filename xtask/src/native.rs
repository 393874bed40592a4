//! What native stacks cost: a frame to unwind, its lines and inlined functions to find, and the stop of the target.
//!
//! Other tools do the same for the same processes, in turn, so that what else the machine does falls on all alike. A
//! benchmark and no test: nothing here fails because of a time.

use crate::bench::{Target, spread};
use crate::build;
use crate::decode::pipe;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use pyst_snapshot::StreamReader;
use pyst_snapshot::payload::Capture;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Deep: every call of Python goes through C, as often as a debug build of 3.12 lets it, in ten threads.
const DEEP: &str = "
reached = threading.Semaphore(0)
def again(left):
    if left == 0:
        reached.release()
        time.sleep(1000)
    return max([left - 1], key=again)
for _ in range(10):
    threading.Thread(target=again, args=(400,), daemon=True).start()
for _ in range(10):
    reached.acquire()
print('ready', flush=True)
time.sleep(1000)
";

/// Wide: threads that wait, each called through C.
const THREADS: &str = "
import functools
started = threading.Semaphore(0)
def wait(_):
    started.release()
    time.sleep(1000)
def work():
    max([0], key=functools.partial(lambda number: wait(number)))
for _ in range(SIZE):
    threading.Thread(target=work, daemon=True).start()
for _ in range(SIZE):
    started.acquire()
print('ready', flush=True)
time.sleep(1000)
";

/// Runs the three parts.
pub(crate) fn run(root: &Path, python: &str, runs: usize) -> Result<()> {
    ensure!(runs > 0, "at least one run");
    let tools = build::tools(root)?;
    let folder = std::env::temp_dir().join(format!("pyst-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let version = Command::new(python).arg("-V").output().context("no such Python")?;
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    let parts = || -> Result<()> {
        unwinding(root, &tools, python, &folder)?;
        let others = others();
        for threads in [0, 49] {
            let target = Target::start(python, &THREADS.replace("SIZE", &threads.to_string()))?;
            println!("\nThreads: {}\n", threads + 1);
            symbolising(&tools, &target, &others, &folder, runs)?;
            println!();
            stops(&tools, &target, runs)?;
        }
        Ok(())
    };
    let result = parts();
    fs::remove_dir_all(&folder)?;
    result
}

/// The cost of a frame, by `lib/native/benches/unwind.rs`.
fn unwinding(root: &Path, tools: &Path, python: &str, folder: &Path) -> Result<()> {
    let grabbed = folder.join("deep.pyst");
    let target = Target::start(python, DEEP)?;
    // As deep as this, a stop can take longer than one should by default.
    let mut grab = Command::new(tools.join("pyst-grab"));
    pipe(grab.args(["--no-source", "--stop-limit", "5000", &target.id().to_string()]), None, &grabbed)?;
    drop(target);
    let mut command = Command::new(env!("CARGO"));
    command.args(["bench", "--quiet", "--package", "pyst-native", "--bench", "unwind", "--"]).arg(&grabbed);
    let output = command.current_dir(root).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the benchmark of the library failed");
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [frames, alone, named] = numbers[..] else { bail!("it said: {text}") };
    let (alone, named) = (alone / frames, named / frames);
    println!("{frames} frames: {alone:.0} ns to unwind one, {named:.0} ns to unwind and name it");
    Ok(())
}

/// Another tool that shows native stacks with inlined functions: what to call it, and the command that takes a pid last.
struct Other {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// Those to be had here; why one is not is said.
fn others() -> Vec<Other> {
    let mut others = Vec::new();
    let mut add = |name, program: Result<PathBuf>, arguments| match program {
        Ok(program) => others.push(Other { name, program, arguments }),
        Err(error) => eprintln!("skipped: {name}: {error:#}"),
    };
    add("eu-stack -i", runs_with(Path::new("eu-stack"), "Debian has it in elfutils"), &["-i", "-p"]);
    add("pystack --native-all", pystack(), &["remote", "--native-all"]);
    others
}

fn runs_with(program: &Path, otherwise: &'static str) -> Result<PathBuf> {
    let output = Command::new(program).arg("--version").output().context(otherwise)?;
    ensure!(output.status.success(), "{} does not run", program.display());
    Ok(program.to_owned())
}

/// PyStack, installed once.
fn pystack() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).context("no cache folder")?;
    let folder = cache.join("pyst-bench").join("pystack");
    let program = folder.join("bin").join("pystack");
    if !program.exists() {
        let venv = Command::new("python3").args(["-m", "venv"]).arg(&folder).status()?;
        ensure!(venv.success(), "python3 -m venv failed");
        let pip = Command::new(folder.join("bin").join("pip")).args(["install", "--quiet", "pystack"]).status()?;
        ensure!(pip.success(), "pip install pystack failed");
    }
    runs_with(&program, "it is installed, and does not run")
}

/// What a run took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    processor: Duration,
}

/// pyst beside the others: whole tools as they are run from a shell.
fn symbolising(tools: &Path, target: &Target, others: &[Other], folder: &Path, runs: usize) -> Result<()> {
    let pid = target.id().to_string();
    let grabbed = folder.join("grabbed.pyst");
    pipe(Command::new(tools.join("pyst-grab")).arg(&pid), None, &grabbed)?;
    let stages = |pid: &str| -> Vec<Command> {
        let mut grab = Command::new(tools.join("pyst-grab"));
        grab.arg(pid);
        let rest = ["pyst-unwind", "pyst-py", "pyst-fmt"].map(|stage| Command::new(tools.join(stage)));
        std::iter::once(grab).chain(rest).collect()
    };
    let own = ["pyst-unwind, of a snapshot", "pyst-grab \\| pyst-unwind \\| pyst-py \\| pyst-fmt"];
    let names: Vec<&str> = own.into_iter().chain(others.iter().map(|other| other.name)).collect();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); names.len()];
    // The first round warms the page cache.
    for round in 0..=runs {
        let mut unwind = Command::new(tools.join("pyst-unwind"));
        unwind.stdin(File::open(&grabbed)?);
        let of_others = others.iter().map(|other| {
            let mut command = Command::new(&other.program);
            command.args(other.arguments).arg(&pid);
            vec![command]
        });
        let all = [vec![unwind], stages(&pid)].into_iter().chain(of_others);
        for (mut commands, costs) in all.zip(&mut costs) {
            let cost = cost_of(&mut commands)?;
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let medians: Vec<(f64, f64)> = costs.iter().map(|costs| medians(costs)).collect();
    print!("| tool | wall ms: median | CPU ms: median |");
    others.iter().for_each(|other| print!(" of {}: wall | CPU |", other.name));
    println!("\n|---|---|---|{}", "---|---|".repeat(others.len()));
    for (name, (wall, processor)) in names.iter().zip(&medians) {
        print!("| {name} | {wall:.1} | {processor:.1} |");
        for (other_wall, other_processor) in medians.iter().skip(own.len()) {
            print!(" {:.2} | {:.2} |", wall / other_wall, processor / other_processor);
        }
        println!();
    }
    Ok(())
}

fn medians(costs: &[Cost]) -> (f64, f64) {
    let median = |of: fn(&Cost) -> Duration| spread(costs.iter().map(of).collect()).1.as_secs_f64() * 1e3;
    (median(|cost| cost.wall), median(|cost| cost.processor))
}

/// Runs commands, each with the output of the one before as its input.
fn cost_of(commands: &mut [Command]) -> Result<Cost> {
    let used = || Ok::<_, nix::Error>(processor_time(&getrusage(UsageWho::RUSAGE_CHILDREN)?));
    let (before, started) = (used()?, Instant::now());
    let mut children: Vec<Child> = Vec::new();
    let last = commands.len() - 1;
    for (index, command) in commands.iter_mut().enumerate() {
        if let Some(output) = children.last_mut().and_then(|child| child.stdout.take()) {
            command.stdin(output);
        }
        // Somebody has to format what is thrown away here, as it would for a reader.
        command.stdout(if index == last { Stdio::null() } else { Stdio::piped() }).stderr(Stdio::null());
        children.push(command.spawn()?);
    }
    for (child, command) in children.iter_mut().zip(commands) {
        let status = child.wait()?;
        ensure!(status.success(), "{command:?} failed: {status}");
    }
    let wall = started.elapsed();
    Ok(Cost { wall, processor: used()?.saturating_sub(before) })
}

fn processor_time(usage: &Usage) -> Duration {
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or_default()
    };
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// How long the target is stopped, with names and lines and without.
fn stops(tools: &Path, target: &Target, runs: usize) -> Result<()> {
    let kinds: [(&str, &[&str]); 3] = [
        ("with names", &[]),
        ("with names and lines", &["--debug-info"]),
        ("without native frames", &["--python-only"]),
    ];
    let mut stops = [const { Vec::new() }; 3];
    for round in 0..=runs {
        for ((_, arguments), stops) in kinds.iter().zip(&mut stops) {
            let mut command = Command::new(tools.join("pyst-grab"));
            let output = command.args(*arguments).arg(target.id().to_string()).output()?;
            ensure!(output.status.success(), "pyst-grab failed: {}", String::from_utf8_lossy(&output.stderr));
            let snapshot = StreamReader::new(output.stdout.as_slice()).next().context("no snapshot")??;
            let capture = snapshot.get::<Capture>()?.context("no capture section")?;
            if round > 0 {
                stops.push(capture.stopped_ns.unwrap_or_default() / 1000);
            }
        }
    }
    println!("| snapshot | stop µs: min | median | max |\n|---|---|---|---|");
    for ((name, _), stops) in kinds.iter().zip(stops) {
        let (min, median, max) = spread(stops);
        println!("| {name} | {min} | {median} | {max} |");
    }
    Ok(())
}
