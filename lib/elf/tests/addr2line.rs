#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
//! Inlined functions and lines, against what binutils' `addr2line` says of the same file.

use pyst_elf::{Calls, ElfFile};
use pyst_snapshot::Svma;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = r#"
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>
namespace outer { namespace {
template <typename T> struct Box { T value; T twice() const { return value + value; } };
inline __attribute__((always_inline)) int deepest(int n) { return std::printf("%d\n", n); }
inline __attribute__((always_inline)) int deeper(int n) { return deepest(n + 1) + 1; }
} }
__attribute__((noinline)) int overloaded(int n) { return outer::deeper(n) + 2; }
__attribute__((noinline)) int overloaded(const std::string &s) { return (int)s.size() + outer::deeper(3); }
int main(int argc, char **argv) {
    std::vector<int> numbers{3, 1, argc};
    std::sort(numbers.begin(), numbers.end(), [](int a, int b) { return outer::deeper(a) < b; });
    outer::Box<long> box{argc};
    return overloaded(numbers[0]) + overloaded(std::string(argv[0])) + (int)box.twice();
}
"#;

struct Built {
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn available(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no {tool}\n"));
    }
    there
}

fn build(options: &[&str]) -> Option<Built> {
    if !available("g++") || !available("addr2line") || !available("objcopy") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    std::fs::write(directory.path().join("program.cc"), PROGRAM).unwrap();
    let mut compiler = Command::new("g++");
    compiler.current_dir(directory.path()).args(["-O2", "-g", "-Wl,--build-id", "-o", "program", "program.cc"]);
    assert!(compiler.args(options).status().unwrap().success());
    Some(Built { directory, path })
}

fn open(path: &Path) -> Option<ElfFile> {
    ElfFile::open(File::open(path).ok()?).ok()
}

/// Every second svma of the functions compiled here.
fn svmas(built: &Built) -> Vec<Svma> {
    let file = open(&built.path).unwrap();
    let names = ["main", "_Z10overloadedi", "_Z10overloadedRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"];
    // Optimization may leave fewer.
    let hits = names.iter().filter_map(|name| file.symbol(file.symbol_named(name)?));
    hits.collect::<Vec<_>>().iter().flat_map(|hit| (hit.svma.0..hit.svma.0 + hit.size).step_by(2)).map(Svma).collect()
}

/// For each svma the calls, innermost first: function, file's name, line.
fn told_by_addr2line(path: &Path, svmas: &[Svma]) -> Vec<Vec<(String, String, u32)>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-f", "-i", "-e"]).arg(path).args(svmas.iter().map(|svma| format!("{:#x}", svma.0)));
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let mut told = Vec::new();
    let mut lines = output.lines().peekable();
    while lines.next().is_some() {
        let mut calls = Vec::new();
        while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
            let function = lines.next().unwrap().to_owned();
            let place = lines.next().unwrap().split(" (").next().unwrap().to_owned();
            let (file, line) = place.rsplit_once(':').unwrap();
            calls.push((function, name_of(file), line.parse().unwrap_or(0)));
        }
        told.push(calls);
    }
    told
}

fn name_of(file: &str) -> String {
    file.rsplit('/').next().unwrap().to_owned()
}

fn told_by_pyst(calls: &Calls) -> Vec<(String, String, u32)> {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("?".into(), |b| String::from_utf8_lossy(b).into_owned());
    calls.calls.iter().map(|call| (text(&call.function), name_of(&text(&call.file)), call.line.unwrap_or(0))).collect()
}

/// How many svmas have more than one call.
fn compare(built: &Built, file: &ElfFile) -> usize {
    let svmas = svmas(built);
    let expected = told_by_addr2line(&built.path, &svmas);
    assert_eq!(expected.len(), svmas.len());
    let told = file.calls_covering(&svmas);
    for ((svma, expected), calls) in svmas.iter().zip(&expected).zip(&told) {
        let mut told = told_by_pyst(calls);
        // Where the innermost function has no linkage name, addr2line gives it the name of the physical one.
        if told.len() > 1 && expected[0].0 == told[told.len() - 1].0 {
            told[0].0.clone_from(&expected[0].0);
        }
        assert_eq!(&told, expected, "at {svma}");
        assert_eq!(calls.lacking, None);
    }
    told.iter().filter(|calls| calls.calls.len() > 1).count()
}

