#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
//! Stacks made by hand, for every way there is to find a caller and every reason for a stack to end. CFI is written here
//! byte by byte after the DWARF standard and the psABI, with no help from the code under test.

use pyst_elf::{Answer, Calls, CfiEntry, FileRecorder, Files, ModuleId, ModuleTable, RecordedFiles, SymbolHit};
use pyst_memory::{Image, Recorder};
use pyst_native::{Evidence, MAX_FRAMES, Unwound, unwind, unwind_from_snapshot};
use pyst_snapshot::payload::{
    Arch, Capture, CfiSection, FoundBy, Map, Maps, Module, Modules, NativeStack, Register, Registers, Severity,
    StackEnd, StackV1, SymbolTable, Thread, Threads,
};
use pyst_snapshot::{Address, Bias, Bytes, Range, Snapshot, Svma, Tid};
use std::time::{Duration, Instant};

const BIAS: u64 = 0x7f00_0000_0000;
const TEXT: u64 = BIAS + 0x1000;
const STACK: u64 = 0x7ffe_0000_0000;
const CFI_SVMA: u64 = 0x8_0000;

const RBX: u16 = 3;
const RBP: u16 = 6;
const RSP: u16 = 7;
const RIP: u16 = 16;

/// `mov $15, %rax; syscall`.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

#[derive(Clone, Default)]
struct World {
    entries: Vec<CfiEntry>,
    symbols: Vec<SymbolHit>,
    segments: Vec<(Address, Vec<u8>)>,
    unreadable: Vec<Range>,
    registers: Vec<(u16, u64)>,
    stack: Option<StackV1>,
    maps: Vec<Map>,
}

impl Files for World {
    fn cfi(&self, _: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        self.entries.iter().find(|entry| entry.start <= svma && svma < entry.end).cloned().into()
    }

    fn symbol(&self, _: ModuleId, svma: Svma) -> Answer<SymbolHit> {
        self.symbols.iter().find(|hit| hit.svma <= svma && svma.0 < hit.svma.0 + hit.size).cloned().into()
    }

    fn calls(&self, _: ModuleId, _: Svma) -> Answer<Calls> {
        Answer::Absent
    }
}

impl World {
    /// A function of 0x100 bytes at offset `at` of the text, with these CFI instructions after "CFA is rsp + 8, the return
    /// address is below it".
    fn function(mut self, at: u64, name: &str, instructions: &[u8]) -> World {
        let start = 0x1000 + at;
        self.entries.push(entry(b"zR\0", start, 0x100, instructions));
        self.symbol(start, name)
    }

    fn symbol(mut self, svma: u64, name: &str) -> World {
        let hit = SymbolHit { name: name.into(), svma: Svma(svma), size: 0x100, table: SymbolTable::SYMTAB };
        self.symbols.push(hit);
        self
    }

    fn registers(mut self, registers: &[(u16, u64)]) -> World {
        self.registers = registers.to_vec();
        self
    }

    fn bytes(mut self, at: u64, bytes: &[u8]) -> World {
        self.segments.push((Address(at), bytes.to_vec()));
        self
    }

    fn words(self, at: u64, words: &[u64]) -> World {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(at, &bytes)
    }

