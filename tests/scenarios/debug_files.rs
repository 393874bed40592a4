//! What was stripped from a program is found wherever its debug files may be, and however they are packed: the frames, functions,
//! files and lines are those that gdb has of the program before it was stripped. Without the debug file they are not.

use crate::native::stacks::{contains_functions, folder, lacks, shown};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Program, Report, Scenario, build, grab, native_stacks_of_process, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Where a debug file is put.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Where the program is.
    Beside,
    /// In `.debug` there.
    Below,
    /// In a folder laid out like `/usr/lib/debug`, under the program's own path.
    ByPath,
    /// In such a folder, under the build-id.
    ByBuildId,
}

const PLACES: [Place; 4] = [Place::Beside, Place::Below, Place::ByPath, Place::ByBuildId];
const PROGRAM: &str = "inlined.cpp";
const OPTIONS: [&str; 3] = ["-O2", "-g", "-Wl,--build-id"];
const WITHOUT_CFI: [&str; 3] = ["-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];

#[test]
fn debug_files_are_found_by_link_and_by_build_id() {
    let scenario = Scenario::new("debug files");
    if lacks(&scenario, &["gdb", "g++", "objcopy", "readelf"]) {
        return;
    }
    for place in PLACES {
        scenario.on(&format!("{place:?}"), || {
            let folder = folder()?;
            build("g++", PROGRAM, &OPTIONS, folder.path())?;
            let expected = told_by_gdb(&folder)?;
            let debug = strip(&folder, "inlined", place, &[])?;
            let program = start(folder)?;
            let with = of_program(&report(&program)?, &program)?;
            ensure!(with == expected, "{with:?}, gdb has {expected:?}");
            std::fs::remove_file(program.folder().join(debug))?;
            let without = of_program(&report(&program)?, &program)?;
            ensure!(without.iter().all(|call| call.line.is_none()), "lines from nowhere: {without:?}");
            ensure!(without.len() < expected.len(), "inlined functions from nowhere: {without:?}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_debug_file_of_another_build_is_not_believed() {
    let scenario = Scenario::new("debug files of another build");
    if lacks(&scenario, &["g++", "objcopy", "readelf"]) {
        return;
    }
    for place in PLACES {
        scenario.on(&format!("{place:?}"), || {
            let folder = folder()?;
            build("g++", PROGRAM, &OPTIONS, folder.path())?;
            let debug = strip(&folder, "inlined", place, &[])?;
            let other = tempfile::tempdir()?;
            let wrong = build("g++", PROGRAM, &["-O1", "-g", "-Wl,--build-id"], other.path())?;
            std::fs::copy(wrong, folder.path().join(debug))?;
            let program = start(folder)?;
            let told = of_program(&report(&program)?, &program)?;
            ensure!(told.iter().all(|call| call.line.is_none()), "lines of another build: {told:?}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn unwind_information_that_only_the_debug_file_has_leads_on() {
    let scenario = Scenario::new(".debug_frame of debug files");
    if lacks(&scenario, &["gdb", "gcc", "objcopy", "readelf"]) {
        return;
    }
    for place in PLACES {
        for packing in [None, Some("zlib-gabi"), Some("zlib-gnu"), Some("zstd")] {
            let packing: Vec<String> =
                packing.map(|one| format!("--compress-debug-sections={one}")).into_iter().collect();
            scenario.on(&format!("{place:?} {packing:?}"), || {
                let folder = folder()?;
                build("gcc", "plain.c", &[&["-O2", "-Wl,--build-id"][..], &WITHOUT_CFI].concat(), folder.path())?;
                let debug = strip(&folder, "plain", place, &packing)?;
                let program =
                    Program::start(&mut Command::new(folder.path().join("plain")), folder)?.context("it ended")?;
                let with = report(&program)?;
                let main = with.thread(program.pid())?;
                contains_functions(&main, &["main", "outer", "middle", "innermost"])?;
                ensure!(main.json["stack_end"] == "complete", "{:?}", shown(&main));
                crate::native::stacks::only_true_frames(&main, &program.return_addresses()?, true)?;
                std::fs::remove_file(program.folder().join(debug))?;
                let without = report(&program)?;
                let main = without.thread(program.pid())?;
                ensure!(
                    main.json["stack_end"] == "no-cfi",
                    "it ends with {}: {:?}",
                    main.json["stack_end"],
                    shown(&main)
                );
                ensure!(without.codes().contains(&"no-cfi".to_owned()), "nothing says so: {:?}", without.codes());
                Ok(())
            });
        }
    }
    scenario.finish();
}

#[test]
fn compressed_debug_information_says_the_same() {
    let scenario = Scenario::new("compressed debug information");
    if lacks(&scenario, &["gdb", "g++", "objcopy"]) {
        return;
    }
    for packing in ["zlib-gabi", "zlib-gnu", "zstd"] {
        scenario.on(packing, || {
            let folder = folder()?;
            build("g++", PROGRAM, &OPTIONS, folder.path())?;
            let expected = told_by_gdb(&folder)?;
            let option = format!("--compress-debug-sections={packing}");
            run(Command::new("objcopy").args([&option, "inlined"]).current_dir(folder.path()))?.expect_status(0)?;
            let sections = run(Command::new("readelf").args(["-SW", "inlined"]).current_dir(folder.path()))?.text();
            let info = sections.lines().find(|line| line.contains("debug_info ")).unwrap_or_default();
            let is_packed = info.contains(".zdebug") || info.split_whitespace().any(|flags| flags == "C");
            ensure!(is_packed, "objcopy did not compress: {info}");
            let program = start(folder)?;
            let told = of_program(&report(&program)?, &program)?;
            ensure!(told == expected, "{told:?}, gdb has {expected:?}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn names_that_dwz_has_moved_to_a_supplement_are_there_and_a_missing_one_is_named() {
    let scenario = Scenario::new("dwz");
    if lacks(&scenario, &["gdb", "g++", "objcopy", "dwz"]) {
        return;
    }
    scenario.on("supplement", || {
        let folder = folder()?;
        build("g++", PROGRAM, &["-O2", "-gdwarf-4"], folder.path())?;
        let expected = told_by_gdb(&folder)?;
        let other = folder.path().join("other");
        std::fs::copy(folder.path().join("inlined"), &other)?;
        let supplement = folder.path().join("common.debug");
        let mut dwz = Command::new("dwz");
        dwz.arg("-m").arg(&supplement).arg("-M").arg(&supplement).args(["inlined", "other"]);
        run(dwz.current_dir(folder.path()))?.expect_status(0)?;
        let program = start(folder)?;
        let told = of_program(&report(&program)?, &program)?;
        ensure!(told == expected, "{told:?}, gdb has {expected:?}");

        std::fs::remove_file(&supplement)?;
        let report = report(&program)?;
        let told = of_program(&report, &program)?;
        ensure!(told.len() < expected.len(), "names from nowhere: {told:?}");
        is_said_to_lack(&report, "common.debug")
    });
    scenario.finish();
}

#[test]
fn split_debug_information_leaves_the_names_and_is_said_to_be_missing() {
    let scenario = Scenario::new("split DWARF");
    if lacks(&scenario, &["g++"]) {
        return;
    }
    for (circumstance, keeps) in [("beside", true), ("gone", false)] {
        scenario.on(circumstance, || {
            let folder = folder()?;
            build("g++", PROGRAM, &["-O2", "-g", "-gsplit-dwarf"], folder.path())?;
            for entry in std::fs::read_dir(folder.path())?.flatten().filter(|_| !keeps) {
                if entry.path().extension().is_some_and(|end| end == "dwo") {
                    std::fs::remove_file(entry.path())?;
                }
            }
            let program = start(folder)?;
            let report = report(&program)?;
            let main = report.thread(program.pid())?;
            contains_functions(&main, &["main", "shapes::area(double, char const*)", "shapes::area(int)"])?;
            is_said_to_lack(&report, ".dwo")
        });
    }
    scenario.finish();
}

fn is_said_to_lack(report: &Report, file: &str) -> Result<()> {
    let all = report.json["diagnostics"].as_array().cloned().unwrap_or_default();
    let said = all.iter().filter(|one| one["code"] == "split-dwarf");
    let named = said.filter_map(|one| one["message"].as_str()).any(|message| message.contains(file));
    ensure!(named, "nothing names {file}: {all:?}");
    Ok(())
}

/// A call as both tell it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    function: String,
    file: String,
    line: Option<u64>,
}

/// The calls of the program itself, from `main` inwards, that gdb finds in the program as it is now.
fn told_by_gdb(folder: &TempDir) -> Result<Vec<Told>> {
    let copy = tempfile::Builder::new().prefix("pyst-native-").tempdir()?;
    std::fs::copy(folder.path().join("inlined"), copy.path().join("inlined"))?;
    let program = start(copy)?;
    let mut stacks = native_stacks_of_process(program.pid(), None)?;
    let frames = stacks.remove(&program.pid()).context("gdb does not know the thread")?;
    let calls = frames.iter().flat_map(|frame| frame.calls.iter().rev());
    let own = calls.filter(|call| call.file.as_deref().is_some_and(|file| file.contains("targets/native")));
    let told: Vec<Told> = own
        .map(|call| Told {
            function: base(call.name.as_deref().unwrap_or_default()),
            file: call.file.clone().unwrap_or_default(),
            line: call.line.map(u64::from),
        })
        .collect();
    ensure!(told.len() > 5, "gdb tells {told:?}");
    Ok(told)
}

/// The same of a report.
fn of_program(report: &Report, program: &Program) -> Result<Vec<Told>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let frames = report.thread(program.pid())?.frames();
    let own =
        frames.iter().filter(|frame| text(&frame["module"]).ends_with("/inlined") && frame["function"] != "_start");
    let told = own.map(|frame| Told {
        function: base(frame["function"].as_str().unwrap_or_default()),
        file: text(&frame["file"]),
        line: frame["line"].as_u64(),
    });
    Ok(told.collect())
}

/// Without namespaces and parameters: where g++ keeps no symbol of an inlined function, its name is all that there is, and gdb puts
/// the namespace before it.
fn base(name: &str) -> String {
    let name = name.split('(').next().unwrap_or_default();
    name.rsplit("::").next().unwrap_or_default().to_owned()
}

fn start(folder: TempDir) -> Result<Program> {
    Program::start(&mut Command::new(folder.path().join("inlined")), folder)?.context("it ended")
}

/// The report, with the folder `debug` beside the program as one more folder of debug files.
fn report(program: &Program) -> Result<Report> {
    let debug = format!("--debug-dir={}", program.folder().join("debug").display());
    let snapshot = grab([&debug, &program.pid().to_string()])?.snapshot()?;
    let mut pipeline = Pipeline::with_local_files(&["--format", "json", "--all-threads"]);
    pipeline.stages[0].1.push(debug);
    let last = pipeline.run(&snapshot)?.pop().context("no stage")?;
    Report::parse(&last.expect_status(0)?.stdout)
}

/// Moves all that only debuggers need of a program to a file of its own. Where that is, below the folder.
fn strip(folder: &TempDir, name: &str, place: Place, packing: &[String]) -> Result<String> {
    let notes = run(Command::new("readelf").args(["-n", name]).current_dir(folder.path()))?.text();
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).context("no build-id")?;
    let (first, rest) = id.split_at(2);
    let own = folder.path().to_str().context("path")?;
    let debug = match place {
        Place::Beside => format!("{name}.debug"),
        Place::Below => format!(".debug/{name}.debug"),
        Place::ByPath => format!("debug{own}/{name}.debug"),
        Place::ByBuildId => format!("debug/.build-id/{first}/{rest}.debug"),
    };
    std::fs::create_dir_all(folder.path().join(&debug).parent().unwrap_or(Path::new("/")))?;
    let objcopy = |arguments: &[&str]| -> Result<()> {
        run(Command::new("objcopy").args(arguments).current_dir(folder.path()))?.expect_status(0).map(drop)
    };
    let packing: Vec<&str> = packing.iter().map(String::as_str).collect();
    objcopy(&[&["--only-keep-debug"][..], &packing, &[name, &debug]].concat())?;
    if matches!(place, Place::ByBuildId) {
        return objcopy(&["--strip-all", name]).map(|()| debug);
    }
    objcopy(&["--strip-all", &format!("--add-gnu-debuglink={debug}"), name]).map(|()| debug)
}