#[test]
fn inlined_functions_and_lines_are_those_that_addr2line_tells() {
    for options in [&["-gdwarf-5"][..], &["-gdwarf-4"], &["-gdwarf-5", "-gz=zlib"], &["-gdwarf-5", "-O3"]] {
        let Some(built) = build(options) else { return };
        assert!(compare(&built, &open(&built.path).unwrap()) > 20, "{options:?}");
    }
}

/// C that is a unit of its own, with something inlined, and as much for nothing as makes its debug information long.
fn unit_of(name: &str) -> String {
    let structures: String =
        (0..4000).map(|i| format!("struct {name}{i} {{ int a{i}; long b{i}; }} {name}_{i};\n")).collect();
    format!(
        "{structures}static inline int twice(int n) {{ return n * 2 + {name}_7.a7; }}\nint {name}(int n) {{ return twice(n) + 1; }}\n"
    )
}

/// What a packed section has behind what an address needs is not unpacked: nothing of the answer may be there.
#[test]
fn a_packed_file_answers_for_each_svma_alone_as_an_unpacked_one_does_for_all() {
    let names = ["first", "second", "third", "fourth"];
    let sources = names.map(|name| format!("{name}.c"));
    let Some(built) = build(&["-gz=zlib"]) else { return };
    let run = |tool: &str, arguments: &[&str]| {
        let status = Command::new(tool).current_dir(built.directory.path()).args(arguments).status();
        assert!(status.unwrap().success());
    };
    for (name, source) in names.iter().zip(&sources) {
        std::fs::write(built.directory.path().join(source), unit_of(name)).unwrap();
    }
    let mut arguments = vec!["-O2", "-g", "-shared", "-fPIC", "-gz=zlib", "-o", "program"];
    arguments.extend(sources.iter().map(String::as_str));
    run("gcc", &arguments);
    run("objcopy", &["--decompress-debug-sections", "program", "unpacked"]);
    let unpacked = open(&built.directory.path().join("unpacked")).unwrap();
    let svmas: Vec<Svma> = names.iter().map(|name| unpacked.symbol_named(name).unwrap()).collect();
    let expected = unpacked.calls_covering(&svmas);
    assert!(expected.iter().all(|calls| calls.calls.len() == 2), "{expected:?}");
    for (svma, expected) in svmas.iter().zip(&expected) {
        assert_eq!(open(&built.path).unwrap().calls_covering(&[*svma]), std::slice::from_ref(expected));
    }
    assert_eq!(open(&built.path).unwrap().calls_covering(&svmas), expected);
}

#[test]
fn a_debug_link_leads_to_the_lines_if_the_file_is_the_one_that_was_meant() {
    for id in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let Some(built) = build(&[id]) else { return };
        let at = |name: &str| built.directory.path().join(name);
        let run = |arguments: &[&str]| {
            let status = Command::new("objcopy").current_dir(built.directory.path()).args(arguments).status();
            assert!(status.unwrap().success());
        };
        run(&["--only-keep-debug", "program", "program.debug"]);
        run(&["--strip-debug", "--add-gnu-debuglink=program.debug", "program", "stripped"]);
        let stripped = || open(&at("stripped")).unwrap();
        let svmas = svmas(&built);
        assert!(stripped().calls_covering(&svmas).iter().all(|calls| *calls == Calls::default()));
        let linked = stripped().with_companions(&at("stripped"), &open);
        assert!(compare(&built, &linked) > 20);
        // Another file under that name.
        let Some(other) = build(&[id, "-O1"]) else { return };
        std::fs::copy(&other.path, at("program.debug")).unwrap();
        let linked = stripped().with_companions(&at("stripped"), &open);
        assert!(linked.calls_covering(&svmas).iter().all(|calls| *calls == Calls::default()));
    }
}

