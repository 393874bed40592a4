//! Names of functions: what was packed into a stripped program, and what c++filt makes of the symbols of C++ and Rust.

use super::cases::{CASE, Case};
use super::check;
use super::stacks::{folder, lacks};
use anyhow::{Context, Result, ensure};
use pyst_tests::{Program, Scenario, build, has_program, report_of, run, run_with_input};
use std::process::Command;

#[test]
fn a_stripped_program_is_named_by_its_packed_symbols() {
    let scenario = Scenario::new(".gnu_debugdata");
    if lacks(&scenario, &["gcc", "objcopy", "xz"]) {
        return;
    }
    scenario.on("plain.c", || {
        let folder = folder()?;
        let program = build("gcc", "plain.c", &["-O2"], folder.path())?;
        let commands: [&[&str]; 3] = [
            &[
                "objcopy",
                "-S",
                "--keep-symbol=main",
                "--keep-symbol=middle",
                "--keep-symbol=innermost",
                "plain",
                "mini",
            ],
            &["xz", "mini"],
            &["objcopy", "-S", "--add-section", ".gnu_debugdata=mini.xz", "plain"],
        ];
        for command in commands {
            run(Command::new(command[0]).args(&command[1..]).current_dir(folder.path()))?.expect_status(0)?;
        }
        let program = Program::start(&mut Command::new(program), folder)?.context("it ended")?;
        // `outer` is exported by nobody, and not among what was kept.
        check(&program, &Case { functions: &["main", "middle", "innermost"], ..CASE }).map(drop)
    });
    scenario.finish();
}

#[test]
fn names_are_those_that_the_tools_of_their_language_make_of_the_symbols() {
    let scenario = Scenario::new("names");
    if lacks(&scenario, &["gcc", "g++", "nm", "c++filt"]) {
        return;
    }
    let languages: [(&str, &str, &[&str], &str, usize); 4] = [
        ("C", "plain.c", &["-O2"], "auto", 4),
        ("C++", "names.cpp", &["-O1", "-std=c++17"], "auto", 12),
        ("Rust, v0", "names.rs", &["-O", "-Csymbol-mangling-version=v0"], "rust", 5),
        ("Rust, legacy", "names.rs", &["-O"], "rust", 5),
    ];
    for (language, source, options, style, least) in languages {
        let case = Case { source, options, ..CASE };
        if !has_program(case.compiler()) {
            scenario.skip(language, &format!("{} is not installed", case.compiler()));
            continue;
        }
        scenario.on(language, || check_names(&case, style, least));
    }
    scenario.finish();
}

fn check_names(case: &Case, style: &str, least: usize) -> Result<()> {
    let program = case.start()?.context("it ended")?;
    let exe = program.folder().join(case.executable());
    let symbols = run(Command::new("nm").arg(&exe))?.expect_status(0)?.text();
    let symbols: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let report = report_of([program.pid().to_string()])?;
    let frames = report.thread(program.pid())?.native_frames();
    let own = frames.iter().filter(|frame| frame["module"].as_str() == exe.to_str());
    let mut compared = 0;
    for frame in own {
        let (symbol, name) =
            (frame["raw_symbol"].as_str().context("no symbol")?, frame["function"].as_str().context("no name")?);
        ensure!(symbols.contains(&symbol), "nm knows no {symbol}");
        let told =
            run_with_input(Command::new("c++filt").args(["-s", style]), symbol.as_bytes())?.expect_status(0)?.text();
        ensure!(plain(name) == plain(told.trim()), "{symbol} is {name}, c++filt has {told}");
        compared += 1;
    }
    ensure!(compared >= least, "only {compared} frames: {frames:?}");
    Ok(())
}

/// Without spaces, and without what only one of the two tells: a Rust name's hash and its crate's, the type of a constant; what the
/// function returns that a closure of C++ is in.
fn plain(name: &str) -> String {
    let mut rest = name.replace(": usize", "").replace("auto int ", "auto ").replace(' ', "");
    if let Some(at) = rest.rfind("::h").filter(|at| rest.len() - at == 19) {
        rest.truncate(at);
    }
    let mut plain = String::new();
    let mut hash = None;
    for one in rest.chars() {
        match (one, &mut hash) {
            ('[', None) => hash = Some(String::from('[')),
            (']', Some(inside)) => {
                // `[0123456789abcdef]` is a crate's; `[u8]` a slice.
                let is_hash = inside.len() > 10 && inside[1..].chars().all(|digit| digit.is_ascii_hexdigit());
                if !is_hash {
                    plain += &format!("{inside}]");
                }
                hash = None;
            }
            (one, Some(inside)) => inside.push(one),
            (one, None) => plain.push(one),
        }
    }
    plain
}