    fn image(&self) -> Image<'static> {
        let mut image = Image::new();
        image.extend(self.segments.iter().map(|(start, bytes)| (*start, bytes.clone().into())));
        image.extend_unreadable(self.unreadable.iter().copied());
        image
    }

    fn threads(&self) -> Threads {
        let mut values: Vec<_> =
            self.registers.iter().map(|(number, value)| Register { number: *number, value: *value }).collect();
        values.sort_by_key(|register| register.number);
        let registers = Some(Registers { values, ..Registers::default() });
        Threads { threads: vec![Thread { tid: Tid(7), registers, stack: self.stack, ..Thread::default() }] }
    }

    /// The stack, which must be the same when it is unwound from a snapshot of what the first walk asked.
    fn unwind(&self) -> (NativeStack, Vec<String>, Vec<(Severity, String)>) {
        let image = self.image();
        let recorder = Recorder::new(&image);
        let files = FileRecorder::new(self);
        let table = ModuleTable::new(&modules());
        let online = unwind(Evidence {
            arch: Arch::X86_64,
            pac_mask: 0,
            threads: &self.threads(),
            maps: &self.maps,
            memory: &recorder,
            modules: &table,
            files: &files,
        });

        let answers = files.into_payloads();
        let mut snapshot = Snapshot::default();
        snapshot.append(&Capture { arch: Arch::X86_64, ..Capture::default() }).unwrap();
        snapshot.append(&self.threads()).unwrap();
        snapshot.append(&modules()).unwrap();
        let asked = |map: &&Map| online.mappings.contains(&map.range.start);
        let maps = self.maps.iter().filter(asked).cloned().collect();
        snapshot.append(&Maps { maps }).unwrap();
        snapshot.append(&answers.unwind).unwrap();
        snapshot.append(&answers.symbols).unwrap();
        for memory in recorder.into_image().into_payload().split() {
            snapshot.append(&memory).unwrap();
        }
        let (offline, diagnostics) = unwind_from_snapshot(&snapshot, None);
        assert_eq!(offline, online.native);
        assert_eq!(diagnostics, online.diagnostics);

        let stack = online.native.stacks[0].clone();
        let name = |call: &pyst_snapshot::payload::NativeCallV1| {
            online.native.functions[call.function as usize].function.escaped()
        };
        let names = stack.frames.iter().map(|frame| frame.calls.first().map_or_else(|| "?".to_owned(), name)).collect();
        let diagnostics = diagnostics.into_iter().map(|item| (item.severity, item.code)).collect();
        (stack, names, diagnostics)
    }

    fn end(&self) -> StackEnd {
        self.unwind().0.end
    }
}

fn unwind_plainly(threads: &Threads, memory: &Image<'_>, modules: &ModuleTable, files: &dyn Files) -> Unwound {
    unwind(Evidence { arch: Arch::X86_64, pac_mask: 0, threads, maps: &[], memory, modules, files })
}

fn modules() -> Modules {
    let range = Range { start: Address(BIAS), end: Address(BIAS + 0x10000) };
    let path = Bytes(b"/lib/made.so".to_vec());
    Modules { modules: vec![Module { path, bias: Bias(BIAS), ranges: vec![range], ..Module::default() }] }
}

fn padded(mut body: Vec<u8>) -> Vec<u8> {
    while body.len() % 8 != 4 {
        body.push(0); // DW_CFA_nop
    }
    let mut entry = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    entry.extend(body);
    entry
}

fn entry(augmentation: &[u8], start: u64, length: u32, instructions: &[u8]) -> CfiEntry {
    let mut cie = vec![0, 0, 0, 0, 1];
    cie.extend(augmentation);
    // Code alignment 1, data alignment -8, return address in column 16, one byte of augmentation: pc-relative sdata4.
    cie.extend([1, 0x78, 16, 1, 0x1b]);
    // DW_CFA_def_cfa rsp + 8; DW_CFA_offset rip at CFA - 8.
    cie.extend([0x0c, 7, 8, 0x90, 1]);
    let cie = padded(cie);
    // Each FDE has a CIE of its own, some way before it.
    let cie_svma = CFI_SVMA + start * 8;
    let fde_svma = cie_svma + 0x400;
    let pointer = u32::try_from(fde_svma + 4 - cie_svma).unwrap();
    let mut fde = pointer.to_le_bytes().to_vec();
    fde.extend((start as i64 - (fde_svma as i64 + 8)).to_le_bytes()[..4].iter());
    fde.extend(length.to_le_bytes());
    fde.push(0);
    fde.extend(instructions);
    CfiEntry {
        section: CfiSection::EH_FRAME,
        cie_svma: Svma(cie_svma),
        cie,
        fde_svma: Svma(fde_svma),
        fde: padded(fde),
        start: Svma(start),
        end: Svma(start + u64::from(length)),
    }
}

