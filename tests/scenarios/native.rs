//! Native stacks of small programs, one for each case that is hard to unwind: the frames are those that gdb finds, living, in a
//! core of gdb's and in one of the kernel's. Where gdb makes frames up, the program has written down where its functions return to.
//! What framehop makes of the same threads is told beside, for comparison.

mod bad_threads;
mod cases;
mod names;
mod places;
pub(crate) mod stacks;
mod trampolines;

use anyhow::{Context, Result, ensure};
use cases::{CASE, CASES, Case, Gdb, Own};
use nix::sys::signal::Signal;
use pyst_tests::{
    GdbFrame, Program, Report, Scenario, framehop_stack, has_program, kernel_cores_are_files, native_stacks_of_core,
    native_stacks_of_process, report_of,
};
use stacks::{contains_functions, lacks, only_true_frames, pcs, same_frames, shown};
use std::collections::BTreeMap;

/// By tid, outermost frame first.
type GdbStacks = BTreeMap<u32, Vec<GdbFrame>>;

#[test]
fn hard_cases_unwind_to_the_frames_that_are_there() {
    let scenario = Scenario::new("hard cases");
    if lacks(&scenario, &["gdb", "gcc", "g++"]) {
        return;
    }
    let kernel_cores = kernel_cores_are_files();
    if let Err(reason) = &kernel_cores {
        scenario.skip("kernel cores", reason);
    }
    for case in CASES {
        if !has_program(case.compiler()) {
            scenario.skip(case.name, &format!("{} is not installed", case.compiler()));
            continue;
        }
        scenario.on(case.name, || {
            let mut program = case.start()?.context("it ended before it was ready")?;
            let (report, oracle) = check(&program, case)?;
            scenario.figure(case.name, &comparison(&report, &program, case, &oracle));
            match kernel_cores {
                Ok(()) => check_kernel_core(&mut program, case, Signal::SIGABRT).context("kernel core"),
                Err(_) => Ok(()),
            }
        });
    }
    scenario.finish();
}

#[test]
fn cores_of_the_kernel_have_the_frames_of_the_crash() {
    let scenario = Scenario::new("crash, kernel core");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    if let Err(reason) = kernel_cores_are_files() {
        return scenario.skip("all", &reason);
    }
    scenario.on("crash.c", || {
        let case = Case { source: "crash.c", functions: &["main", "on_signal", "outer", "fault"], ..CASE };
        check_kernel_core(&mut case.start()?.context("it ended")?, &case, Signal::SIGUSR2)
    });
    scenario.finish();
}

/// Both the living process and a core of it. The report of the living one, and what gdb says of it.
fn check(program: &Program, case: &Case) -> Result<(Report, GdbStacks)> {
    let core = program.folder().join("gcore");
    let oracle = native_stacks_of_process(program.pid(), Some(&core))?;
    let live = report_of([program.pid().to_string()])?;
    check_report(&live, program, case, &oracle).context("living")?;
    check_report(&report_of([&core])?, program, case, &oracle).context("gcore")?;
    Ok((live, oracle))
}

/// The core that the kernel writes when the program dies of `signal`.
fn check_kernel_core(program: &mut Program, case: &Case, signal: Signal) -> Result<()> {
    let core = program.kernel_core(signal)?;
    let exe = program.folder().join(case.executable());
    let oracle = native_stacks_of_core("gdb", &exe, &core)?;
    ensure!(oracle.contains_key(&program.pid()), "gdb does not know the thread");
    check_report(&report_of([&core])?, program, case, &oracle)
}

fn check_report(report: &Report, program: &Program, case: &Case, oracle: &GdbStacks) -> Result<()> {
    let main = report.thread(program.pid())?;
    contains_functions(&main, case.functions)?;
    ensure!(main.json["stack_end"] == case.end, "the stack ends with {}: {:?}", main.json["stack_end"], shown(&main));
    match case.oracle {
        Gdb => {
            for (tid, frames) in oracle {
                same_frames(&report.thread(*tid)?, frames)?;
            }
        }
        Own => only_true_frames(&main, &program.return_addresses()?, case.end == "complete")?,
    }
    Ok(())
}

/// A line of the table of unwinders: how many frames each has of the main thread.
fn comparison(report: &Report, program: &Program, case: &Case, oracle: &GdbStacks) -> String {
    let own = report.thread(program.pid()).map(|thread| pcs(&thread)).unwrap_or_default();
    let gdb = oracle.get(&program.pid()).cloned().unwrap_or_default();
    let framehop = match gdb.last().map(|innermost| framehop_stack(program.pid(), innermost)) {
        Some(Ok((pcs, end))) => {
            // Innermost first: as far as the two go together.
            let same = pcs.iter().zip(own.iter().rev()).take_while(|(a, b)| a == b).count();
            format!("{} frames, the innermost {same} those of pyst, then {end}", pcs.len())
        }
        Some(Err(error)) => format!("cannot be asked: {error:#}"),
        None => "cannot be asked".to_owned(),
    };
    let guesses = if case.oracle == Own { ", some of them made up" } else { "" };
    let end = case.end;
    format!("pyst {} frames, then {end}; framehop {framehop}; gdb {} frames{guesses}", own.len(), gdb.len())
}
