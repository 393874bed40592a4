use super::*;
use crate::fake::{Fake, pythons, tables};
use crate::layout::Field;
use pyst_elf::ElfFile;
use pyst_memory::Image;
use pyst_snapshot::payload::{Modules, VersionFoundBy};
use pyst_snapshot::{Bias, Bytes};
use std::path::{Path, PathBuf};

/// A fake whose runtime states its version and offsets, if its version does that at all.
fn self_described() -> Option<Fake> {
    let table = tables().into_iter().find(|table| table.stated.is_some())?;
    let stated = table.stated?;
    let mut fake = Fake::new(table);
    let runtime = fake.runtime;
    fake.put(runtime, Field(0), u64::from_le_bytes(*layout::COOKIE));
    fake.put(runtime, Field(8), fake.found().version_hex.into());
    table.offsets.each_with(stated, |offset, stated| {
        if let Some(offset) = offset.get() {
            fake.put(runtime, stated, offset);
        }
    });
    Some(fake)
}

/// One writable module of the runtime's memory, without a file.
fn module_of(fake: &Fake, path: &str) -> (Modules, Vec<MapV1>) {
    let range = Range::sized(fake.runtime, fake.parts[&fake.runtime.0].len() as u64).unwrap();
    let module = Module { path: Bytes::from(path), ranges: vec![range], ..Module::default() };
    (Modules { modules: vec![module] }, vec![MapV1 { range, permissions: 6, ..MapV1::default() }])
}

fn find(fake: &Fake, path: &str) -> Runtime {
    let (modules, maps) = module_of(fake, path);
    let files = ElfFiles::opened(vec![None]);
    find_runtime(&ModuleTable::new(&modules), &maps, &files, &fake.image())
}

#[test]
fn a_runtime_without_a_file_is_found_by_its_cookie() {
    let mut fake = self_described().unwrap();
    let interpreter = fake.interpreter(0);
    fake.state(interpreter, 1, &[]);
    let runtime = find(&fake, "/app/bundle");
    let found = runtime.found.unwrap();
    assert_eq!((found.address, found.found_by), (fake.runtime, RuntimeFoundBy::COOKIE));
    assert_eq!(found.version_found_by, VersionFoundBy::DEBUG_OFFSETS);
    assert_eq!(found.layout_source, LayoutSource::SELF_DESCRIBED);
    assert!(runtime.tried.last().unwrap().ends_with("with thread states"), "{:?}", runtime.tried);
}

#[test]
fn what_a_process_says_of_itself_wins_over_the_table() {
    let mut fake = self_described().unwrap();
    let table = fake.table;
    let interpreter = fake.interpreter(0);
    let state = fake.state(interpreter, 7, &[]);
    // A patched build: thread_id is elsewhere.
    let elsewhere = Field(table.offsets.thread_native_id.0 + 8);
    fake.put(fake.runtime, table.stated.unwrap().thread_ident, elsewhere.get().unwrap());
    fake.put(state, elsewhere, 4711);
    let found = find(&fake, "/app/bundle").found.unwrap();
    let walked = crate::walk(&found, &[], &fake.image());
    assert_eq!(walked.python.states[0].ident.0, 4711);
}

#[test]
fn a_description_that_can_not_be_is_not_used() {
    let mut fake = self_described().unwrap();
    let interpreter = fake.interpreter(0);
    let state = fake.state(interpreter, 7, &[]);
    fake.put(fake.runtime, fake.table.stated.unwrap().thread_ident, u64::MAX - 3);
    let found = find(&fake, "/app/bundle").found.unwrap();
    assert_eq!(found.layout_source, LayoutSource::TABLE);
    let walked = crate::walk(&found, &[], &fake.image());
    assert_eq!((walked.python.states[0].address, walked.python.states[0].ident.0), (state, 7));
}

#[test]
fn only_a_runtime_whose_pointers_lead_back_is_one() {
    for table in tables() {
        let mut fake = Fake::new(table);
        let verdict = |fake: &Fake| validate(&table.layout(table.patches[0]), fake.runtime, &fake.image());
        if table.offsets.runtime_initialized.get().is_some() {
            assert_eq!(verdict(&fake), Verdict::Invalid, "{}", table.name);
        }
        fake.put32(fake.runtime, table.offsets.runtime_initialized, 0);
        assert_eq!(verdict(&fake), Verdict::Empty);
        fake.put32(fake.runtime, table.offsets.runtime_initialized, 1);
        let interpreter = fake.interpreter(0);
        assert_eq!(verdict(&fake), Verdict::Idle);
        let state = fake.state(interpreter, 1, &[]);
        assert_eq!(verdict(&fake), Verdict::Runs);
        fake.put(state, table.offsets.thread_interpreter, state.0);
        assert_eq!(verdict(&fake), Verdict::Invalid);
    }
}

#[test]
fn a_process_without_python_says_what_was_tried() {
    let modules = Modules { modules: vec![Module { path: Bytes::from("/usr/bin/cat"), ..Module::default() }] };
    let files = ElfFiles::opened(vec![None]);
    let runtime = find_runtime(&ModuleTable::new(&modules), &[], &files, &Image::new());
    assert_eq!(runtime.found, None);
    assert_eq!(
        runtime.tried,
        [
            "/usr/bin/cat: the file is not there to look in",
            "no .PyRuntime section, no _PyRuntime and no interp_head symbol in 0 mapped files; 1 could not be opened",
            "no xdebugpy cookie (Python 3.13 and later) in the modules' data",
        ]
    );
}

/// The file that has the runtime of an interpreter: its shared library, or itself.
fn file_of(python: &Path) -> Option<(PathBuf, ElfFile)> {
    let libraries = std::fs::read_dir(python.parent()?.parent()?.join("lib")).into_iter().flatten().flatten();
    let library = |path: &PathBuf| path.to_string_lossy().ends_with(".so.1.0");
    let mut files: Vec<PathBuf> = libraries.map(|entry| entry.path()).filter(library).collect();
    files.retain(|path| path.to_string_lossy().contains("libpython"));
    files.push(python.canonicalize().ok()?);
    let mut opened = files.into_iter().filter_map(|path| {
        let file = ElfFile::open(std::fs::File::open(&path).ok()?).ok()?;
        Some((path, file))
    });
    opened.find(|(_, file)| runtime_in(file).is_some())
}

fn runtime_in(file: &ElfFile) -> Option<pyst_snapshot::Svma> {
    let symbol = |name| file.symbol_named(name);
    file.section(".PyRuntime")
        .map(|range| range.start)
        .or_else(|| symbol("_PyRuntime"))
        .or_else(|| symbol("interp_head"))
}

/// As for a core file without the pages of read-only data.
#[test]
fn the_files_of_interpreters_tell_the_version_that_they_tell_themselves() {
    for python in pythons() {
        let Some((path, file)) = file_of(&python.path) else { continue };
        let module = Module { path: Bytes(path.as_os_str().as_encoded_bytes().to_vec()), ..Module::default() };
        let svma = runtime_in(&file).unwrap();
        let versions = version_of(svma.to_address(Bias(0)), &module, Some(&file), &Image::new());
        assert_eq!(versions.first().map(|version| version.hex), Some(python.hex), "{}", path.display());
        println!("{}: {:#x}", path.display(), python.hex);
    }
}
