//! Native stacks of aarch64: programs made by a cross compiler die under QEMU's user emulation, whose cores are unwound here. gdb is
//! the oracle where it can do it: it loops on QEMU's signal frames, and knows nothing of signed addresses there.

use crate::native::stacks::{contains_functions, only_true_frames, pcs, shown};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Program, Scenario, build, has_program, native_stacks_of_core, report_of};
use std::process::Command;

struct Case {
    name: &'static str,
    source: &'static str,
    options: &'static [&'static str],
    arguments: &'static [&'static str],
    has_oracle: bool,
    functions: &'static [&'static str],
    end: &'static str,
}

const CASE: Case = Case {
    name: "",
    source: "plain.c",
    options: &[],
    arguments: &[],
    has_oracle: true,
    functions: &["main", "outer", "middle", "innermost"],
    end: "complete",
};
const SIGNAL: Case = Case { has_oracle: false, ..CASE };
const NO_TABLES: &[&str] = &["-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fomit-frame-pointer"];

const CASES: &[Case] = &[
    CASE_PLAIN,
    Case { name: "unoptimized", options: &["-O0"], ..CASE },
    // QEMU writes no note of the mask.
    Case { name: "signed return addresses", options: &["-mbranch-protection=standard"], has_oracle: false, ..CASE },
    Case {
        name: ".debug_frame only",
        options: &["-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        ..CASE
    },
    Case { name: "no CFI, frame records", options: &["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"], ..CASE },
    Case {
        name: "no CFI, no frame records",
        options: NO_TABLES,
        has_oracle: false,
        functions: &["settle"],
        end: "no-cfi",
        ..CASE
    },
    Case { name: "realigned frames", source: "realigned.c", functions: &["main", "outer", "inner"], ..CASE },
    Case { name: "frames of variable size", source: "variable.c", functions: &["main", "outer", "inner"], ..CASE },
    Case {
        name: "calls that never return",
        source: "noreturn.c",
        functions: &["main", "outer", "middle", "last"],
        ..CASE
    },
    Case { name: "tail calls", source: "tail.c", functions: &["main", "last"], ..CASE },
    Case {
        name: "signal handler",
        source: "handler.c",
        functions: &["main", "interrupted", "raise", "on_signal"],
        ..SIGNAL
    },
    Case {
        name: "handler on an alternate stack",
        source: "altstack.c",
        functions: &["main", "interrupted", "first", "second"],
        ..SIGNAL
    },
    Case {
        name: "handler of a fault in a function without a frame",
        source: "fault.c",
        functions: &["main", "outer", "fault", "on_fault"],
        ..SIGNAL
    },
    Case {
        name: "fault in a handler",
        source: "nested_fault.c",
        functions: &["main", "interrupted", "on_signal", "on_fault"],
        ..SIGNAL
    },
    Case {
        name: "call through null",
        source: "wild_call.c",
        arguments: &["null"],
        functions: &["main", "caller", "on_fault"],
        ..SIGNAL
    },
    Case {
        name: "call to where nothing is mapped",
        source: "wild_call.c",
        arguments: &["unmapped"],
        functions: &["main", "caller", "on_fault"],
        ..SIGNAL
    },
];
const CASE_PLAIN: Case = Case { name: "plain", ..CASE };

#[test]
fn cores_of_aarch64_have_the_frames_that_are_there() {
    let scenario = Scenario::new("aarch64");
    for program in ["aarch64-linux-gnu-gcc", "qemu-aarch64", "gdb-multiarch"] {
        if !has_program(program) {
            return scenario.skip("all", &format!("{program} is not installed"));
        }
    }
    for case in CASES {
        scenario.on(case.name, || check(case));
    }
    scenario.finish();
}

fn check(case: &Case) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pyst-native-").tempdir()?;
    let options = [&["-O2", "-static"], case.options].concat();
    let exe = build("aarch64-linux-gnu-gcc", case.source, &options, folder.path())?;
    let mut qemu = Command::new("qemu-aarch64");
    let mut program = Program::start(qemu.arg(&exe).args(case.arguments), folder)?.context("it ended")?;
    let core = program.qemu_core(Signal::SIGABRT)?;
    let report = report_of([&core, &exe])?;
    ensure!(report.json["snapshot"]["arch"] == "aarch64", "{}", report.json["snapshot"]);
    let main = report.threads().into_iter().next().context("no thread")?;
    contains_functions(&main, case.functions)?;
    ensure!(main.json["stack_end"] == case.end, "it ends with {}: {:?}", main.json["stack_end"], shown(&main));
    only_true_frames(&main, &program.return_addresses()?, case.end == "complete")?;
    if case.has_oracle {
        let oracle = native_stacks_of_core("gdb-multiarch", &exe, &core)?;
        let expected: Vec<u64> = oracle.values().flatten().map(|frame| frame.pc).collect();
        ensure!(pcs(&main) == expected, "{:?}, gdb has {oracle:x?}", shown(&main));
    }
    Ok(())
}
