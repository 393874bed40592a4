//! Programs that are made by chance and stopped at random moments: their frames are what they say of themselves.
//!
//! A comparison is one thread's stack at one moment. The short run is part of every test run; `tests/run --random NUMBER`
//! makes that many comparisons. A seed gives the same programs again (the moments depend on the machine).

mod functions;
mod program;
mod record;
mod statements;

use crate::random::{Random, seed};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use program::Program;
use pyst_capture::{Options, Target, capture};
use pyst_snapshot::payload::{Diagnostic, FrameChainEnd, Python, PythonState, Severity};
use pyst_snapshot::{Ident, Snapshot};
use pyst_tests::{Child, Interpreter, Pipeline, Report, Scenario, grab, interpreters, run, wait_until};
use record::{Found, Instruction, Judge, Record};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How often one program is stopped.
const STOPS: usize = 150;

/// The short run's time, for all interpreters together.
const SHORT_SECONDS: u64 = 60;

#[test]
fn frames_are_those_that_programs_made_by_chance_have_at_random_moments() {
    compare("random programs", Goal::Time(SHORT_SECONDS));
}

#[test]
#[ignore = "minutes to hours: tests/run --random NUMBER"]
fn as_many_random_comparisons_as_asked_for() {
    let number = std::env::var("PYST_TEST_COMPARISONS").ok().and_then(|number| number.parse().ok());
    compare("random programs, long", Goal::Comparisons(number.unwrap_or(100_000)));
}

/// When it is enough.
#[derive(Clone, Copy)]
enum Goal {
    Time(u64),
    Comparisons(usize),
}

impl Goal {
    /// The part of it that one interpreter has to reach.
    fn share(self, of: usize) -> Share {
        match self {
            Goal::Time(seconds) => Share::Until(Instant::now() + Duration::from_millis(seconds * 1000 / of as u64)),
            Goal::Comparisons(number) => Share::Comparisons(number.div_ceil(of)),
        }
    }
}

#[derive(Clone, Copy)]
enum Share {
    Until(Instant),
    Comparisons(usize),
}

impl Share {
    fn is_reached(self, tally: &Tally) -> bool {
        match self {
            Share::Until(end) => Instant::now() >= end,
            Share::Comparisons(number) => tally.compared >= number,
        }
    }
}

/// What came of the comparisons on one interpreter.
#[derive(Default)]
struct Tally {
    /// All that were made.
    compared: usize,
    /// Those of processes that ran on until pyst stopped them itself.
    live: usize,
    /// Where pyst said itself that frames are missing.
    diagnosed: usize,
    frames: usize,
    programs: usize,
}

fn compare(name: &'static str, goal: Goal) {
    let scenario = Scenario::new(name);
    let seed = seed();
    for interpreter in interpreters() {
        let share = goal.share(interpreters().len());
        let mut tally = Tally::default();
        scenario.on(&interpreter.name, || {
            while !share.is_reached(&tally) {
                let program = seed.wrapping_mul(1_000_003).wrapping_add(tally.programs as u64);
                compare_with(interpreter, program, share, &mut tally)
                    .with_context(|| format!("PYST_TEST_SEED={seed}, program {}", tally.programs))?;
                tally.programs += 1;
            }
            // What is said is honest, but a thing said of every tenth stack is a defect. Python 3.9 has a hundredth.
            let Tally { compared, diagnosed, .. } = tally;
            ensure!(
                diagnosed * 10 <= compared,
                "PYST_TEST_SEED={seed}: {diagnosed} of {compared} said to be incomplete"
            );
            Ok(())
        });
        let Tally { compared, live, diagnosed, frames, programs } = tally;
        let figure = format!(
            "{compared} comparisons ({live} live), {frames} frames, {programs} programs, seed {seed}; {diagnosed} said to be incomplete"
        );
        scenario.figure(&interpreter.name, &figure);
    }
    scenario.finish();
}

/// Runs the program of a seed, and compares until it was stopped often enough.
fn compare_with(interpreter: &Interpreter, seed: u64, share: Share, tally: &mut Tally) -> Result<()> {
    let program = Program::new(seed, interpreter.version);
    let target = Running::start(interpreter, &program)?;
    let without_line = target.instructions_without_line(interpreter)?;
    let judge = Judge { program: &program, file: &target.file, without_line };
    let mut random = Random(seed);
    target.compare_in_whole(&judge, tally)?;
    for _ in 0..STOPS {
        if share.is_reached(tally) {
            break;
        }
        std::thread::sleep(Duration::from_micros(random.below(3000) as u64));
        if random.below(8) == 0 {
            target.compare_live(&judge, tally)?;
        } else {
            target.compare_stopped(&judge, tally)?;
        }
    }
    Ok(())
}

