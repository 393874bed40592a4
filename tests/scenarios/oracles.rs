//! The oracles agree with each other: what the other scenarios stand on.

use anyhow::ensure;
use pyst_tests::{Scenario, Target, has_program, native_stacks, representatives};

const TARGETS: [&str; 12] = [
    "five_frames.py",
    "eight_threads.py",
    "fifty_threads.py",
    "recursion.py",
    "sorted_key.py",
    "reduce.py",
    "ctypes_callback.py",
    "generators.py",
    "coroutine_throw.py",
    "asyncio_cancel.py",
    "closures.py",
    "names.py",
];

#[test]
fn a_targets_account_is_faulthandlers() {
    let scenario = Scenario::new("the account agrees with faulthandler");
    for interpreter in representatives() {
        for script in TARGETS {
            scenario.on(&format!("{}, {script}", interpreter.name), || {
                let target = Target::start(interpreter, script, &[])?;
                target.account().agrees_with_faulthandler(&target.faulthandler()?)
            });
        }
    }
    scenario.finish();
}

#[test]
fn gdb_leaves_a_target_as_it_was() {
    let scenario = Scenario::new("gdb gives native stacks");
    if !has_program("gdb") {
        scenario.skip("all", "gdb is not installed");
        return;
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let (first, second) =
                (native_stacks(interpreter, target.pid())?, native_stacks(interpreter, target.pid())?);
            ensure!(first.len() == 8 && first.values().all(|frames| frames.len() > 3), "{first:?}");
            let pcs = |stacks: &std::collections::BTreeMap<u32, Vec<pyst_tests::GdbFrame>>| -> Vec<Vec<u64>> {
                stacks.values().map(|frames| frames.iter().map(|frame| frame.pc).collect()).collect()
            };
            ensure!(pcs(&first) == pcs(&second), "the stacks changed between two looks");
            Ok(())
        });
    }
    scenario.finish();
}
