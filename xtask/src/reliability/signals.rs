//! A program in a storm of signals is captured, and every other pyst-grab killed: all signals must arrive.

use super::target::{Target, until};
use super::{Bench, Finding};
use anyhow::{Result, ensure};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(super) fn run(bench: &mut Bench<'_>, times: usize) -> Result<Finding> {
    let folder = bench.folder.path().join("storm");
    fs::create_dir(&folder)?;
    let program = bench.folder.path().join("storm-program");
    let source = bench.root.join("tests/targets/native/storm.c");
    let built = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(source).status()?;
    ensure!(built.success(), "the storm did not build");
    let mut target = Target::start(&mut Command::new(program), &folder, "begun")?;
    let (mut killed, mut lasts) = (0, Duration::from_millis(10));
    for round in 0..times {
        let began = Instant::now();
        let mut grab = bench.tool("pyst-grab");
        grab.arg(target.pid().to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut grab = grab.spawn()?;
        if round % 2 == 0 {
            grab.wait()?;
            lasts = began.elapsed();
        } else {
            std::thread::sleep(lasts.mul_f64(bench.random.fraction()));
            grab.kill()?;
            killed += usize::from(grab.wait()?.code().is_none());
        }
    }
    // The storm itself stops the program for moments; it goes on after each.
    target.is_free()?;
    target.tell("end")?;
    let told = until("the program to count its signals", || Ok(target.file("told").ok()))?;
    let told = String::from_utf8_lossy(&told).into_owned();
    let (verdict, count) = told.split_once('\n').unwrap_or((&told, ""));
    let well = verdict == "whole";
    let verdict = if well { "all arrived" } else { verdict };
    Ok(Finding {
        what: format!(
            "{times} captures in a storm of signals (queued ones, standard ones, a timer, SIGSTOP and SIGCONT), {killed} of them SIGKILLed"
        ),
        result: format!("{}: {verdict}", count.trim()),
        well,
    })
}
