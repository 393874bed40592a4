use crate::fake::{Fake, tables};
use crate::find::{Target, find_runtime};
use crate::layout::{Field, Table};
use crate::walk;
use pyst_elf::ModuleTable;
use pyst_snapshot::payload::{
    FoundRuntime, LayoutSource, MapV1, Module, Modules, Registers, Runtime, Severity, Thread,
};
use pyst_snapshot::{Address, Bytes, Range, Tid};

/// The newest table whose runtimes describe themselves.
fn newest(free_threaded: bool) -> &'static Table {
    let described = |table: &&Table| table.stated.is_some() && table.free_threaded == free_threaded;
    tables().into_iter().rfind(described).unwrap()
}

/// A thread with two frames, whose ident is its thread pointer.
fn with_frames(table: &'static Table, version_hex: u32) -> (Fake, Address) {
    let mut fake = Fake::new(table);
    fake.describe(version_hex);
    let code = fake.code("f");
    let bottom = fake.shim(code, Address(0));
    let outer = fake.frame(code, 2, bottom);
    let inner = fake.frame(code, 3, outer);
    let block = fake.allocate(64);
    fake.put(block, Field(0), block.0);
    let interpreter = fake.interpreter(0);
    let state = fake.state(interpreter, block.0, &[inner]);
    (fake, state)
}

fn find(fake: &Fake) -> Runtime {
    let range = Range::sized(fake.runtime, fake.parts[&fake.runtime.0].len() as u64).unwrap();
    let module = Module { path: Bytes::from("/app/bundle"), ranges: vec![range], ..Module::default() };
    let (modules, memory) = (ModuleTable::new(&Modules { modules: vec![module] }), fake.image());
    let maps = [MapV1 { range, permissions: 6, ..MapV1::default() }];
    find_runtime(Target { modules: &modules, maps: &maps, files: &|_| None, memory: &memory }, false)
}

/// What is said of a walk, and how many frames it finds.
fn said(found: &FoundRuntime, threads: &[Thread], fake: &Fake) -> (Vec<(Severity, String)>, usize) {
    let walked = walk(found, threads, &fake.image());
    let said = walked.diagnostics.into_iter().map(|diagnostic| (diagnostic.severity, diagnostic.code)).collect();
    (said, walked.python.states.iter().map(|state| state.frames.len()).sum())
}

#[test]
fn a_release_that_is_known_is_not_doubted() {
    for table in tables().into_iter().filter(|table| table.stated.is_some()) {
        let (fake, _) = with_frames(table, version_of(table));
        let found = find(&fake).found.unwrap();
        assert_eq!(found.layout_source, LayoutSource::SELF_DESCRIBED);
        assert_eq!(said(&found, &[], &fake), (vec![], 2), "{}", table.name);
    }
}

#[test]
fn a_release_between_those_that_are_known_is_read_by_what_it_says_of_itself() {
    for version_hex in [0x030d_07f0, 0x030d_05c1, 0x030d_05a4] {
        let table = tables().into_iter().find(|table| table.minor == (3, 13)).unwrap();
        let (fake, _) = with_frames(table, version_hex);
        let found = find(&fake).found.unwrap();
        let expected = vec![(Severity::INFO, "python-layout-nearest".to_owned())];
        assert_eq!(said(&found, &[], &fake), (expected, 2), "{version_hex:#x}");
    }
}

#[test]
fn a_release_without_a_description_is_read_by_the_nearest_table_and_that_is_said() {
    let table = tables().into_iter().find(|table| table.minor == (3, 12)).unwrap();
    let mut fake = Fake::new(table);
    let code = fake.code("f");
    let bottom = fake.shim(code, Address(0));
    let frame = fake.frame(code, 2, bottom);
    let interpreter = fake.interpreter(0);
    fake.state(interpreter, 1, &[frame]);
    let found = FoundRuntime { version_hex: 0x030c_0cf0, ..fake.found() };
    let expected = vec![(Severity::WARNING, "python-layout-nearest".to_owned())];
    assert_eq!(said(&found, &[], &fake), (expected, 1));
}

#[test]
fn a_version_that_is_newer_than_all_tables_is_read_by_what_it_says_of_itself() {
    for free_threaded in [false, true] {
        let table = newest(free_threaded);
        let (fake, _) = with_frames(table, 0x0310_00f0);
        let found = find(&fake).found.unwrap();
        assert_eq!((found.version(), found.free_threaded), ("3.16.0".to_owned(), free_threaded));
        assert_eq!(found.layout_source, LayoutSource::SELF_DESCRIBED);
        let expected = vec![(Severity::WARNING, "python-version-new".to_owned())];
        assert_eq!(said(&found, &[], &fake), (expected, 2), "{}", table.name);
    }
}