/// A program that runs.
struct Running {
    // Ended before its folder is removed: fields drop in order.
    child: Child,
    records: File,
    file: String,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(interpreter: &Interpreter, program: &Program) -> Result<Running> {
        let folder = tempfile::Builder::new().prefix("pyst-random-").tempdir_in(interpreter.temporary())?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("program.py"), &program.source)?;
        let records = File::options().read(true).write(true).create_new(true).open(at("records"))?;
        records.set_len(record::size())?;
        let file = interpreter.inside(&at("program.py"));
        let mut command = interpreter.command();
        command.arg(&file).arg(interpreter.inside(&at("records"))).arg(program.workers.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(at("stderr.txt"))?);
        let child = Child::spawn(&mut command)?;
        let file = file.to_str().context("a folder that is no UTF-8")?.to_owned();
        let target = Running { child, records, file, folder };
        let started = || match record::read(&target.records) {
            Ok(records) => records.first()?.live.then_some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        let waited = wait_until("the program to start", 20, started);
        waited.and_then(|started| started).with_context(|| target.complaint())?;
        Ok(target)
    }

    /// The instructions that the interpreter itself gives no line.
    fn instructions_without_line(&self, interpreter: &Interpreter) -> Result<Vec<Instruction>> {
        const LISTER: &str = "
import json, sys
codes, found = [compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')], []
for code in codes:
    codes.extend(const for const in code.co_consts if hasattr(const, 'co_code'))
    for start, end, line in code.co_lines() if hasattr(code, 'co_lines') else ():
        if line is None:
            found.extend((code.co_name, code.co_firstlineno, offset) for offset in range(start, end, 2))
print(json.dumps(found))
";
        let output = run(interpreter.command().args(["-c", LISTER, &self.file]))?.expect_status(0)?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What it wrote to standard error.
    fn complaint(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr.txt")).unwrap_or_default()
    }

    /// Stops it, and lets it run on in any case.
    fn stopped<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        self.child.signal(Signal::SIGSTOP)?;
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.pid()));
        let is_stopped = |task: &PathBuf| {
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" T"))
        };
        let all_stopped = || {
            let tasks: Vec<PathBuf> = tasks.read_dir().ok()?.flatten().map(|task| task.path()).collect();
            (!tasks.is_empty() && tasks.iter().all(is_stopped)).then_some(())
        };
        let started = Instant::now();
        while all_stopped().is_none() {
            ensure!(started.elapsed() < Duration::from_secs(20), "it does not stop: {}", self.complaint());
            std::thread::yield_now();
        }
        let result = work();
        self.child.signal(Signal::SIGCONT)?;
        result
    }

    fn capture(&self) -> Result<Captured> {
        let options =
            Options { python_only: true, source: false, stop_limit: Duration::from_secs(10), ..Options::default() };
        let snapshot = capture(Target::Live(self.child.pid()), &options)?.snapshot()?;
        let (python, diagnostics) = pyst_python::walk_snapshot(&snapshot);
        let python = python.with_context(|| format!("no Python: {diagnostics:?}; {}", self.complaint()))?;
        Ok(Captured { snapshot, python, diagnostics })
    }

    /// Stopped by a signal: the records and the capture are of the same instant.
    fn compare_stopped(&self, judge: &Judge<'_>, tally: &mut Tally) -> Result<()> {
        let (records, captured) = self.stopped(|| Ok((record::read(&self.records)?, self.capture()?)))?;
        let live = || records.iter().filter(|record| record.live);
        for record in live() {
            let states = captured.python.states.iter().filter(|state| state.ident == Ident(record.ident));
            // A thread that is being made has its maker's ident at first, and no frames.
            let state = states.max_by_key(|state| state.frames.len()).context("a thread is missing")?;
            let found = captured.frames(state);
            let verdict = if captured.is_cut(state) {
                tally.diagnosed += 1;
                judge.part(record, &found)
            } else {
                ensure!(state.tid.is_some_and(|tid| u64::from(tid.0) == record.tid), "tid {:?}", state.tid);
                judge.exact(record, &found)
            };
            verdict.or_else(|error| self.wrong(&error, Some(record), state, &captured))?;
            tally.compared += 1;
            tally.frames += found.len();
        }
        for state in &captured.python.states {
            let known = live().any(|record| Ident(record.ident) == state.ident);
            let found = captured.frames(state);
            // Before it starts its record, and after it gave it up.
            let expected = found.is_empty() || (found.len() == 1 && found[0].function == "worker");
            if !known && !expected && !captured.is_cut(state) {
                self.wrong(&anyhow::anyhow!("a thread that has no record"), None, state, &captured)?;
            }
        }
        Ok(())
    }

    /// Stopped by a signal, and shown by the four tools, among native frames.
    fn compare_in_whole(&self, judge: &Judge<'_>, tally: &mut Tally) -> Result<()> {
        let (records, shown) = self.stopped(|| {
            let records = record::read(&self.records)?;
            let snapshot = grab([self.child.pid().to_string()])?;
            let tools = Pipeline::with_local_files(&["--format", "json", "--all-threads"]);
            Ok((records, tools.run(&snapshot.stdout)?.pop().context("no output")?))
        })?;
        ensure!(matches!(shown.status, Some(0 | 3)), "pyst-fmt: {:?}: {}", shown.status, shown.stderr);
        let report = Report::parse(&shown.stdout)?;
        for record in records.iter().filter(|record| record.live) {
            let thread = report.thread(u32::try_from(record.tid)?)?;
            let found: Vec<Found> = thread.python_frames()?.into_iter().map(Found::from).collect();
            let verdict = if shown.status == Some(3) {
                tally.diagnosed += 1;
                judge.part(record, &found)
            } else {
                judge.exact(record, &found)
            };
            verdict.with_context(|| format!("the four tools show {found:?}, recorded is {record:?}"))?;
            tally.compared += 1;
            tally.frames += found.len();
        }
        Ok(())
    }

    /// Stopped by pyst alone: by the program's text, each frame has called the next.
    fn compare_live(&self, judge: &Judge<'_>, tally: &mut Tally) -> Result<()> {
        let captured = self.capture()?;
        for state in captured.python.states.iter().filter(|state| !state.frames.is_empty()) {
            if captured.is_cut(state) {
                tally.diagnosed += 1;
                continue;
            }
            let found = captured.frames(state);
            judge.plausible(&found).or_else(|error| self.wrong(&error, None, state, &captured))?;
            tally.compared += 1;
            tally.live += 1;
            tally.frames += found.len();
        }
        Ok(())
    }

    /// Fails with all that is known; keeps the program and the snapshot where `PYST_TEST_KEEP` says.
    fn wrong(
        &self,
        error: &anyhow::Error,
        record: Option<&Record>,
        state: &PythonState,
        captured: &Captured,
    ) -> Result<()> {
        let frames: Vec<String> = captured
            .frames(state)
            .iter()
            .map(|frame| format!("{}:{}", frame.function, frame.line.unwrap_or_default()))
            .collect();
        if let Some(folder) = std::env::var_os("PYST_TEST_KEEP").map(PathBuf::from) {
            fs::create_dir_all(&folder)?;
            fs::copy(self.folder.path().join("program.py"), folder.join("program.py"))?;
            let mut bytes = Vec::new();
            pyst_snapshot::write_snapshot(&captured.snapshot, &mut bytes)?;
            fs::write(folder.join("wrong.pyst"), bytes)?;
            fs::write(folder.join("record.txt"), format!("{error}\n{record:#?}\n{frames:#?}\n{state:#?}\n"))?;
        }
        let last = |count: usize| frames[frames.len().saturating_sub(count)..].join(" ");
        let recorded = record.map(|record| &record.frames[record.frames.len().saturating_sub(6)..]);
        bail!("{error}: found … {}; recorded … {recorded:?}; diagnostics {:?}", last(6), captured.diagnostics)
    }
}

/// What pyst made of the process.
struct Captured {
    snapshot: Snapshot,
    python: Python,
    diagnostics: Vec<Diagnostic>,
}

impl Captured {
    /// The frames of a thread, outermost first.
    fn frames(&self, state: &PythonState) -> Vec<Found> {
        let found = |frame: &pyst_snapshot::payload::PythonFrame| {
            let code = &self.python.codes[frame.code as usize];
            Found {
                function: code.function.escaped(),
                file: code.file.escaped(),
                first_line: code.first_line,
                line: frame.line,
                instruction: frame.instruction,
            }
        };
        state.frames.iter().rev().map(found).collect()
    }

    /// Whether pyst said that this thread's stack is not whole.
    fn is_cut(&self, state: &PythonState) -> bool {
        let lost = |diagnostic: &Diagnostic| {
            diagnostic.severity == Severity::LOSS && (diagnostic.tid.is_none() || diagnostic.tid == state.tid)
        };
        state.end != FrameChainEnd::COMPLETE || self.diagnostics.iter().any(lost)
    }
}