/// DW_CFA_undefined rip.
const NO_CALLER: &[u8] = &[0x07, 16];
/// DW_CFA_def_cfa_offset 32; DW_CFA_offset rbx at CFA - 16; DW_CFA_offset rbp at CFA - 24.
const SAVES: &[u8] = &[0x0e, 32, 0x83, 2, 0x86, 3];

/// `inner` saves rbx and rbp and was called by `outer`, which has no caller.
fn chain() -> World {
    World::default()
        .function(0, "inner", SAVES)
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, TEXT + 0x10), (RSP, STACK), (RBX, 1), (RBP, 2), (0, 99)])
        .words(STACK, &[0, 0xbb, 0xcc, TEXT + 0x110])
}

#[test]
fn cfi_leads_to_callers_and_restores_what_they_saved() {
    let (stack, names, diagnostics) = chain().unwind();
    assert_eq!(names, ["inner", "outer"]);
    assert_eq!(stack.end, StackEnd::COMPLETE);
    assert_eq!(diagnostics, []);
    let [inner, outer] = &stack.frames[..] else { panic!() };
    assert_eq!((inner.found_by, outer.found_by), (FoundBy::CONTEXT, FoundBy::CFI));
    assert_eq!((inner.cfa, outer.sp), (Some(Address(STACK + 32)), Address(STACK + 32)));
    assert_eq!(outer.pc, Address(TEXT + 0x110));
    let registers: Vec<_> = outer.registers.iter().map(|register| (register.number, register.value)).collect();
    assert_eq!(registers, [(RBX, 0xcc), (RBP, 0xbb)], "rax is lost by a call, the two that were saved are back");
    assert!(inner.registers.iter().any(|register| register.number == 0));
}

#[test]
fn a_call_that_never_returns_belongs_to_the_function_it_is_in() {
    // The return address is the first byte of another function.
    let world = chain().words(STACK, &[]).function(0x200, "next", SAVES);
    let world = World { segments: Vec::new(), ..world }.words(STACK, &[0, 0, 0, TEXT + 0x200]);
    assert_eq!(world.unwind().1, ["inner", "outer"]);
}

/// What the kernel saves, from `uc_flags` to rip.
fn sigframe(rsp: u64, rip: u64) -> Vec<u64> {
    let mut words = vec![0; 5];
    // r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
    words.extend(100..115);
    words.extend([rsp, rip]);
    words
}

fn interrupted_at(trampoline: u64) -> World {
    let side_stack = STACK - 0x10_0000;
    World::default()
        .function(0, "handler", &[])
        .function(0x100, "interrupted", NO_CALLER)
        .bytes(TEXT + trampoline, &SIGRETURN)
        .symbol(0x1000 + trampoline, "__restore_rt")
        .registers(&[(RIP, TEXT + 0x10), (RSP, side_stack)])
        .words(side_stack, &[TEXT + trampoline])
        .words(side_stack + 8, &sigframe(STACK, TEXT + 0x100))
}

#[test]
fn a_trampoline_without_cfi_is_known_by_its_bytes() {
    let (stack, names, _) = interrupted_at(0x300).unwind();
    assert_eq!(names, ["handler", "__restore_rt", "interrupted"]);
    assert_eq!(stack.end, StackEnd::COMPLETE);
    let interrupted = &stack.frames[2];
    assert_eq!(interrupted.found_by, FoundBy::SIGNAL_TRAMPOLINE);
    assert_eq!((interrupted.pc, interrupted.sp), (Address(TEXT + 0x100), Address(STACK)));
    let value = |number| interrupted.registers.iter().find(|register| register.number == number).unwrap().value;
    assert_eq!((value(8), value(15), value(5), value(RBP), value(0)), (100, 107, 108, 110, 113));
}

