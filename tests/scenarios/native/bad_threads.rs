//! Threads whose stacks cannot be followed cost the others nothing, living and in cores.

use super::GdbStacks;
use super::cases::{CASE, Case};
use super::stacks::{contains_functions, lacks, partial_report_of, pcs, same_frames, shown};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Report, Scenario, Thread, kernel_cores_are_files, native_stacks_of_core, native_stacks_of_process};

#[test]
fn a_bad_thread_costs_the_others_nothing() {
    let scenario = Scenario::new("bad threads");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    let case = Case { source: "bad_threads.c", options: &["-O1", "-fno-omit-frame-pointer"], ..CASE };
    scenario.on("living, and a core of gdb's", || {
        let program = case.start()?.context("it ended")?;
        let core = program.folder().join("gcore");
        let oracle = native_stacks_of_process(program.pid(), Some(&core))?;
        let names = names_of_threads(program.pid())?;
        let live = partial_report_of(&[program.pid().to_string()])?;
        check(&live, program.pid(), &names, &oracle).context("living")?;
        check(&partial_report_of(&[&core])?, program.pid(), &names, &oracle).context("gcore")
    });
    if let Err(reason) = kernel_cores_are_files() {
        scenario.skip("kernel core", &reason);
        return scenario.finish();
    }
    scenario.on("kernel core", || {
        let mut program = case.start()?.context("it ended")?;
        let names = names_of_threads(program.pid())?;
        let core = program.kernel_core(Signal::SIGABRT)?;
        let oracle = native_stacks_of_core("gdb", &program.folder().join(case.executable()), &core)?;
        check(&partial_report_of(&[&core])?, program.pid(), &names, &oracle)
    });
    scenario.finish();
}

/// A core has none.
fn names_of_threads(pid: u32) -> Result<Vec<(u32, String)>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    threads
        .map(|thread| {
            let tid = thread.file_name().to_string_lossy().parse()?;
            Ok((tid, std::fs::read_to_string(thread.path().join("comm"))?.trim_end().to_owned()))
        })
        .collect()
}

fn check(report: &Report, pid: u32, names: &[(u32, String)], oracle: &GdbStacks) -> Result<()> {
    let named = |wanted: &str| -> Result<Thread<'_>> {
        let (tid, _) = names.iter().find(|(_, name)| name == wanted).with_context(|| format!("no thread {wanted}"))?;
        report.thread(*tid)
    };
    for name in ["good-1", "good-2"] {
        let thread = named(name)?;
        contains_functions(&thread, &["good", "sleep_well"])?;
        ensure!(thread.json["stack_end"] == "complete", "{name} ends with {}", thread.json["stack_end"]);
        same_frames(&thread, &oracle[&thread.tid().context("tid")?])?;
    }
    same_frames(&report.thread(pid)?, &oracle[&pid])?;
    contains_functions(&named("vdso")?, &["spin"])?;
    ensure!(named("vdso")?.json["stack_end"] == "complete", "vdso: {:?}", shown(&named("vdso")?));
    // The frame pointer is whole, and CFI goes by it. A core has the stack that it points to; of the living process nobody knew
    // that it would be needed.
    let null_sp: (&str, &[&str], &[&str], usize) = match report.json["snapshot"]["source"].as_str() {
        Some("core") => ("null-sp", &["complete"], &["start_thread", "null_sp"], 3),
        _ => ("null-sp", &["unreadable", "not-recorded"], &["null_sp"], 1),
    };
    let bad: [(&str, &[&str], &[&str], usize); 5] = [
        null_sp,
        ("garbage-sp", &["stack-did-not-grow", "unreadable"], &["garbage_sp"], 1),
        ("unmapped-return", &["no-module"], &["unmapped_return", "sleep_well"], 3),
        ("odd-return", &["no-module", "no-cfi"], &["odd_return", "sleep_well"], 4),
        ("looping", &["loop", "stack-did-not-grow", "no-cfi"], &["loop_frames"], 8),
    ];
    for (name, ends, functions, most) in bad {
        let thread = named(name)?;
        contains_functions(&thread, functions)?;
        let end = thread.json["stack_end"].as_str().unwrap_or_default();
        ensure!(ends.contains(&end), "{name} ends with {end}: {:?}", shown(&thread));
        ensure!(pcs(&thread).len() <= most, "{name} has made-up frames: {:?}", shown(&thread));
    }
    Ok(())
}
