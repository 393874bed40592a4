#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
//! What [`ElfFile`] says of files made by the system's compiler, against what `readelf` says. Also: no damage to such a
//! file makes it panic or hang.

use pyst_elf::{ElfFile, SymbolHit};
use pyst_snapshot::payload::SymbolTable;
use pyst_snapshot::{Address, Bias, Svma};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PROGRAM: &str = r#"
#include <math.h>
#include <stdio.h>
static __attribute__((noinline)) int inner(int n) { return printf("%d\n", n); }
int outer(int n) { int a[n]; a[0] = inner(n); return a[0] + 1; }
int alias_of_outer(int n) __attribute__((alias("outer")));
int __alias_of_outer(int n) __attribute__((alias("outer")));
__asm__(".text\n.globl bare\nbare:\n nop\n ret\n.type sized,@function\nsized:\n ret\n.size sized,1\n nop\n nop\n");
extern void bare(void);
int main(int c, char **v) { bare(); return outer(c) + alias_of_outer(c) + __alias_of_outer(c) + (int)sin(c); }
"#;

struct Built {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Built {
    fn open(&self) -> ElfFile {
        ElfFile::open(File::open(&self.path).unwrap()).unwrap()
    }

    fn readelf(&self, options: &[&str]) -> String {
        let output = Command::new("readelf").args(options).arg("-W").arg(&self.path).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn changed_by(&self, tool: &str, options: &[&str]) -> Built {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("changed");
        std::fs::copy(&self.path, &path).unwrap();
        assert!(Command::new(tool).args(options).arg(&path).status().unwrap().success());
        Built { _directory: directory, path }
    }
}

fn available(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no {tool}\n"));
    }
    there
}

fn build(options: &[&str]) -> Option<Built> {
    if !available("gcc") || !available("readelf") || cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("program.c");
    let path = directory.path().join("program");
    std::fs::write(&source, PROGRAM).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-rdynamic", "-Wl,--build-id"]).args(options).arg(&source).arg("-o").arg(&path).arg("-lm");
    assert!(gcc.status().unwrap().success());
    Some(Built { _directory: directory, path })
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// The FDEs that readelf lists, as (start, end).
fn listed_fdes(built: &Built, from: &str) -> Vec<(u64, u64)> {
    let dump = built.readelf(&["--debug-dump=frames"]);
    let section = dump.split("Contents of the ").find(|part| part.starts_with(from)).unwrap_or("");
    let ranges = section.lines().filter_map(|line| line.split_once(" pc=")?.1.split_once(".."));
    ranges.map(|(start, end)| (hex(start), hex(end.split_whitespace().next().unwrap()))).collect()
}

/// The functions of a table that readelf lists, as (svma, size, name).
fn listed_functions(built: &Built, options: &[&str]) -> Vec<(u64, u64, String)> {
    let listing = built.readelf(options);
    let rows = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() >= 8 && row[3] == "FUNC" && row[6] != "UND")
        .map(|row| (hex(row[1]), row[2].parse().unwrap_or(0), row[7].split('@').next().unwrap().to_owned()))
        .collect()
}

fn assert_covers_as_readelf_says(built: &Built, section: &str) {
    let file = built.open();
    let fdes = listed_fdes(built, section);
    assert!(fdes.len() >= 4, "{fdes:?}");
    for (start, end) in fdes {
        for svma in [start, start + (end - start) / 2, end - 1] {
            let entry = file.cfi(Svma(svma)).unwrap_or_else(|| panic!("no FDE for {svma:#x}"));
            assert_eq!((entry.start.0, entry.end.0), (start, end));
            assert_eq!(entry.fde.len(), 4 + u32::from_le_bytes(entry.fde[..4].try_into().unwrap()) as usize);
            assert_eq!(entry.cie.len(), 4 + u32::from_le_bytes(entry.cie[..4].try_into().unwrap()) as usize);
        }
    }
    assert_eq!(file.cfi(Svma(u64::MAX)), None);
    assert_eq!(file.cfi(Svma(0)), None);
}

#[test]
fn build_id_and_segments_are_those_of_readelf() {
    let Some(built) = build(&[]) else { return };
    let file = built.open();
    let notes = built.readelf(&["-n"]);
    let expected = notes.lines().find_map(|line| Some(line.split_once("Build ID: ")?.1.trim())).unwrap();
    let found: String = file.build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected);