#[test]
fn a_trampoline_right_after_a_function_is_not_that_function() {
    // As in musl: the byte before `__restore_rt` is another function's, which has CFI.
    let world = interrupted_at(0x500).function(0x400, "innocent", SAVES);
    assert_eq!(world.unwind().1, ["handler", "__restore_rt", "interrupted"]);
}

#[test]
fn a_signal_frame_with_cfi_looks_its_caller_up_exactly() {
    // DW_CFA_def_cfa_expression rsp + 160, dereferenced; DW_CFA_expression for rip: rsp + 168.
    let rules = [0x0f, 4, 0x77, 0xa0, 0x01, 0x06, 0x10, 16, 3, 0x77, 0xa8, 0x01];
    let mut world = interrupted_at(0x300);
    world.entries.push(entry(b"zRS\0", 0x12ff, 0x10, &rules));
    // A pc at the very start of a function: one less would be another function.
    let (stack, names, _) = world.unwind();
    assert_eq!(names, ["handler", "__restore_rt", "interrupted"]);
    assert_eq!(stack.frames[2].found_by, FoundBy::SIGNAL_TRAMPOLINE);
    assert_eq!(stack.frames[2].sp, Address(STACK));
}

#[test]
fn a_call_through_a_null_pointer_leads_back_to_the_caller() {
    let world = World::default()
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, 0), (RSP, STACK), (RBX, 5)])
        .words(STACK, &[TEXT + 0x110]);
    let (stack, names, _) = world.unwind();
    assert_eq!(names, ["?", "outer"]);
    assert_eq!(stack.frames[1].found_by, FoundBy::BAD_CALL);
    assert_eq!(stack.frames[1].registers[0], Register { number: RBX, value: 5 });

    let mut wild = world.registers(&[(RIP, 0x6666_0000), (RSP, STACK)]);
    assert_eq!(wild.end(), StackEnd::NO_MODULE, "whether anything is mapped there is not known");
    wild.unreadable.push(Range { start: Address(0x6666_0000), end: Address(0x6666_1000) });
    assert_eq!(wild.unwind().1, ["?", "outer"]);
}

#[test]
fn a_call_into_data_leads_back_to_the_caller_and_a_return_into_data_to_nowhere() {
    let data = BIAS + 0x8000;
    let map =
        Map { range: Range { start: Address(data), end: Address(data + 0x1000) }, permissions: 6, ..Map::default() };
    let called = World::default()
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, data + 0x10), (RSP, STACK)])
        .words(STACK, &[TEXT + 0x110]);
    assert_eq!(called.end(), StackEnd::NO_CFI, "as long as nobody knows that it is no code");
    let called = World { maps: vec![map.clone()], ..called };
    assert_eq!(called.unwind().1, ["?", "outer"]);

    let mut returned = chain();
    returned.segments.clear();
    let returned = World { maps: vec![map], ..returned.words(STACK, &[0, 0, 0, data + 0x10]) };
    let (stack, names, _) = returned.unwind();
    assert_eq!((stack.end, names), (StackEnd::NO_MODULE, vec!["inner".to_owned()]));
}

#[test]
fn generated_code_is_followed_by_frame_pointers_where_its_calls_can_be_seen() {
    let jit = 0x7f55_0000_0000;
    let map =
        Map { range: Range { start: Address(jit), end: Address(jit + 0x1000) }, permissions: 5, ..Map::default() };
    let world = World::default()
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, jit + 0x30), (RSP, STACK), (RBP, STACK + 0x10)])
        .words(STACK + 0x10, &[STACK + 0x30, jit + 0x107])
        .words(STACK + 0x30, &[0, TEXT + 0x110]);
    let world = World { maps: vec![map], ..world };
    assert_eq!(world.unwind().1, ["?"], "its code was not taken along");
    let world = world.bytes(jit + 0x100, &[0x90, 0x90, 0xe8, 0, 0, 0, 0, 0x90]);
    assert_eq!(world.unwind().1, ["?", "?", "outer"]);
}

