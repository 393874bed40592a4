//! Threads that stand at odd places: in a PLT, the vDSO, the loader, in a library that was loaded late, behind vfork.

use super::cases::{CASE, Case};
use super::check;
use super::stacks::{contains_functions, folder, lacks, partial_report};
use anyhow::{Context, ensure};
use pyst_tests::{Program, Scenario, Tool, build, grab, run, tool};
use std::process::Command;

#[test]
fn a_thread_can_stop_at_any_instruction_of_a_plt_the_vdso_and_a_function() {
    let scenario = Scenario::new("single steps");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    let options: &[&str] = &["-O2", "-fcf-protection=none", "-Wl,-z,lazy", "-Wl,-z,norelro"];
    let plt: &[&str] = &["0", "1", "2", "3", "4"];
    let vdso: &[&str] = &["0", "1", "2", "5", "10", "20"];
    let code: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "8", "10", "20", "76", "80", "82", "84", "86", "88", "90"];
    for (place, counts) in [("plt", plt), ("vdso", vdso), ("code", code)] {
        let mut reached = 0;
        for count in counts {
            scenario.on(&format!("{place} {count}"), || {
                let folder = folder()?;
                let program = build("gcc", "step.c", options, folder.path())?;
                // Past the last instruction it ends.
                let Some(program) = Program::start(Command::new(program).args([place, count]), folder)? else {
                    return Ok(());
                };
                reached += 1;
                let functions = if place == "code" { &["main", "stepped", "work"][..] } else { &["main", "stepped"] };
                check(&program, &Case { functions, ..CASE }).map(drop)
            });
        }
        scenario.on(place, || {
            ensure!(reached > 3, "only {reached} of its instructions were reached");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn the_loader_may_be_in_the_middle_of_binding_a_function() {
    let scenario = Scenario::new("lazy binding");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    scenario.on("resolver of an indirect function", || {
        let folder = folder()?;
        let library = build("gcc", "lazy_library.c", &["-O2", "-shared", "-fPIC", "-Wl,-z,lazy"], folder.path())?;
        let library = library.to_str().context("path")?;
        let program = build("gcc", "lazy.c", &["-O2", library, "-Wl,-z,lazy"], folder.path())?;
        let program = Program::start(Command::new(program).env("PYST_SETTLE", "1"), folder)?.context("it ended")?;
        check(&program, &Case { functions: &["main", "_dl_fixup", "settle"], ..CASE }).map(drop)
    });
    scenario.finish();
}

#[test]
fn a_parent_that_waits_for_its_vforked_child_is_let_be() {
    let scenario = Scenario::new("vfork");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("pyst-grab", || {
        let program = Case { source: "vfork.c", ..CASE }.start()?.context("it ended")?;
        // It cannot be stopped, by nobody.
        let pid = program.pid().to_string();
        let output = run(tool(Tool::Grab).args(["--stop-limit=100", &pid]))?.expect_status(3)?;
        let report = partial_report(&output.stdout)?;
        ensure!(report.codes().contains(&"thread-not-stopped".to_owned()), "{:?}", report.codes());
        // It went on waiting.
        ensure!(!report.codes().contains(&"stop-took-longer".to_owned()), "a stop is told that was none");
        ensure!(report.thread(program.pid())?.frames().is_empty(), "frames from nowhere");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_library_that_was_loaded_late_has_frames() {
    let scenario = Scenario::new("dlopen");
    if lacks(&scenario, &["gdb", "gcc"]) {
        return;
    }
    scenario.on("dlopen", || {
        let folder = folder()?;
        let library = build("gcc", "dlopen_library.c", &["-O2", "-shared", "-fPIC"], folder.path())?;
        let program = build("gcc", "dlopen.c", &["-O2"], folder.path())?;
        let program = Program::start(Command::new(program).arg(library), folder)?.context("it ended")?;
        check(&program, &Case { functions: &["main", "call_back", "settled"], ..CASE }).map(drop)
    });
    scenario.finish();
}

#[test]
fn a_process_that_is_no_python_gets_its_native_report() {
    let scenario = Scenario::new("no Python");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("pyst-grab", || {
        let case = Case { source: "plain.c", ..CASE };
        let program = case.start()?.context("it ended")?;
        let output = grab([program.pid().to_string()])?.expect_status(0)?;
        ensure!(output.stderr.is_empty(), "{}", output.stderr);
        contains_functions(
            &pyst_tests::analyse(&output.stdout)?.thread(program.pid())?,
            &["main", "outer", "innermost"],
        )
    });
    scenario.finish();
}
