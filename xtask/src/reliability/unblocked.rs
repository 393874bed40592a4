//! Threads that alternate two chains of calls are read without a stop: what is called verified must have been.

use super::sampling::{BATCH, Program, each_report};
use super::target::Target;
use super::{Bench, Finding};
use anyhow::{Result, ensure};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

/// Alternating threads in one program: a sample each.
const THREADS: usize = 8;

#[derive(Default)]
struct Samples {
    verified: usize,
    unverified: usize,
    retries: usize,
    impossible_verified: Vec<String>,
    impossible_unverified: usize,
}

pub(super) fn run(bench: &mut Bench<'_>, wanted: usize) -> Result<Finding> {
    let folder = bench.folder.path().join("chains");
    fs::create_dir(&folder)?;
    let scripts = bench.root.join("tests/targets");
    let mut command = Command::new(bench.python);
    command.arg(scripts.join("chains.py")).arg(THREADS.to_string()).env("PYST_TARGET_DIR", &folder);
    let mut target = Target::start(&mut command, &folder, "account.json")?;
    let program = Program::read(&scripts.join("chains.py"))?;
    let stream = bench.folder.path().join("chains.pyst");
    let mut samples = Samples::default();
    while samples.verified + samples.unverified < wanted {
        let mut file = File::create(&stream)?;
        for _ in 0..BATCH {
            let mut grab = bench.tool("pyst-grab");
            let output = grab.args(["--no-block", &target.pid().to_string()]).stdin(Stdio::null()).output()?;
            ensure!(matches!(output.status.code(), Some(0 | 3)), "pyst-grab: {:?}", output.status);
            file.write_all(&output.stdout)?;
        }
        drop(file);
        each_report(bench, &stream, |report| {
            for thread in &report.threads {
                let frames = program.frames(thread);
                if frames.iter().any(|frame| frame.function.as_deref() == Some("drive")) {
                    samples.add(thread, program.impossible(&frames));
                }
            }
            Ok(())
        })?;
        target.is_free()?;
    }
    let Samples { verified, unverified, retries, impossible_verified, impossible_unverified } = samples;
    impossible_verified.iter().take(20).for_each(|pair| println!("impossible, and verified: {pair}"));
    let result = format!(
        "{verified} verified, of which {} impossible; {unverified} said to be unverified, of which {impossible_unverified} \
         impossible; {retries} retries",
        impossible_verified.len()
    );
    let what = format!("--no-block, {} stacks of threads that alternate two chains of calls", verified + unverified);
    Ok(Finding { what, result, well: impossible_verified.is_empty() && verified > unverified })
}

impl Samples {
    fn add(&mut self, thread: &pyst_report::model::Thread, impossible: Option<String>) {
        let states = &thread.python_states;
        self.retries += states.iter().filter_map(|state| state.retries).sum::<u32>() as usize;
        if !states.is_empty() && states.iter().all(|state| state.verified == Some(true)) {
            self.verified += 1;
            self.impossible_verified.extend(impossible);
        } else {
            self.unverified += 1;
            self.impossible_unverified += usize::from(impossible.is_some());
        }
    }
}