fn without_cfi(before_return: &[u8]) -> World {
    World::default()
        .function(0x100, "outer", NO_CALLER)
        .symbol(0x1300, "bare")
        .registers(&[(RIP, TEXT + 0x310), (RSP, STACK), (RBP, STACK + 0x20)])
        .words(STACK + 0x20, &[0xdead, TEXT + 0x110])
        .bytes(TEXT + 0x110 - before_return.len() as u64, before_return)
}

#[test]
fn code_without_cfi_is_left_by_a_frame_pointer_that_stands_every_test() {
    let call = [0x90, 0x90, 0xe8, 0, 0, 0, 0];
    let (stack, names, _) = without_cfi(&call).unwind();
    assert_eq!(names, ["bare", "outer"]);
    assert_eq!(stack.frames[1].found_by, FoundBy::FRAME_POINTER);
    assert_eq!(stack.frames[1].registers, [Register { number: RBP, value: 0xdead }]);
    assert_eq!(without_cfi(&[]).unwind().1, ["bare", "outer"], "code that is not to be had is believed");

    assert_eq!(without_cfi(&[0x90; 7]).end(), StackEnd::NO_CFI, "no call before the return address");
    let misaligned = without_cfi(&call).registers(&[(RIP, TEXT + 0x310), (RSP, STACK), (RBP, STACK + 0x21)]);
    assert_eq!(misaligned.end(), StackEnd::NO_CFI);
    let below = without_cfi(&call).registers(&[(RIP, TEXT + 0x310), (RSP, STACK + 0x28), (RBP, STACK + 0x20)]);
    assert_eq!(below.end(), StackEnd::NO_CFI);
    let (_, _, diagnostics) = below.unwind();
    assert_eq!(diagnostics, [(Severity::INFO, "no-cfi".to_owned())]);
}