    let listing = built.readelf(&["-l"]);
    let loads = listing.lines().map(str::trim).filter(|line| line.starts_with("LOAD"));
    let expected: Vec<_> = loads
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (hex(fields[1]), hex(fields[2]), hex(fields[4]), hex(fields[5]))
        })
        .collect();
    let found: Vec<_> = file
        .load_segments()
        .iter()
        .map(|load| {
            let (start, memory) = (load.svmas.start.0, load.memory.end.0 - load.svmas.start.0);
            (load.offset, start, load.svmas.end.0 - start, memory)
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(file.bias_of(Address(0x5555_0000_0000), 0), Some(Bias(0x5555_0000_0000)));
    for load in file.load_segments() {
        let page = load.offset / 4096 * 4096;
        // Pages that two segments share are ambiguous.
        if file.load_segments().iter().filter(|other| other.offset / 4096 * 4096 == page).count() > 1 {
            continue;
        }
        let start = Address(0x7000_0000_0000 + load.svmas.start.0 - (load.offset - page));
        assert_eq!(file.bias_of(start, page), Some(Bias(0x7000_0000_0000)));
    }
}

#[test]
fn every_fde_that_readelf_lists_is_found() {
    let Some(built) = build(&[]) else { return };
    assert_covers_as_readelf_says(&built, ".eh_frame");
}

#[test]
fn without_section_headers_the_answers_are_the_same() {
    let Some(built) = build(&[]) else { return };
    let help = Command::new("objcopy").arg("--help").output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--strip-section-headers")) {
        // Older binutils: cut the headers off by hand.
        let mut bytes = std::fs::read(&built.path).unwrap();
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        return same_without_sections(&built, &ElfFile::from_bytes(bytes).unwrap());
    }
    same_without_sections(&built, &built.changed_by("objcopy", &["--strip-section-headers"]).open());
}

fn same_without_sections(built: &Built, bare: &ElfFile) {
    let file = built.open();
    assert_eq!(bare.section(".text"), None);
    assert_eq!(bare.build_id(), file.build_id());
    for (start, end) in listed_fdes(built, ".eh_frame") {
        assert_eq!(bare.cfi(Svma(end - 1)), file.cfi(Svma(start)));
    }
    let main = file.symbol_named("main").unwrap();
    assert_eq!(bare.symbol_named("main"), Some(main));
    assert_eq!(bare.symbol(main).map(|hit| (hit.name, hit.table)), Some((b"main".to_vec(), SymbolTable::DYNSYM)));
    assert_eq!(bare.symbol_named("inner"), None);
}

#[test]
fn debug_frame_answers_where_there_is_no_eh_frame() {
    let options = ["-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-gz=none"];
    let Some(built) = build(&options) else { return };
    let fdes = listed_fdes(&built, ".debug_frame");
    let file = built.open();
    assert!(fdes.len() >= 3);
    for (start, end) in fdes {
        let entry = file.cfi(Svma(start)).unwrap();
        assert_eq!((entry.start.0, entry.end.0), (start, end));
    }
}

