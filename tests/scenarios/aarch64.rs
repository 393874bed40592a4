//! Native stacks of aarch64: programs made by a cross compiler die under QEMU's user emulation, whose cores are unwound here as they
//! are, and completed by the notes that the kernel writes and QEMU does not. gdb is the oracle where it can do it: it loops on QEMU's
//! signal frames. Where it is none, the programs have written down where their functions return to.

use crate::native::stacks::{contains_functions, only_true_frames, same_frames, shown};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{
    Program, Report, Scenario, build, completed_core, has_program, native_stacks_of_core, native_stacks_of_core_with,
    note_of_files, note_of_signatures, report_of,
};
use std::path::Path;
use std::process::Command;

/// The bits that hold the signature of an address, as the kernel states them for addresses of 48 bits, and for those of 39 bits.
const SIGNATURE_48: u64 = 0x007f_0000_0000_0000;
const SIGNATURE_39: u64 = 0x007f_ff80_0000_0000;

struct Case {
    name: &'static str,
    source: &'static str,
    options: &'static [&'static str],
    arguments: &'static [&'static str],
    has_oracle: bool,
    is_static: bool,
    functions: &'static [&'static str],
    end: &'static str,
}

const CASE: Case = Case {
    name: "",
    source: "plain.c",
    options: &[],
    arguments: &[],
    has_oracle: true,
    is_static: true,
    functions: &["main", "outer", "middle", "innermost"],
    end: "complete",
};
const SIGNAL: Case = Case { has_oracle: false, ..CASE };
const DYNAMIC: Case = Case { is_static: false, ..CASE };
const SIGNED: &[&str] = &["-mbranch-protection=standard"];
const NO_TABLES: &[&str] = &["-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fomit-frame-pointer"];

const CASES: &[Case] = &[
    CASE_PLAIN,
    Case { name: "unoptimized", options: &["-O0"], ..CASE },
    Case { name: "signed return addresses", options: SIGNED, ..CASE },
    // gdb does not know these either.
    Case {
        name: "signed return addresses, as newer compilers tell of them",
        source: "signing.c",
        has_oracle: false,
        functions: &["main", "outer", "with_place", "middle", "with_state", "innermost"],
        ..CASE
    },
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
    Case { name: "threads", source: "threads.c", functions: &["main", "settle"], ..CASE },
    Case { name: "dynamic", ..DYNAMIC },
    Case { name: "dynamic, signed return addresses", options: SIGNED, ..DYNAMIC },
    Case { name: "dynamic, stripped", options: &["-s"], functions: &[], ..DYNAMIC },
    Case { name: "dynamic, threads", source: "threads.c", functions: &["main", "settle"], ..DYNAMIC },
    Case {
        name: "dynamic, handler on an alternate stack",
        source: "altstack.c",
        has_oracle: false,
        functions: &["main", "interrupted", "raise", "first", "raise", "second"],
        ..DYNAMIC
    },
    Case {
        name: "dynamic, library loaded late",
        source: "dlopen.c",
        functions: &["main", "call_back", "settled"],
        ..DYNAMIC
    },
    Case {
        name: "C++ exception caught",
        source: "exception.cpp",
        arguments: &["catch"],
        functions: &["main", "shapes::catches(int, bool)"],
        ..DYNAMIC
    },
    Case {
        name: "C++ exception on its way",
        source: "exception.cpp",
        arguments: &["unwinding"],
        functions: &["main", "shapes::catches(int, bool)", "int shapes::passes<int>(int, bool)"],
        ..DYNAMIC
    },
    Case {
        name: "C++ exception that nobody catches",
        source: "exception.cpp",
        arguments: &["terminate"],
        functions: &["main", "int shapes::passes<int>(int, bool)", "std::terminate()"],
        ..DYNAMIC
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
        if !has_program(case.compiler()) {
            scenario.skip(case.name, &format!("{} is not installed", case.compiler()));
            continue;
        }
        scenario.on(case.name, || check(case));
    }
    scenario.finish();
}

impl Case {
    fn executable(&self) -> &'static str {
        self.source.split('.').next().unwrap_or_default()
    }

    fn compiler(&self) -> &'static str {
        if self.source.ends_with(".cpp") { "aarch64-linux-gnu-g++" } else { "aarch64-linux-gnu-gcc" }
    }
}