#[test]
fn a_function_that_makes_no_frame_pointer_is_not_left_by_its_callers() {
    // It would be `outer` that is left out: the frame pointer is that of the function which called `bare`.
    let call = [0x90, 0x90, 0xe8, 0, 0, 0, 0];
    let without = [0x48, 0x83, 0xec, 0x18, 0xe8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
    assert_eq!(without_cfi(&call).bytes(TEXT + 0x300, &without).end(), StackEnd::NO_CFI);
    let with = [0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
    assert_eq!(without_cfi(&call).bytes(TEXT + 0x300, &with).unwind().1, ["bare", "outer"]);
}

#[test]
fn code_that_only_returns_needs_neither_cfi_nor_frame_pointer() {
    // The trampoline of `python -X perf`, in memory that belongs to no module.
    let code = [0x48, 0x83, 0xec, 8, 0xff, 0xd1, 0x48, 0x83, 0xc4, 8, 0xc3];
    let jit = 0x7f55_0000_0000;
    let world = World::default()
        .function(0, "inner", &[])
        .function(0x100, "outer", NO_CALLER)
        .bytes(jit, &code)
        .registers(&[(RIP, TEXT + 0x10), (RSP, STACK), (RBX, 5)])
        .words(STACK, &[jit + 6, 0, TEXT + 0x110]);
    let (stack, names, _) = world.unwind();
    assert_eq!(names, ["inner", "?", "outer"]);
    assert_eq!((stack.frames[2].found_by, stack.end), (FoundBy::EPILOGUE, StackEnd::COMPLETE));
    assert_eq!(stack.frames[2].registers, [Register { number: RBX, value: 5 }]);
    assert_eq!(stack.frames[1].cfa, Some(Address(STACK + 24)));
    let no_call_there = world.bytes(TEXT + 0x109, &[0x90; 7]);
    assert_eq!(no_call_there.end(), StackEnd::NO_MODULE);
}

#[test]
fn beyond_a_greenlet_switch_nothing_is_shown() {
    let mut world = chain().function(0x200, "_ZN8greenlet12UserGreenlet13g_initialstubEPv", &[]);
    world.segments.clear();
    let world = world.words(STACK, &[0, 0, 0, TEXT + 0x210, TEXT + 0x110]);
    let (stack, names, diagnostics) = world.unwind();
    assert_eq!(names, ["inner", "greenlet::UserGreenlet::g_initialstub(void*)"]);
    assert_eq!((stack.end, diagnostics), (StackEnd::STACK_SWITCH, vec![]));
}

#[test]
fn memory_that_is_missing_ends_a_stack_with_the_reason() {
    let mut world = chain();
    world.segments.clear();
    assert_eq!(world.end(), StackEnd::NOT_RECORDED);
    assert_eq!(world.unwind().2, [(Severity::LOSS, "stack-incomplete".to_owned())]);
    let range = |start, end| Range { start: Address(start), end: Address(end) };
    let read = range(STACK - 128, STACK + 16);
    world.stack = Some(StackV1 { mapping: range(STACK - 0x1000, STACK + 0x1000), read, truncated: true });
    assert_eq!(world.end(), StackEnd::STACK_TRUNCATED);
    assert_eq!(world.unwind().2, [(Severity::INFO, "stack-truncated".to_owned())]);
    world.unreadable.push(range(STACK, STACK + 0x1000));
    assert_eq!(world.end(), StackEnd::UNREADABLE);
}

#[test]
fn an_answer_that_was_never_recorded_is_not_the_same_as_none() {
    let threads = chain().threads();
    let table = ModuleTable::new(&modules());
    let unwound = unwind_plainly(&threads, &chain().image(), &table, &RecordedFiles::default());
    assert_eq!(unwound.native.stacks[0].end, StackEnd::NOT_RECORDED);
}

#[test]
fn a_return_address_of_zero_ends_a_stack() {
    let world = World { segments: Vec::new(), ..chain() }.words(STACK, &[0, 0, 0, 0]);
    assert_eq!(world.end(), StackEnd::ZERO_RETURN_ADDRESS);
}

#[test]
fn a_stack_that_does_not_grow_or_repeats_itself_ends() {
    // DW_CFA_def_cfa_offset 0.
    let shrinking = chain().function(0x400, "odd", &[0x0e, 0]).registers(&[(RIP, TEXT + 0x410), (RSP, STACK)]);
    assert_eq!(shrinking.end(), StackEnd::STACK_DID_NOT_GROW);
    // A signal frame that was interrupted where it stands.
    let world = World::default()
        .bytes(TEXT + 0x300, &SIGRETURN)
        .registers(&[(RIP, TEXT + 0x300), (RSP, STACK)])
        .words(STACK, &sigframe(STACK, TEXT + 0x300));
    let (stack, _, diagnostics) = world.unwind();
    assert_eq!((stack.end, stack.frames.len()), (StackEnd::LOOP, 1));
    assert_eq!(diagnostics, [(Severity::LOSS, "stack-incomplete".to_owned())]);
}

#[test]
fn endless_recursion_is_shown_up_to_the_limit_in_little_time() {
    let depth = MAX_FRAMES + 10;
    let started = Instant::now();
    let world = World::default()
        .function(0, "again", &[])
        .registers(&[(RIP, TEXT + 0x10), (RSP, STACK)])
        .words(STACK, &vec![TEXT + 0x10; depth]);
    let (stack, _, diagnostics) = world.unwind();
    assert_eq!((stack.end, stack.frames.len()), (StackEnd::FRAME_LIMIT, MAX_FRAMES));
    assert_eq!(diagnostics, [(Severity::INFO, "frame-limit".to_owned())]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn expressions_are_evaluated_with_a_bound() {
    // A realigned frame: DW_CFA_def_cfa_expression *(rbp - 8); DW_CFA_expression rip: rbp + 8.
    let drap = [0x0f, 3, 0x76, 0x78, 0x06];
    let world = World::default()
        .function(0, "realigned", &drap)
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, TEXT + 0x10), (RSP, STACK), (RBP, STACK + 0x40)])
        .words(STACK + 0x38, &[STACK + 0x80])
        .words(STACK + 0x78, &[TEXT + 0x110]);
    let (stack, names, _) = world.unwind();
    assert_eq!(names, ["realigned", "outer"]);
    assert_eq!(stack.frames[0].cfa, Some(Address(STACK + 0x80)));

    // A PLT entry: CFA is rsp + 8, and 8 more from the eleventh byte of each sixteen on.
    let plt = [0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    for (offset, cfa) in [(0x15, STACK + 8), (0x1b, STACK + 16)] {
        let world = World::default()
            .function(0, "plt", &plt)
            .registers(&[(RIP, TEXT + offset), (RSP, STACK)])
            .words(STACK, &[0, 0, 0]);
        assert_eq!(world.unwind().0.frames[0].cfa, Some(Address(cfa)));
    }

    // DW_OP_skip -3: for ever. DW_OP_drop of nothing. An operation of variables, DW_OP_fbreg. A register nobody has.
    for bad in [&[0x0f, 3, 0x2f, 0xfd, 0xff][..], &[0x0f, 1, 0x13], &[0x0f, 2, 0x91, 0], &[0x0c, 40, 8], &[0x0d, 12]] {
        let world = chain().function(0x400, "odd", bad).registers(&[(RIP, TEXT + 0x410), (RSP, STACK)]);
        assert_eq!(world.end(), StackEnd::BAD_CFI, "{bad:x?}");
    }
}

#[test]
fn debug_frame_entries_mean_the_same() {
    let mut world = chain();
    // No augmentation; the FDE holds an offset to its CIE and absolute addresses.
    let mut cie = vec![0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0x78, 16];
    cie.extend([0x0c, 7, 8, 0x90, 1]);
    let mut fde = 0x4321u32.to_le_bytes().to_vec();
    fde.extend(0x1000u64.to_le_bytes());
    fde.extend(0x100u64.to_le_bytes());
    fde.extend(SAVES);
    let entry = world.entries.remove(0);
    let section = CfiSection::DEBUG_FRAME;
    let (cie_svma, fde_svma) = (Svma(0x4321), Svma(0x5000));
    world.entries.push(CfiEntry { section, cie: padded(cie), fde: padded(fde), cie_svma, fde_svma, ..entry });
    assert_eq!(world.unwind().1, ["inner", "outer"]);
}

#[test]
fn a_thread_without_registers_has_a_stack_that_says_so() {
    let threads = Threads { threads: vec![Thread { tid: Tid(9), ..Thread::default() }] };
    let unwound = unwind_plainly(&threads, &Image::new(), &ModuleTable::default(), &World::default());
    assert_eq!(unwound.native.stacks[0].end, StackEnd::NO_REGISTERS);
    assert_eq!(unwound.diagnostics, []);
}

#[test]
fn no_damage_to_cfi_registers_or_stack_makes_unwinding_panic_or_hang() {
    let seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let worlds = [chain(), interrupted_at(0x300), without_cfi(&[0x90; 7])];
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(3) {
        let mut world = worlds[rounds % worlds.len()].clone();
        for _ in 0..1 + random(8) {
            let which = random(world.entries.len() as u64) as usize;
            let entry = &mut world.entries[which];
            let bytes = if random(3) == 0 { &mut entry.cie } else { &mut entry.fde };
            match random(8) {
                0 => bytes.truncate(random(bytes.len() as u64 + 1) as usize),
                _ if bytes.is_empty() => {}
                1 => {
                    let at = random(bytes.len() as u64) as usize;
                    bytes.insert(at, random(256) as u8);
                }
                _ => {
                    let at = random(bytes.len() as u64) as usize;
                    bytes[at] = random(256) as u8;
                }
            }
        }
        if random(4) == 0 {
            let which = random(world.registers.len() as u64) as usize;
            world.registers[which].1 = [0, u64::MAX, STACK - 8, u64::MAX / 2][random(4) as usize];
        }
        let before = Instant::now();
        world.unwind();
        assert!(before.elapsed() < Duration::from_secs(2));
        rounds += 1;
    }
    println!("{rounds} rounds");
}