#[test]
fn every_function_that_readelf_lists_is_found_by_svma_and_by_name() {
    let Some(built) = build(&[]) else { return };
    let file = built.open();
    let listed = listed_functions(&built, &["-s"]);
    let inside: Vec<_> = listed.iter().filter(|row| row.1 > 0).map(|row| Svma(row.0 + row.1 - 1)).collect();
    let hits = file.symbols_covering(&inside);
    for (svma, hit) in inside.iter().zip(hits) {
        let hit = hit.unwrap();
        let named = |row: &&(u64, u64, String)| row.2.as_bytes() == hit.name;
        let row = listed.iter().find(named).unwrap();
        assert_eq!((hit.svma.0, hit.size), (row.0, row.1));
        assert!(hit.svma <= *svma && svma.0 < hit.svma.0 + hit.size);
    }
    for name in ["main", "outer", "inner", "bare", "_start"] {
        let svma = file.symbol_named(name).unwrap();
        assert!(file.symbol(svma).is_some(), "{name}");
    }
    for (svma, _, name) in listed_functions(&built, &["--dyn-syms"]) {
        assert_eq!(file.symbol_named(&name), Some(Svma(svma)), "{name}");
    }
    assert_eq!(file.symbol_named("no_such_function"), None);
    assert_eq!(file.symbol_named("printf"), None, "an import is not defined here");
}

#[test]
fn of_aliases_the_name_without_underscores_and_with_global_binding_is_chosen() {
    let Some(built) = build(&[]) else { return };
    let file = built.open();
    let outer = file.symbol_named("outer").unwrap();
    assert_eq!(file.symbol_named("__alias_of_outer"), Some(outer));
    assert_eq!(file.symbol(outer).unwrap().name, b"outer");
}

#[test]
fn a_symbol_without_a_size_answers_until_another_symbol_ends() {
    let Some(built) = build(&[]) else { return };
    let file = built.open();
    let bare = file.symbol_named("bare").unwrap();
    let name = |svma: u64| file.symbol(Svma(svma)).map(|hit: SymbolHit| String::from_utf8(hit.name).unwrap());
    assert_eq!(name(bare.0 + 1).as_deref(), Some("bare"));
    assert_eq!(name(bare.0 + 2).as_deref(), Some("sized"));
    assert_eq!(name(bare.0 + 3), None, "after `sized` ends, its bytes are nobody's");
}

#[test]
fn a_stripped_file_answers_from_what_it_exports() {
    let Some(built) = build(&[]) else { return };
    let stripped = built.changed_by("strip", &["-s"]);
    let (file, bare) = (built.open(), stripped.open());
    let (main, inner) = (file.symbol_named("main").unwrap(), file.symbol_named("inner").unwrap());
    assert_eq!(bare.symbol(main).map(|hit| hit.table), Some(SymbolTable::DYNSYM));
    assert_eq!(bare.symbol(inner), None);
}

