use super::validate::validate;
use super::*;
use crate::fake::{Fake, pythons, tables};
use crate::layout;
use crate::layout::Field;
use pyst_elf::ElfFile;
use pyst_memory::Image;
use pyst_snapshot::payload::{LayoutSource, Modules, RuntimeFoundBy, VersionFoundBy};
use pyst_snapshot::{Address, Bytes, Range};
use std::path::{Path, PathBuf};

/// A fake whose runtime states its version and offsets, if its version does that at all.
fn self_described() -> Option<Fake> {
    let table = tables().into_iter().find(|table| table.stated.is_some())?;
    let mut fake = Fake::new(table);
    fake.describe(fake.found().version_hex);
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
    find_in(&modules, &maps, fake, false)
}

fn find_in(modules: &Modules, maps: &[MapV1], fake: &Fake, exhaustive: bool) -> Runtime {
    let (modules, memory) = (ModuleTable::new(modules), fake.image());
    find_runtime(Target { modules: &modules, maps, files: &|_| None, memory: &memory }, exhaustive)
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
        assert_eq!(verdict(&fake), Verdict::Torn);
    }
}

/// Debug builds fill what they free.
#[test]
fn a_thread_that_ends_just_then_does_not_hide_the_runtime() {
    let mut fake = self_described().unwrap();
    let interpreter = fake.interpreter(0);
    fake.put(interpreter, fake.table.offsets.interpreter_threads_head, 0xdddd_dddd_dddd_dddd);
    let runtime = find(&fake, "/app/bundle");
    let found = runtime.found.unwrap();
    assert_eq!((found.address, found.layout_source), (fake.runtime, LayoutSource::SELF_DESCRIBED));
}

