//! A target made by hand. Its CFI is written here byte by byte after the DWARF standard and the psABI, with no help from the code
//! under test.

use pyst_elf::{Answer, Calls, CfiEntry, FileRecorder, Files, ModuleId, ModuleTable, SymbolHit};
use pyst_memory::{Image, Recorder};
use pyst_native::{Evidence, SECTIONS_READ, Unwound, unwind, unwind_from_snapshot};
use pyst_snapshot::payload::{
    Arch, Capture, CfiSection, Map, Maps, Module, Modules, NativeFrame, NativeStack, Register, Registers, Severity,
    StackEnd, StackV1, SymbolTable, Thread, Threads,
};
use pyst_snapshot::{Address, Bias, Bytes, Range, Snapshot, Svma, Tid};

pub(crate) const BIAS: u64 = 0x7f00_0000_0000;
pub(crate) const TEXT: u64 = BIAS + 0x1000;
pub(crate) const STACK: u64 = 0x7ffe_0000_0000;
pub(crate) const CFI_SVMA: u64 = 0x8_0000;

pub(crate) const RBX: u16 = 3;
pub(crate) const RBP: u16 = 6;
pub(crate) const RSP: u16 = 7;
pub(crate) const RIP: u16 = 16;

/// `mov $15, %rax; syscall`.
pub(crate) const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) entries: Vec<CfiEntry>,
    pub(crate) symbols: Vec<SymbolHit>,
    pub(crate) segments: Vec<(Address, Vec<u8>)>,
    pub(crate) unreadable: Vec<Range>,
    pub(crate) registers: Vec<(u16, u64)>,
    pub(crate) stack: Option<StackV1>,
    pub(crate) maps: Vec<Map>,
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
    pub(crate) fn function(mut self, at: u64, name: &str, instructions: &[u8]) -> World {
        let start = 0x1000 + at;
        self.entries.push(entry(b"zR\0", start, 0x100, instructions));
        self.symbol(start, name)
    }

    pub(crate) fn symbol(mut self, svma: u64, name: &str) -> World {
        let hit = SymbolHit { name: name.into(), svma: Svma(svma), size: 0x100, table: SymbolTable::SYMTAB };
        self.symbols.push(hit);
        self
    }

    pub(crate) fn registers(mut self, registers: &[(u16, u64)]) -> World {
        self.registers = registers.to_vec();
        self
    }

    pub(crate) fn bytes(mut self, at: u64, bytes: &[u8]) -> World {
        self.segments.push((Address(at), bytes.to_vec()));
        self
    }

    pub(crate) fn words(self, at: u64, words: &[u64]) -> World {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(at, &bytes)
    }

    pub(crate) fn image(&self) -> Image<'static> {
        let mut image = Image::new();
        image.extend(self.segments.iter().map(|(start, bytes)| (*start, bytes.clone().into())));
        image.extend_unreadable(self.unreadable.iter().copied());
        image
    }

    pub(crate) fn threads(&self) -> Threads {
        let mut values: Vec<_> =
            self.registers.iter().map(|(number, value)| Register { number: *number, value: *value }).collect();
        values.sort_by_key(|register| register.number);
        let registers = Some(Registers { values, ..Registers::default() });
        Threads { threads: vec![Thread { tid: Tid(7), registers, stack: self.stack, ..Thread::default() }] }
    }

    /// The stack, which must be the same when it is unwound from a snapshot of what the first walk asked.
    pub(crate) fn unwind(&self) -> (NativeStack, Vec<String>, Vec<(Severity, String)>) {
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
        recorder.into_sections(&mut |section| snapshot.sections.push(section)).unwrap();
        snapshot.sections.retain(|section| SECTIONS_READ.contains(&section.kind));
        let (offline, diagnostics) = unwind_from_snapshot(&snapshot, None);
        assert_eq!(offline, online.native);
        assert_eq!(diagnostics, online.diagnostics);

        let stack = online.native.stacks[0].clone();
        let name = |call: &pyst_snapshot::payload::NativeCallV1| {
            online.native.functions[call.function as usize].function.escaped()
        };
        let calls = |frame: &NativeFrame| online.native.places[frame.place as usize].calls.first();
        let names = stack.frames.iter().map(|frame| calls(frame).map_or_else(|| "?".to_owned(), name)).collect();
        let diagnostics = diagnostics.into_iter().map(|item| (item.severity, item.code)).collect();
        (stack, names, diagnostics)
    }

    pub(crate) fn end(&self) -> StackEnd {
        self.unwind().0.end
    }
}

pub(crate) fn unwind_plainly(
    threads: &Threads,
    memory: &Image<'_>,
    modules: &ModuleTable,
    files: &dyn Files,
) -> Unwound {
    unwind(Evidence { arch: Arch::X86_64, pac_mask: 0, threads, maps: &[], memory, modules, files })
}

pub(crate) fn modules() -> Modules {
    let range = Range { start: Address(BIAS), end: Address(BIAS + 0x10000) };
    let path = Bytes(b"/lib/made.so".to_vec());
    Modules { modules: vec![Module { path, bias: Bias(BIAS), ranges: vec![range], ..Module::default() }] }
}

pub(crate) fn padded(mut body: Vec<u8>) -> Vec<u8> {
    while body.len() % 8 != 4 {
        body.push(0); // DW_CFA_nop
    }
    let mut entry = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    entry.extend(body);
    entry
}

pub(crate) fn entry(augmentation: &[u8], start: u64, length: u32, instructions: &[u8]) -> CfiEntry {
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
pub(crate) const NO_CALLER: &[u8] = &[0x07, 16];
/// DW_CFA_def_cfa_offset 32; DW_CFA_offset rbx at CFA - 16; DW_CFA_offset rbp at CFA - 24.
pub(crate) const SAVES: &[u8] = &[0x0e, 32, 0x83, 2, 0x86, 3];

/// `inner` saves rbx and rbp and was called by `outer`, which has no caller.
pub(crate) fn chain() -> World {
    World::default()
        .function(0, "inner", SAVES)
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, TEXT + 0x10), (RSP, STACK), (RBX, 1), (RBP, 2), (0, 99)])
        .words(STACK, &[0, 0xbb, 0xcc, TEXT + 0x110])
}

/// What the kernel saves, from `uc_flags` to rip.
pub(crate) fn sigframe(rsp: u64, rip: u64) -> Vec<u64> {
    let mut words = vec![0; 5];
    // r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
    words.extend(100..115);
    words.extend([rsp, rip]);
    words
}

pub(crate) fn interrupted_at(trampoline: u64) -> World {
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

pub(crate) fn without_cfi(before_return: &[u8]) -> World {
    World::default()
        .function(0x100, "outer", NO_CALLER)
        .symbol(0x1300, "bare")
        .registers(&[(RIP, TEXT + 0x310), (RSP, STACK), (RBP, STACK + 0x20)])
        .words(STACK + 0x20, &[0xdead, TEXT + 0x110])
        .bytes(TEXT + 0x110 - before_return.len() as u64, before_return)
}
