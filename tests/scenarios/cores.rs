//! What the text says of a core file: the header that PyStack prints, without its two errors there.

use crate::random::{Random, seed};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Pipeline, Scenario, Target, gcore, grab, has_program, kernel_core, kernel_cores_are_files, representatives,
};
use std::path::{Path, PathBuf};

#[test]
fn a_core_taken_on_demand_is_said_to_be_one() {
    let scenario = Scenario::new("core header, gcore");
    if !has_program("gcore") {
        return scenario.skip("all", "gdb is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "five_frames.py", &[])?;
            let text = text_of(&[gcore(&target)?])?;
            common(&text, &target)?;
            contains(&text, "The core file seems to have been generated on demand (the process did not crash)")?;
            ensure!(!text.contains("died due"), "it did not die: {text}");
            ensure!(text.contains("zombie: False"), "zombie? {text}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn the_signal_that_ended_a_process_is_told_with_its_sender_or_the_address() {
    let scenario = Scenario::new("core header, kernel");
    if let Err(reason) = kernel_cores_are_files() {
        return scenario.skip("all", &reason);
    }
    for interpreter in representatives().iter().filter(|one| one.root.is_none()) {
        scenario.on(&format!("{}, SIGABRT", interpreter.name), || {
            let mut target = Target::start(interpreter, "five_frames.py", &[])?;
            let text = text_of(&[kernel_core(&mut target, Signal::SIGABRT)?])?;
            common(&text, &target)?;
            contains(
                &text,
                &format!("The process died due receiving signal SIGABRT sent by pid {}", std::process::id()),
            )
        });
        scenario.on(&format!("{}, SIGSEGV", interpreter.name), || {
            let mut target = Target::start(interpreter, "crash.py", &[])?;
            // faulthandler is not in the way: it was registered for SIGUSR1 alone.
            let core = kernel_core(&mut target, Signal::SIGUSR2)?;
            let text = text_of(&[core])?;
            common(&text, &target)?;
            contains(&text, "The process died due a segmentation fault accessing address: 0x1234")?;
            contains(&text, "in crash")
        });
    }
    scenario.finish();
}

#[test]
fn the_executable_of_a_core_may_be_named() {
    let scenario = Scenario::new("core with executable");
    if !has_program("gcore") {
        return scenario.skip("all", "gdb is not installed");
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "five_frames.py", &[])?;
            let text = text_of(&[gcore(&target)?, interpreter.host_exe()])?;
            common(&text, &target)?;
            contains(&text, "Using executable found")?;
            contains(&text, "in innermost")
        });
    }
    scenario.finish();
}

#[test]
fn a_core_that_is_cut_off_says_so_and_still_shows_what_is_there() {
    let scenario = Scenario::new("truncated core");
    for interpreter in representatives() {
        // gdb writes what it knows of threads last, the kernel first.
        if has_program("gcore") {
            scenario.on(&format!("{}, gcore", interpreter.name), || {
                let target = Target::start(interpreter, "five_frames.py", &[])?;
                cut(&target, &gcore(&target)?)
            });
        }
        if kernel_cores_are_files().is_ok() {
            scenario.on(&format!("{}, kernel core", interpreter.name), || {
                let mut target = Target::start(interpreter, "five_frames.py", &[])?;
                let core = kernel_core(&mut target, Signal::SIGABRT)?;
                cut(&target, &core)
            });
        }
    }
    scenario.finish();
}

fn cut(target: &Target, core: &Path) -> Result<()> {
    let core = std::fs::read(core)?;
    for percent in [99, 90, 50, 10, 1] {
        let file = target.folder().join("cut");
        std::fs::write(&file, &core[..core.len() / 100 * percent])?;
        let snapshot = grab([&file])?;
        let outputs = Pipeline::from_snapshot_only(&["--all-threads"]).run(&snapshot.stdout)?;
        let last = outputs.last().context("no output")?;
        let what = format!("{percent} %: exit status {:?}: {}", last.status, last.stderr);
        ensure!(matches!(snapshot.status, Some(1 | 3)) && matches!(last.status, Some(1 | 3)), "{what}");
        ensure!(!last.stderr.contains("panicked"), "{what}");
        ensure!(last.stderr.contains("truncated") && last.stderr.contains("bytes are missing"), "{what}");
    }
    Ok(())
}

#[test]
fn a_core_with_bytes_changed_at_random_is_survived() {
    let scenario = Scenario::new("damaged core");
    let interpreter = &representatives()[0];
    let seed = seed();
    if let Err(reason) = kernel_cores_are_files() {
        return scenario.skip("all", &reason);
    }
    scenario.on(&format!("seed {seed}"), || {
        let mut target = Target::start(interpreter, "eight_threads.py", &[])?;
        let core = std::fs::read(kernel_core(&mut target, Signal::SIGABRT)?)?;
        let mut random = Random(seed);
        let file = target.folder().join("damaged");
        for round in 0..60 {
            let mut damaged = core.clone();
            // Headers and notes come first; after them, memory.
            let reach = if round % 2 == 0 { 16 << 10 } else { damaged.len() };
            for _ in 0..=random.below(40) {
                let at = random.below(reach);
                damaged[at] = if random.below(2) == 0 { 0xff } else { damaged[at] ^ (1 << random.below(8)) };
            }
            std::fs::write(&file, &damaged)?;
            let snapshot = grab([&file])?;
            let outputs = Pipeline::from_snapshot_only(&["--all-threads"]).run(&snapshot.stdout)?;
            for output in [&snapshot].into_iter().chain(&outputs) {
                ensure!(
                    matches!(output.status, Some(0 | 1 | 3)),
                    "round {round}: {:?} {}",
                    output.status,
                    output.stderr
                );
                ensure!(!output.stderr.contains("panicked"), "round {round}: {}", output.stderr);
            }
            let said = outputs.last().context("no output")?;
            ensure!(said.status == Some(0) || !said.stderr.is_empty(), "round {round}: not a word");
        }
        Ok(())
    });
    scenario.finish();
}

fn text_of(arguments: &[PathBuf]) -> Result<String> {
    let snapshot = grab(arguments)?.snapshot()?;
    let outputs = Pipeline::from_snapshot_only(&[]).run(&snapshot)?;
    let last = outputs.last().context("no output")?.clone().expect_status(0)?;
    Ok(last.text())
}

fn common(text: &str, target: &Target) -> Result<()> {
    contains(text, "Using executable found in the core file: ")
        .or_else(|_| contains(text, "Using executable found"))?;
    contains(text, "Core file information:\n")?;
    // The kernel notes the very thread that started it as its parent; gdb the process.
    let parents = [nix::unistd::gettid(), nix::unistd::getpid()];
    let line = parents.map(|parent| format!("pid: {} ppid: {parent} ", target.pid()));
    contains(text, &line[0]).or_else(|_| contains(text, &line[1]))?;
    contains(text, "uid: ")?;
    contains(text, " arguments: ")?;
    Ok(())
}

fn contains(text: &str, words: &str) -> Result<()> {
    ensure!(text.contains(words), "`{words}` is not in:\n{text}");
    Ok(())
}