#[test]
fn a_process_without_python_says_what_was_tried() {
    let modules = Modules { modules: vec![Module { path: Bytes::from("/usr/bin/cat"), ..Module::default() }] };
    let (modules, memory) = (ModuleTable::new(&modules), Image::new());
    let runtime = find_runtime(Target { modules: &modules, maps: &[], files: &|_| None, memory: &memory }, false);
    assert_eq!(runtime.found, None);
    assert_eq!(
        runtime.tried,
        [
            "/usr/bin/cat: the file is not there to look in",
            "no .PyRuntime section, no _PyRuntime and no interp_head symbol in 0 mapped files; 1 could not be opened",
            "no xdebugpy cookie (Python 3.13 and later) in the modules' data",
            "no pointers of a runtime in the modules' data",
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
        let table = ModuleTable::new(&Modules { modules: vec![module.clone()] });
        let files = |_| Some(&file);
        let memory = Image::new();
        let target = Target { modules: &table, maps: &[], files: &files, memory: &memory };
        let versions = version::of_module(&target, ModuleId(0), &module);
        assert_eq!(versions.first().map(|version| version.hex), Some(python.hex), "{}", path.display());
        println!("{}: {:#x}", path.display(), python.hex);
    }
}

/// A fake with one thread, which has a frame, and no description of itself.
fn bare(table: &'static layout::Table) -> Fake {
    let mut fake = Fake::new(table);
    let interpreter = fake.interpreter(0);
    thread_with_a_frame(&mut fake, interpreter);
    fake
}

fn thread_with_a_frame(fake: &mut Fake, interpreter: Address) -> Address {
    let code = fake.code("f");
    let bottom = fake.shim(code, Address(0));
    let frame = fake.frame(code, 3, bottom);
    let block = fake.allocate(64);
    fake.put(block, Field(0), block.0);
    fake.state(interpreter, block.0, &[frame])
}

/// Everything the fake has, as anonymous memory; the runtime's as a module's, if it has a path.
fn laid_out(fake: &Fake, path: Option<&str>) -> (Modules, Vec<MapV1>) {
    let mut maps = Vec::new();
    for (start, bytes) in &fake.parts {
        let range = Range::sized(Address(*start), bytes.len() as u64).unwrap();
        maps.push(MapV1 { range, permissions: 6, ..MapV1::default() });
    }
    let modules = path.map(|path| module_of(fake, path).0);
    (modules.unwrap_or_default(), maps)
}

#[test]
fn a_runtime_that_nothing_tells_of_is_found_by_where_its_pointers_lead() {
    for table in tables() {
        let fake = bare(table);
        let (major, minor) = table.minor;
        let (modules, maps) = laid_out(&fake, Some(&format!("/app/libpython{major}.{minor}.so")));
        let runtime = find_in(&modules, &maps, &fake, false);
        let found = runtime.found.unwrap_or_else(|| panic!("{}: {:?}", table.name, runtime.tried));
        assert_eq!((found.address, found.found_by), (fake.runtime, RuntimeFoundBy::SCAN), "{}", table.name);
        assert_eq!(found.version_found_by, VersionFoundBy::FILE_NAME, "{}: {:?}", table.name, runtime.tried);
        assert_eq!((found.version_hex >> 16, found.module), (u32::from(major) << 8 | u32::from(minor), Some(0)));
    }
}

#[test]
fn memory_of_no_module_is_searched_on_request_only() {
    for table in tables() {
        let mut fake = bare(table);
        // sys.version, as Python keeps it.
        let (major, minor) = table.minor;
        let text = format!("\0{major}.{minor}.{} (main, Nov 21 2026) [GCC]\0", table.patches[0]);
        let place = fake.allocate(256);
        fake.parts.get_mut(&place.0).unwrap()[..text.len()].copy_from_slice(text.as_bytes());
        let (modules, maps) = laid_out(&fake, None);
        assert_eq!(find_in(&modules, &maps, &fake, false).found, None);
        let runtime = find_in(&modules, &maps, &fake, true);
        let found = runtime.found.unwrap_or_else(|| panic!("{}: {:?}", table.name, runtime.tried));
        assert_eq!((found.address, found.found_by), (fake.runtime, RuntimeFoundBy::EXHAUSTIVE), "{}", table.name);
        let version = (found.version_found_by, found.module);
        assert_eq!(version, (VersionFoundBy::TEXT, None), "{}: {:?}", table.name, runtime.tried);
        assert_eq!(found.layout_source, LayoutSource::TABLE);
    }
}

#[test]
fn a_layout_that_alone_fits_tells_the_version_and_one_of_several_does_not() {
    for table in tables() {
        let fake = bare(table);
        let (modules, maps) = laid_out(&fake, Some("/app/bundle"));
        let runtime = find_in(&modules, &maps, &fake, false);
        let said = runtime.tried.join("; ");
        match runtime.found {
            Some(found) => {
                assert_eq!(found.version_found_by, VersionFoundBy::LAYOUT, "{said}");
                let (major, minor) = table.minor;
                assert_eq!(found.version(), format!("{major}.{minor}"));
                assert_eq!(found.address, fake.runtime);
            }
            None => assert!(said.contains("fit alike, and nothing tells which it is"), "{}: {said}", table.name),
        }
    }
}

#[test]
fn a_newest_interpreter_that_is_not_the_main_one_is_found_too() {
    for table in tables() {
        let mut fake = bare(table);
        let newest = fake.interpreter(1);
        thread_with_a_frame(&mut fake, newest);
        let (major, minor) = table.minor;
        let (modules, maps) = laid_out(&fake, Some(&format!("/app/libpython{major}.{minor}.so")));
        let runtime = find_in(&modules, &maps, &fake, false);
        assert_eq!(runtime.found.map(|found| found.address), Some(fake.runtime), "{}", table.name);
    }
}

#[test]
fn pointers_in_circles_and_to_nowhere_are_no_runtime() {
    for table in tables() {
        let offsets = table.offsets;
        let mut fake = bare(table);
        let image = fake.image();
        let read = |address: Address| pyst_memory::MemoryExt::read_address(&image, address).unwrap();
        let interpreter = read(offsets.runtime_interpreters_head.of(fake.runtime).unwrap());
        let state = read(offsets.interpreter_threads_head.of(interpreter).unwrap());
        let found = |fake: &Fake| {
            let (modules, maps) = laid_out(fake, Some("/app/libpython.so"));
            find_in(&modules, &maps, fake, true).found
        };
        // All interpreters and thread states lead back to themselves, and none of them is a thread's.
        fake.put(interpreter, offsets.interpreter_next, interpreter.0);
        fake.put(state, offsets.thread_next, state.0);
        fake.put(state, offsets.thread_ident, fake.runtime.0);
        assert_eq!(found(&fake), None, "{}", table.name);
        fake.put(state, offsets.thread_ident, u64::MAX - 3);
        assert_eq!(found(&fake), None);
        fake.put(interpreter, offsets.interpreter_threads_head, interpreter.0);
        assert_eq!(found(&fake), None);
        fake.put(interpreter, offsets.interpreter_threads_head, u64::MAX - 7);
        assert_eq!(found(&fake), None);
    }
}

/// Every word of it leads to an interpreter, so that each has to be looked at.
#[test]
fn memory_that_is_full_of_candidates_does_not_take_for_ever() {
    let mut fake = bare(tables()[0]);
    let image = fake.image();
    let head = fake.table.offsets.runtime_interpreters_head.of(fake.runtime).unwrap();
    let interpreter = pyst_memory::MemoryExt::read_u64(&image, head).unwrap();
    let heap = fake.allocate(4 << 20);
    let bytes: Vec<u8> = interpreter.to_le_bytes().into_iter().cycle().take(4 << 20).collect();
    fake.parts.insert(heap.0, bytes);
    let (_, maps) = laid_out(&fake, None);
    let started = std::time::Instant::now();
    let runtime = find_in(&Modules::default(), &maps, &fake, true);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    assert!(runtime.tried.iter().any(|tried| tried.contains("not all of it was looked at")), "{:?}", runtime.tried);
}

#[test]
fn data_that_is_full_of_cookies_is_not_looked_at_for_ever() {
    let mut fake = self_described().unwrap();
    let head: Vec<u8> = b"xdebugpy".iter().copied().chain(fake.found().version_hex.to_le_bytes()).collect();
    let one: Vec<u8> = head.into_iter().chain([0; 4]).collect();
    let data = one.into_iter().cycle().take(1 << 20).collect();
    fake.parts.insert(fake.runtime.0, data);
    let runtime = find(&fake, "/app/bundle");
    assert_eq!(runtime.found.map(|found| found.layout).unwrap_or_default(), "");
    assert!(runtime.tried.len() < 100, "{} lines", runtime.tried.len());
}

#[test]
fn what_frames_run_must_be_code_for_pointers_to_be_those_of_a_runtime() {
    let mut checked = 0;
    for table in tables() {
        let mut fake = bare(table);
        let found = |fake: &Fake| {
            let (modules, maps) = laid_out(fake, Some("/app/bundle"));
            find_in(&modules, &maps, fake, false).found
        };
        // Some layouts are like others', and then nothing is found in any case.
        checked += usize::from(found(&fake).is_some());
        // Every type has another name now.
        for bytes in fake.parts.values_mut() {
            while let Some(at) = memchr::memmem::find(bytes, b"code\0") {
                bytes[at] = b'n';
            }
        }
        assert_eq!(found(&fake), None, "{}", table.name);
    }
    assert!(checked >= 3, "{checked}");
}
