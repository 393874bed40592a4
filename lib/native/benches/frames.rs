//! What a frame costs: a deep recursion is unwound again and again, and the nanoseconds a frame are printed. One step in sixty-five
//! thousand has its rule compiled, so this is what a warm frame costs.
#![allow(clippy::unwrap_used)]

use pyst_elf::{Answer, Calls, CfiEntry, Files, ModuleId, ModuleTable, SymbolHit};
use pyst_memory::Image;
use pyst_native::{Evidence, unwind};
use pyst_snapshot::payload::{Arch, CfiSection, Module, Modules, Register, Registers, Thread, Threads};
use pyst_snapshot::{Address, Bias, Bytes, Range, Svma, Tid};
use std::time::Instant;

const TEXT: u64 = 0x7f00_0000_1000;
const STACK: u64 = 0x7ffe_0000_0000;
const FRAMES: usize = 60_000;
const FRAME: u64 = 48;

struct OneFunction(CfiEntry);

impl Files for OneFunction {
    fn cfi(&self, _: ModuleId, svma: Svma) -> Answer<CfiEntry> {
        Some(self.0.clone()).filter(|entry| entry.start <= svma && svma < entry.end).into()
    }

    fn symbol(&self, _: ModuleId, _: Svma) -> Answer<SymbolHit> {
        Answer::Absent
    }

    fn calls(&self, _: ModuleId, _: Svma) -> Answer<Calls> {
        Answer::Absent
    }
}

/// A function that keeps rbx and rbp in a frame of 48 bytes.
fn entry() -> CfiEntry {
    let cie = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];
    let (start, fde_svma) = (0x1000u32, 0x8000u32);
    let mut fde = vec![28, 0, 0, 0];
    fde.extend((fde_svma + 4 - 0x7000).to_le_bytes());
    fde.extend(start.wrapping_sub(fde_svma + 8).to_le_bytes());
    fde.extend(0x100u32.to_le_bytes());
    // def_cfa_offset 48; rbx at CFA - 16; rbp at CFA - 24.
    fde.extend([0, 0x0e, 48, 0x83, 2, 0x86, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    CfiEntry {
        section: CfiSection::EH_FRAME,
        cie_svma: Svma(0x7000),
        cie,
        fde_svma: Svma(fde_svma.into()),
        fde,
        start: Svma(start.into()),
        end: Svma(0x1100),
    }
}

fn main() {
    let files = OneFunction(entry());
    let range = Range { start: Address(TEXT - 0x1000), end: Address(TEXT + 0x1000) };
    let path = Bytes(b"/lib/made.so".to_vec());
    let module = Module { path, bias: Bias(TEXT - 0x1000), ranges: vec![range], ..Module::default() };
    let modules = ModuleTable::new(&Modules { modules: vec![module] });
    let mut stack = vec![0u8; FRAMES * FRAME as usize];
    for frame in stack.chunks_exact_mut(FRAME as usize).take(FRAMES - 1) {
        frame.last_chunk_mut::<8>().unwrap().copy_from_slice(&(TEXT + 0x20).to_le_bytes());
    }
    let mut memory = Image::new();
    memory.extend([(Address(STACK), stack.into())]);
    let values = [(3, 1), (6, 2), (7, STACK), (16, TEXT + 0x10)];
    let values = values.into_iter().map(|(number, value)| Register { number, value }).collect();
    let registers = Some(Registers { values, ..Registers::default() });
    let threads = Threads { threads: vec![Thread { tid: Tid(7), registers, ..Thread::default() }] };
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let started = Instant::now();
        let unwound = unwind(Evidence {
            arch: Arch::X86_64,
            pac_mask: 0,
            threads: &threads,
            maps: &[],
            memory: &memory,
            modules: &modules,
            files: &files,
        });
        let took = started.elapsed().as_nanos() as f64;
        let frames: usize = unwound.native.stacks.iter().map(|stack| stack.frames.len()).sum();
        assert!(frames > FRAMES - 2, "{frames} frames, {:?}", unwound.native.stacks.first().map(|stack| stack.end));
        best = best.min(took / frames as f64);
    }
    println!("{best:.0} ns a frame, of {FRAMES}");
}