#[test]
fn an_old_compressed_section_that_lies_about_its_size_is_not_unpacked() {
    let Some(built) = build(&["-gz=zlib-gnu"]) else { return };
    let svmas = svmas(&built);
    let bytes = std::fs::read(&built.path).unwrap();
    let headers: Vec<usize> = memchr::memmem::find_iter(&bytes, b"ZLIB\0\0\0\0").collect();
    assert!(headers.len() > 3, "not compressed");
    for size in [0, 1, 1 << 30, u64::MAX] {
        let mut damaged = bytes.clone();
        for at in &headers {
            damaged[at + 4..at + 12].copy_from_slice(&size.to_be_bytes());
        }
        let file = ElfFile::from_bytes(damaged).unwrap();
        assert!(file.calls_covering(&svmas).iter().all(|calls| *calls == Calls::default()), "{size}");
    }
}

#[test]
fn split_debug_information_is_said_to_be_lacking() {
    let Some(built) = build(&["-gsplit-dwarf"]) else { return };
    let file = open(&built.path).unwrap();
    let calls = file.calls_covering(&svmas(&built));
    let lacking = calls.iter().find_map(|calls| calls.lacking.clone()).expect("said to be lacking");
    assert!(lacking.ends_with(b".dwo"), "{}", String::from_utf8_lossy(&lacking));
}

#[test]
fn damaged_debug_information_neither_panics_nor_hangs() {
    let Some(built) = build(&[]) else { return };
    let svmas = svmas(&built);
    let bytes = std::fs::read(&built.path).unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = seed;
    let mut next = |bound: usize| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % bound
    };
    for _ in 0..100 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + next(40) {
            let at = next(damaged.len());
            damaged[at] = next(256) as u8;
        }
        if let Ok(file) = ElfFile::from_bytes(damaged) {
            let _ = file.calls_covering(&svmas);
        }
    }
}

/// A program with `units` units that use the same abbreviations, `inlined` functions inlined each into the one before, and
/// as many abbreviations as asked that nothing uses.
fn hostile(units: usize, inlined: usize, abbreviations: usize) -> String {
    let range = ".quad main\n.quad .Lend-main\n";
    let abbreviation =
        |code: usize, tag: u32| format!(".uleb128 {code}\n.uleb128 {tag}\n.byte 1\n.byte 17,1,18,7,0,0\n");
    let mut text = String::from(".text\n.globl main\n.type main,@function\nmain:\nret\n.size main,.-main\n.Lend:\n");
    text += ".section .debug_abbrev,\"\",@progbits\n";
    text += &[abbreviation(1, 0x11), abbreviation(2, 0x2e), abbreviation(3, 0x1d)].concat();
    text += &(4..4 + abbreviations).map(|code| abbreviation(code, 0x1d)).collect::<String>();
    text += ".byte 0\n.section .debug_info,\"\",@progbits\n";
    for unit in 0..units {
        text += &format!(".long .Le{unit}-.Ls{unit}\n.Ls{unit}:\n.short 4\n.long 0\n.byte 8\n");
        text += &format!(".uleb128 1\n{range}.uleb128 2\n{range}.rept {inlined}\n.uleb128 3\n{range}.endr\n");
        text += &format!(".zero {}\n.Le{unit}:\n", inlined + 2);
    }
    text + ".section .note.GNU-stack,\"\",@progbits\n"
}

fn assemble(source: &str) -> Option<ElfFile> {
    if !available("gcc") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("hostile.s"), source).unwrap();
    let command = ["-o", "hostile", "hostile.s"];
    assert!(Command::new("gcc").current_dir(directory.path()).args(command).status().unwrap().success());
    open(&directory.path().join("hostile"))
}