#[test]
fn a_debug_file_gives_back_what_was_stripped_if_it_is_of_the_same_build() {
    let Some(built) = build(&[]) else { return };
    let stripped = built.changed_by("strip", &["-s"]);
    let debug = built.changed_by("objcopy", &["--only-keep-debug"]);
    let Some(other) = build(&["-DOTHER", "-O2"]) else { return };
    let inner = built.open().symbol_named("inner").unwrap();
    let id: String = stripped.open().build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let place = format!("/usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]);
    let name = |there: Option<&Built>| {
        let open = |path: &Path| there.filter(|_| path == Path::new(&place)).map(Built::open);
        stripped.open().with_companions(&stripped.path, &open).symbol(inner).map(|hit| hit.name)
    };
    assert_eq!(name(Some(&debug)), Some(b"inner".to_vec()));
    assert_eq!(name(Some(&other)), None);
    assert_eq!(name(None), None);
}

#[test]
fn more_program_headers_than_the_header_can_count_are_all_read() {
    // PN_XNUM: the count is in `sh_info` of section header 0.
    let count: u64 = 70_000;
    let (headers, section) = (64, 64 + count * 56);
    let mut bytes = vec![0; usize::try_from(section + 64).unwrap()];
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: u64, value: &[u8]| bytes[at as usize..][..value.len()].copy_from_slice(value);
    put(16, &[4, 0, 62, 0, 1]);
    put(32, &u64::to_le_bytes(headers));
    put(40, &u64::to_le_bytes(section));
    put(54, &[56, 0, 0xff, 0xff, 64, 0, 0, 0]);
    put(section + 44, &u32::to_le_bytes(count as u32));
    for index in 0..count {
        let at = headers + index * 56;
        put(at, &[1, 0, 0, 0, 4]);
        put(at + 16, &u64::to_le_bytes(index * 4096));
        put(at + 40, &u64::to_le_bytes(4096));
    }
    let file = ElfFile::from_bytes(bytes).unwrap();
    assert_eq!(file.load_segments().len(), 70_000);
    assert_eq!(file.load_segments().last().map(|load| load.memory.start), Some(Svma(69_999 * 4096)));
}

#[test]
fn sections_and_content_are_where_readelf_says() {
    let Some(built) = build(&[]) else { return };
    let file = built.open();
    let listing = built.readelf(&["-S"]);
    let row = listing.lines().find(|line| line.contains(" .text ")).unwrap();
    let fields: Vec<_> = row.split(" .text ").nth(1).unwrap().split_whitespace().collect();
    let (start, offset, size) = (hex(fields[1]), hex(fields[2]), hex(fields[3]));
    assert_eq!(file.section(".text"), Some(Svma(start)..Svma(start + size)));
    let mut bytes = [0; 16];
    file.read_svma(Svma(start), &mut bytes).unwrap();
    assert_eq!(bytes, std::fs::read(&built.path).unwrap()[offset as usize..][..16]);
    assert!(file.read_svma(Svma(u64::MAX - 3), &mut bytes).is_err());
    assert_eq!(file.section(".comment"), None, "a section that is not loaded has no svmas");
}

/// Asks everything.
fn exercise(file: &ElfFile, svmas: &[Svma]) {
    let _ = file.build_id();
    let _ = file.bias_of(Address(0x5555_0000_0000), 0x1000);
    let _ = file.section(".text");
    let _ = file.symbols_covering(svmas);
    for svma in svmas {
        let _ = file.cfi(*svma);
    }
    let _ = file.symbol_named("main");
    let _ = file.symbol_named("no_such_function");
    file.read_svma(Svma(0x1000), &mut [0; 64]).ok();
}

#[test]
fn no_truncation_or_damage_makes_a_file_panic_or_hang() {
    let Some(built) = build(&["-g", "-gz=none"]) else { return };
    let good = std::fs::read(&built.path).unwrap();
    let mut svmas: Vec<_> = listed_fdes(&built, ".eh_frame").iter().map(|fde| Svma(fde.0)).collect();
    svmas.extend([Svma(0), Svma(u64::MAX), Svma(0x1003)]);
    for length in (0..good.len()).step_by(good.len() / 300 + 1).chain(0..80) {
        if let Ok(file) = ElfFile::from_bytes(good[..length].to_vec()) {
            exercise(&file, &svmas);
        }
    }
    let seed = std::process::id() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // The parts that are parsed: headers, notes, hash, dynsym at the front; section headers and symbols at the back.
    let parsed: Vec<usize> = (0..0x1000).chain(0x2000..good.len()).filter(|at| *at < good.len()).collect();
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(4) {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 12 {
            let among = if random() % 2 == 0 { 0x1000.min(parsed.len()) } else { parsed.len() };
            let at = parsed[random() as usize % among];
            bytes[at] = match random() % 3 {
                0 => 0xff,
                1 => 0,
                _ => bytes[at] ^ 1 << (random() % 8),
            };
        }
        let before = Instant::now();
        if let Ok(file) = ElfFile::from_bytes(bytes) {
            exercise(&file, &svmas);
        }
        slowest = slowest.max(before.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "one damaged file took {slowest:?}");
}

#[test]
fn what_is_no_elf_file_is_refused_by_name() {
    assert!(ElfFile::from_bytes(Vec::new()).is_err());
    assert!(ElfFile::from_bytes(b"#!/bin/sh\nexec true -------------------".to_vec()).is_err());
    let mut big = vec![0; 64];
    big[..6].copy_from_slice(b"\x7fELF\x02\x02");
    assert!(ElfFile::from_bytes(big).unwrap_err().to_string().contains("big-endian"));
    assert!(ElfFile::open(File::open(Path::new("/dev/null")).unwrap()).is_err());
}