fn check(case: &Case) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("pyst-native-").tempdir()?;
    let linked: &[&str] = if case.is_static { &["-O2", "-static"] } else { &["-O2"] };
    let exe = build(case.compiler(), case.source, &[linked, case.options].concat(), folder.path())?;
    let mut qemu = Command::new("qemu-aarch64");
    qemu.args(["-L", "/usr/aarch64-linux-gnu"]).arg(&exe).args(case.arguments).env("PYST_MAPS", "1");
    if case.source == "dlopen.c" {
        qemu.arg(build(case.compiler(), "dlopen_library.c", &["-O2", "-shared", "-fPIC"], folder.path())?);
    }
    let mut program = Program::start(&mut qemu, folder)?.context("it ended")?;
    let core = program.qemu_core(Signal::SIGABRT)?;
    if case.is_static {
        // No note of the mask: signed addresses are beyond gdb then.
        let oracle = if case.options == SIGNED { None } else { Some(core.as_path()) };
        check_report(&report_of([&core, &exe])?, &program, case, oracle).context("QEMU's core")?;
    }
    let files = note_of_files(maps(&program));
    let completed = completed_core(&core, &[files.clone(), note_of_signatures(SIGNATURE_48)], |word| word)?;
    check_report(&report_of([&completed])?, &program, case, Some(&completed)).context("completed core")?;
    // As where addresses have fewer bits, and signatures more.
    let code = code(&program);
    let change = |word: u64| {
        let address = word & !SIGNATURE_39;
        let is_signed = word & SIGNATURE_39 != 0 && code.iter().any(|(start, end)| (*start..*end).contains(&address));
        if is_signed { word | (SIGNATURE_39 & !SIGNATURE_48) } else { word }
    };
    let completed = completed_core(&core, &[files, note_of_signatures(SIGNATURE_39)], change)?;
    check_report(&report_of([&completed])?, &program, case, Some(&completed)).context("addresses of 39 bits")
}

fn maps(program: &Program) -> impl Iterator<Item = &str> {
    program.said.iter().filter_map(|line| line.strip_prefix("map "))
}

/// The mapped files, each with what lies between its addresses and those in memory.
fn files(program: &Program) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = Vec::new();
    for line in maps(program) {
        let (Some(start), Some(at)) = (line.split('-').next(), line.find('/')) else { continue };
        let path = line[at..].trim();
        if files.iter().all(|(known, _)| known != path) {
            let start = u64::from_str_radix(start, 16).unwrap_or_default();
            files.push((path.to_owned(), start));
        }
    }
    files
}

/// The ranges of code.
fn code(program: &Program) -> Vec<(u64, u64)> {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
    let code = maps(program).filter(|line| line.contains(" r-xp "));
    let ranges = code.filter_map(|line| line.split(' ').next()?.split_once('-'));
    ranges.map(|(start, end)| (hex(start), hex(end))).collect()
}

fn check_report(report: &Report, program: &Program, case: &Case, oracle: Option<&Path>) -> Result<()> {
    ensure!(report.json["snapshot"]["arch"] == "aarch64", "{}", report.json["snapshot"]);
    let threads = report.threads();
    // The one that the signal went to, whichever that was, comes before all.
    let pid = &report.json["process"]["pid"];
    let main = threads.iter().find(|thread| thread.json["tid"] == *pid).context("no main thread")?;
    contains_functions(main, case.functions)?;
    ensure!(main.json["stack_end"] == case.end, "it ends with {}: {:?}", main.json["stack_end"], shown(main));
    only_true_frames(main, &program.return_addresses()?, case.end == "complete")?;
    if let Some(core) = oracle.filter(|_| case.has_oracle) {
        // Where it can, gdb looks at how functions begin, and needs the executable as such for that.
        let oracle = match case.is_static {
            true => native_stacks_of_core("gdb-multiarch", &program.folder().join(case.executable()), core)?,
            false => native_stacks_of_core_with("gdb-multiarch", &files(program), core)?,
        };
        ensure!(oracle.len() == threads.len(), "{} threads, gdb has {}", threads.len(), oracle.len());
        for (tid, frames) in oracle {
            same_frames(&report.thread(tid)?, &frames)?;
        }
    }
    Ok(())
}