/// A field more in the middle of the description, and all that follows is elsewhere.
#[test]
fn a_newer_version_whose_description_reads_differently_is_refused() {
    let table = newest(false);
    let (mut fake, _) = with_frames(table, 0x0311_00f0);
    let stated = table.stated.unwrap();
    let bytes = fake.parts.get_mut(&fake.runtime.0).unwrap();
    let (from, to) = (stated.frame_previous.0 as usize, stated.text_length.0 as usize + 64);
    bytes.copy_within(from..to, from + 8);
    let found = find(&fake).found.unwrap();
    assert_eq!((found.version().as_str(), found.layout.as_str()), ("3.17.0", ""));
    let expected = vec![(Severity::LOSS, "python-version-unknown".to_owned())];
    assert_eq!(said(&found, &[], &fake), (expected, 0));
}

#[test]
fn fields_that_a_build_has_elsewhere_are_named() {
    let table = tables().into_iter().find(|table| table.minor == (3, 13)).unwrap();
    let (mut fake, state) = with_frames(table, 0x030d_00f0);
    let elsewhere = Field(table.offsets.thread_native_id.0 + 8);
    fake.put(fake.runtime, table.stated.unwrap().thread_ident, elsewhere.get().unwrap());
    fake.put(state, elsewhere, 4711);
    let found = find(&fake).found.unwrap();
    let walked = walk(&found, &[], &fake.image());
    assert_eq!(walked.python.states[0].ident.0, 4711);
    let diagnostic = &walked.diagnostics[0];
    assert_eq!((diagnostic.severity, diagnostic.code.as_str()), (Severity::WARNING, "python-fields-moved"));
    assert!(diagnostic.message.contains("thread_ident"), "{}", diagnostic.message);
}

/// The limit of the stop was reached, and some of the memory is not there.
#[test]
fn a_description_that_was_lost_is_not_said_to_be_wrong() {
    let table = tables().into_iter().find(|table| table.minor == (3, 13)).unwrap();
    let (mut fake, _) = with_frames(table, 0x030d_00f0);
    let found = find(&fake).found.unwrap();
    let runtime = fake.parts[&fake.runtime.0].clone();
    let expected = vec![(Severity::LOSS, "python-runtime-lost".to_owned())];
    for length in [8, 1000] {
        fake.parts.insert(fake.runtime.0, runtime[..length].to_vec());
        assert_eq!(said(&found, &[], &fake), (expected.clone(), 0), "{length}");
    }
}

#[test]
fn a_description_that_is_not_believed_is_told_of() {
    let table = tables().into_iter().find(|table| table.minor == (3, 13)).unwrap();
    let (mut fake, _) = with_frames(table, 0x030d_00f0);
    fake.put(fake.runtime, table.stated.unwrap().thread_ident, u64::MAX - 3);
    let found = find(&fake).found.unwrap();
    let expected = vec![(Severity::WARNING, "python-description-unusable".to_owned())];
    assert_eq!(said(&found, &[], &fake), (expected, 2));
}

#[test]
fn idents_of_no_thread_are_told_of() {
    for table in tables().into_iter().filter(|table| table.stated.is_some()) {
        let (fake, state) = with_frames(table, version_of(table));
        let ident = fake.table.offsets.thread_ident.of(state).unwrap();
        let ident = pyst_memory::MemoryExt::read_u64(&fake.image(), ident).unwrap();
        let thread = |pointer: u64| {
            let registers = Registers { thread_pointer: Some(Address(pointer)), ..Registers::default() };
            Thread { tid: Tid(1), registers: Some(registers), ..Thread::default() }
        };
        let found = find(&fake).found.unwrap();
        assert_eq!(said(&found, &[thread(ident)], &fake), (vec![], 2));
        let expected = vec![(Severity::WARNING, "python-idents-unknown".to_owned())];
        assert_eq!(said(&found, &[thread(ident + 64)], &fake), (expected, 2), "{}", table.name);
        // The thread that it is of may be the one without registers.
        let other = Thread { tid: Tid(2), ..Thread::default() };
        assert_eq!(said(&found, &[thread(ident + 64), other], &fake), (vec![], 2));
    }
}

fn version_of(table: &Table) -> u32 {
    u32::from_be_bytes([table.minor.0, table.minor.1, table.patches[0], 0xf0])
}
