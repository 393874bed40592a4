//! What framehop, an unwinder for profilers, makes of a living thread. For comparison: it keeps three registers, knows no signal
//! frames, and is no oracle.

use crate::gdb::GdbFrame;
use anyhow::{Context, Result};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Deeper stacks than any of the tests.
const MOST: usize = 1 << 16;

/// Where each frame of a thread of process `pid` stands, innermost first, and how it comes to an end. `innermost` is gdb's
/// account of the frame to start from.
///
/// # Errors
/// The process or its files cannot be read.
pub fn framehop_stack(pid: u32, innermost: &GdbFrame) -> Result<(Vec<u64>, String)> {
    let [sp, fp] = innermost.pointers.context("gdb told no registers")?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut unwinder: UnwinderX86_64<Vec<u8>> = UnwinderX86_64::new();
    for (path, ranges) in mapped_files(&fs::read_to_string(format!("/proc/{pid}/maps"))?) {
        if let Some(module) = module(&path, &ranges, &memory) {
            unwinder.add_module(module);
        }
    }
    let mut cache = CacheX86_64::new();
    let mut read = |address: u64| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).map_err(|_| ())?;
        Ok(u64::from_le_bytes(word))
    };
    let registers = UnwindRegsX86_64::new(innermost.pc, sp, fp);
    let mut frames = unwinder.iter_frames(innermost.pc, registers, &mut cache, &mut read);
    let mut pcs = Vec::new();
    while pcs.len() < MOST {
        match frames.next() {
            Ok(Some(frame)) => pcs.push(frame.address()),
            Ok(None) => return Ok((pcs, "complete".to_owned())),
            Err(error) => return Ok((pcs, error.to_string())),
        }
    }
    Ok((pcs, "no end".to_owned()))
}

/// Of each file the ranges it is mapped at, each with its offset in the file.
fn mapped_files(maps: &str) -> BTreeMap<String, Vec<(u64, u64, u64)>> {
    let mut files: BTreeMap<String, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, _, offset, _, _, path] = fields[..] else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
        let (start, end) = range.split_once('-').unwrap_or_default();
        if path.starts_with('/') || path == "[vdso]" {
            files.entry(path.to_owned()).or_default().push((hex(start), hex(end), hex(offset)));
        }
    }
    files
}

fn module(path: &str, ranges: &[(u64, u64, u64)], memory: &File) -> Option<Module<Vec<u8>>> {
    let (start, first_end, offset) = *ranges.first()?;
    let end = ranges.last()?.1;
    let bytes = if path == "[vdso]" {
        let mut bytes = vec![0; usize::try_from(first_end - start).ok()?];
        memory.read_exact_at(&mut bytes, start).ok()?;
        bytes
    } else {
        fs::read(path).ok()?
    };
    let elf = ElfFile64::<LittleEndian>::parse(&*bytes).ok()?;
    let loaded = elf.elf_program_headers().iter().filter(|header| header.p_type(LittleEndian) == object::elf::PT_LOAD);
    let first = loaded.map(|header| header.p_vaddr(LittleEndian) & !4095).min()?;
    let bias = start.checked_sub(offset)?.checked_sub(first)?;
    let range = |name| elf.section_by_name(name).map(|section| section.address()..section.address() + section.size());
    let data = |name| Some(elf.section_by_name(name)?.uncompressed_data().ok()?.into_owned());
    let sections = ExplicitModuleSectionInfo {
        text_svma: range(".text"),
        text: data(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..ExplicitModuleSectionInfo::default()
    };
    Some(Module::new(path.to_owned(), start..end, bias, sections))
}