/// Assembly of debug information: one unit with these entries, each a name and a range; a dot closes one.
fn nested(entries: &[(&str, u8, &str)]) -> String {
    let mut text = String::from(".text\n.globl main\n.type main,@function\nmain:\n.zero 64,0x90\n.size main,.-main\n");
    text += ".section .debug_abbrev,\"\",@progbits\n";
    for (code, tag) in [(1, 0x11), (2, 0x2e), (3, 0x1d), (4, 0x0b)] {
        text += &format!(".uleb128 {code}\n.uleb128 {tag}\n.byte 1\n.byte 3,8,17,1,18,7,0,0\n");
    }
    text += ".byte 0\n.section .debug_info,\"\",@progbits\n.long .Lend-.Lstart\n.Lstart:\n.short 4\n.long 0\n.byte 8\n";
    for (name, code, range) in entries {
        match range.split_once(' ') {
            Some((from, to)) => {
                text += &format!(".uleb128 {code}\n.string \"{name}\"\n.quad main+{from}\n.quad {to}-{from}\n");
            }
            None => text += ".byte 0\n",
        }
    }
    text + ".Lend:\n.section .note.GNU-stack,\"\",@progbits\n"
}

#[test]
fn an_inlined_function_is_one_of_a_block_whatever_was_inlined_into_blocks_before() {
    let end = ("", 0, "");
    let source = nested(&[
        ("unit", 1, "0 64"),
        ("main", 2, "0 64"),
        ("block", 4, "0 16"),
        ("before", 3, "0 8"),
        end,
        end,
        ("block", 4, "16 64"),
        ("block", 4, "16 48"),
        ("outer", 3, "16 32"),
        ("block", 4, "16 32"),
        ("inner", 3, "20 24"),
        end,
        end,
        end,
        end,
        end,
        end,
        end,
    ]);
    let Some(file) = assemble(&source) else { return };
    let main = file.symbol_named("main").unwrap();
    let names = |offset: u64| {
        let calls = file.calls_covering(&[Svma(main.0 + offset)]).pop().unwrap().calls;
        let names = calls.iter().filter_map(|call| call.function.clone());
        names.map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>().join(" ")
    };
    let told = [0, 8, 16, 20, 23, 24, 32, 63].map(names);
    assert_eq!(
        told,
        ["before main", "main", "outer main", "inner outer main", "inner outer main", "outer main", "main", "main"]
    );
}

#[test]
fn attributes_that_take_no_bytes_do_not_take_hours() {
    // Entries of one byte, each with a hundred thousand attributes.
    let mut text = hostile(1, 0, 0);
    let flags = ".uleb128 9\n.uleb128 0x2e\n.byte 0\n.rept 100000\n.byte 0x3f,0x19\n.endr\n.byte 0,0\n";
    text = text.replacen(".byte 0\n.section .debug_info", &format!("{flags}.byte 0\n.section .debug_info"), 1);
    text = text.replacen(".zero 2\n", ".fill 100000,1,9\n.zero 2\n", 1);
    let Some(file) = assemble(&text) else { return };
    let main = file.symbol_named("main").unwrap();
    let start = std::time::Instant::now();
    assert_eq!(file.calls_covering(&[main, Svma(main.0 + 1)]), [Calls::default(), Calls::default()]);
    assert!(start.elapsed().as_secs() < 600);
}

#[test]
fn entries_that_nest_without_end_are_refused_before_they_are_followed() {
    let Some(file) = assemble(&hostile(1, 200_000, 0)) else { return };
    let main = file.symbol_named("main").unwrap();
    assert_eq!(file.calls_covering(&[main]), [Calls::default()]);
}

#[test]
fn abbreviations_that_all_units_read_anew_do_not_take_hours() {
    let Some(file) = assemble(&hostile(20_000, 1, 40_000)) else { return };
    let main = file.symbol_named("main").unwrap();
    let start = std::time::Instant::now();
    assert_eq!(file.calls_covering(&[main]), [Calls::default()]);
    assert!(start.elapsed().as_secs() < 600);
}
