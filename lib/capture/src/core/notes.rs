//! The notes of a core file: threads with their registers, the process, the signal, the mapped files.
//!
//! Layouts are those of x86_64 and aarch64 (`struct elf_prstatus`, `elf_prpsinfo`, `siginfo_t`), 64-bit and little-endian. They differ
//! in the registers only, and in what of them has notes of its own.

use crate::registers::layout;
use pyst_snapshot::payload::{Arch, Registers};
use pyst_snapshot::{Address, Range};

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const NT_ARM_TLS: u32 = 0x401;
const NT_ARM_SYSTEM_CALL: u32 = 0x404;
const NT_ARM_PAC_MASK: u32 = 0x406;

/// The most threads and the most mapped files that are believed.
const MAX_THREADS: usize = 65_536;
const MAX_FILES: usize = 1 << 20;

/// What the notes say.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    arch: Arch,
    /// The bits of a code address that hold a pointer authentication code: the same for all threads.
    pub(crate) pac_mask: u64,
    /// In the order of the file. The kernel puts the thread that took the signal first.
    pub(crate) threads: Vec<ThreadNote>,
    pub(crate) process: Option<ProcessNote>,
    /// (`AT_…`, value)
    pub(crate) auxiliary: Vec<(u64, u64)>,
    /// Ascending.
    pub(crate) files: Vec<FileNote>,
    /// Whether the process came before the threads: gdb's `gcore` writes it so, the kernel does not.
    pub(crate) is_gcore: bool,
}

/// `NT_PRSTATUS`, and the `NT_SIGINFO` that belongs to it.
#[derive(Debug, Default)]
pub(crate) struct ThreadNote {
    pub(crate) tid: u32,
    /// `pr_cursig`
    pub(crate) signal: i32,
    pub(crate) registers: Registers,
    pub(crate) signal_info: Option<SignalNote>,
}

/// `NT_SIGINFO`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalNote {
    pub(crate) number: i32,
    pub(crate) code: i32,
    /// `si_pid` and `si_uid`, or the halves of `si_addr`: number and code tell which.
    pub(crate) low: u32,
    pub(crate) high: u32,
}

/// `NT_PRPSINFO`
#[derive(Debug, Default)]
pub(crate) struct ProcessNote {
    /// `pr_sname`
    pub(crate) state: u8,
    pub(crate) zombie: bool,
    pub(crate) nice: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) pgrp: u32,
    pub(crate) sid: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) arguments: Vec<u8>,
}

/// One mapping of `NT_FILE`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileNote {
    pub(crate) range: Range,
    /// In bytes.
    pub(crate) offset: u64,
    pub(crate) path: Vec<u8>,
}

impl Notes {
    /// Notes of a core of this instruction set, none read yet.
    pub(crate) fn of(arch: Arch) -> Notes {
        Notes { arch, ..Notes::default() }
    }

    /// Takes in one `PT_NOTE` segment. A note that does not fit ends it: nothing after it can be found.
    pub(crate) fn read(&mut self, segment: &[u8]) {
        let mut rest = segment;
        while let Some((kind, content, next)) = next_note(rest) {
            rest = next;
            match kind {
                NT_PRSTATUS if self.threads.len() < MAX_THREADS => self.threads.extend(thread(content, self.arch)),
                NT_PRPSINFO => {
                    self.is_gcore = self.threads.is_empty();
                    self.process = process(content);
                }
                NT_SIGINFO => {
                    // The kernel writes it for the thread that took the signal only, which is the first.
                    let of = if self.is_gcore { self.threads.last_mut() } else { self.threads.first_mut() };
                    if let Some(thread) = of {
                        thread.signal_info = signal(content);
                    }
                }
                NT_ARM_TLS | NT_ARM_SYSTEM_CALL | NT_ARM_PAC_MASK if self.arch == Arch::AARCH64 => {
                    self.arm(kind, content)
                }
                NT_AUXV => self.auxiliary = auxiliary(content),
                NT_FILE => self.files = files(content).unwrap_or_default(),
                _ => {}
            }
        }
    }

    /// What aarch64 has in notes of its own, after the thread's `NT_PRSTATUS`.
    fn arm(&mut self, kind: u32, content: &[u8]) {
        let Some(thread) = self.threads.last_mut() else { return };
        match kind {
            NT_ARM_TLS => thread.registers.thread_pointer = u64_at(content, 0).map(Address),
            // −1 outside of a system call.
            NT_ARM_SYSTEM_CALL => {
                thread.registers.system_call = u32_at(content, 0).filter(|number| *number != u32::MAX).map(u64::from);
            }
            // The mask for data comes first.
            _ => self.pac_mask = u64_at(content, 8).unwrap_or(0),
        }
    }

    /// The value of an auxiliary vector's entry.
    pub(crate) fn auxiliary(&self, kind: u64) -> Option<u64> {
        self.auxiliary.iter().find(|entry| entry.0 == kind).map(|entry| entry.1)
    }
}

/// The kind and content of the first note, and what follows. Names and contents are padded to four bytes, whatever the
/// segment's alignment says.
fn next_note(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let name = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let length = usize::try_from(u32_at(bytes, 4)?).ok()?;
    let kind = u32_at(bytes, 8)?;
    let rest = bytes.get(12..)?.get(name.checked_next_multiple_of(4)?..)?;
    let content = rest.get(..length)?;
    let next = rest.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((kind, content, next))
}

fn thread(note: &[u8], arch: Arch) -> Option<ThreadNote> {
    const REGISTERS: usize = 112;
    let layout = layout(arch);
    let words: Vec<u64> = (0..layout.words).map_while(|word| u64_at(note, REGISTERS + 8 * word)).collect();
    if words.len() < layout.words {
        return None;
    }
    Some(ThreadNote {
        tid: u32_at(note, 32)?,
        signal: i32::from(note.get(12..14)?.first_chunk().map(|bytes| i16::from_le_bytes(*bytes))?),
        registers: layout.read(&words),
        signal_info: None,
    })
}

fn process(note: &[u8]) -> Option<ProcessNote> {
    let text = |from: usize, to: usize| {
        let bytes = note.get(from..to).unwrap_or_default();
        bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    };
    Some(ProcessNote {
        state: *note.get(1)?,
        zombie: *note.get(2)? != 0,
        nice: i32::from(note.get(3)?.cast_signed()),
        uid: u32_at(note, 16)?,
        gid: u32_at(note, 20)?,
        pid: u32_at(note, 24)?,
        ppid: u32_at(note, 28)?,
        pgrp: u32_at(note, 32)?,
        sid: u32_at(note, 36)?,
        name: text(40, 56),
        // The kernel ends the arguments with a space.
        arguments: text(56, 136).trim_ascii_end().to_vec(),
    })
}

fn signal(note: &[u8]) -> Option<SignalNote> {
    let int = |at| u32_at(note, at).map(u32::cast_signed);
    Some(SignalNote { number: int(0)?, code: int(8)?, low: u32_at(note, 16)?, high: u32_at(note, 20)? })
}

fn auxiliary(note: &[u8]) -> Vec<(u64, u64)> {
    let entries = note.chunks_exact(16).map_while(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)));
    entries.take_while(|(kind, _)| *kind != 0).collect()
}

/// A count and the page size; that many (start, end, offset in pages); that many paths, each with its NUL.
fn files(note: &[u8]) -> Option<Vec<FileNote>> {
    let count = usize::try_from(u64_at(note, 0)?).ok()?.min(MAX_FILES);
    let page_size = u64_at(note, 8)?;
    let table = note.get(16..)?;
    let paths = table.get(count.checked_mul(24)?..)?;
    let entries = table.chunks_exact(24).zip(paths.split(|byte| *byte == 0)).take(count);
    let files = entries.filter_map(|(entry, path)| {
        let range = Range { start: Address(u64_at(entry, 0)?), end: Address(u64_at(entry, 8)?) };
        let offset = u64_at(entry, 16)?.checked_mul(page_size)?;
        (!range.is_empty()).then(|| FileNote { range, offset, path: path.to_vec() })
    });
    let mut files: Vec<FileNote> = files.collect();
    files.sort_by_key(|file| file.range);
    Some(files)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = [&5u32.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), &kind.to_le_bytes()].concat();
        note.extend(b"CORE\0\0\0\0");
        note.extend(content);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }

    #[test]
    fn mapped_files_are_read_with_their_offsets_in_bytes() {
        let words = [2u64, 0x1000, 0x7000, 0x8000, 3, 0x5000, 0x6000, 0];
        let mut content: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        content.extend(b"/lib/b\0/lib/a\0");
        let mut notes = Notes::default();
        notes.read(&note(NT_FILE, &content));
        let range = |start, end| Range { start: Address(start), end: Address(end) };
        assert_eq!(
            notes.files,
            [
                FileNote { range: range(0x5000, 0x6000), offset: 0, path: b"/lib/a".to_vec() },
                FileNote { range: range(0x7000, 0x8000), offset: 0x3000, path: b"/lib/b".to_vec() }
            ]
        );
    }

    #[test]
    fn hostile_lengths_end_the_notes_and_nothing_else() {
        let good = note(NT_AUXV, &[31u64.to_le_bytes(), 7u64.to_le_bytes()].concat());
        let huge = [u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes(), NT_FILE.to_le_bytes()].concat();
        let many = note(NT_FILE, &[u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat());
        let mut notes = Notes::default();
        notes.read(&[good, many, huge].concat());
        assert_eq!(notes.auxiliary(31), Some(7));
        assert!(notes.files.is_empty());
    }

    #[test]
    fn the_signal_of_gcore_belongs_to_the_thread_before_it() {
        let status = |tid: u32| {
            let mut content = vec![0; 336];
            content[32..36].copy_from_slice(&tid.to_le_bytes());
            note(NT_PRSTATUS, &content)
        };
        let mut signal = vec![0; 128];
        signal[0] = 11;
        signal[8] = 1;
        let signal = note(NT_SIGINFO, &signal);
        let process = note(NT_PRPSINFO, &[0; 136]);
        let mut gcore = Notes::default();
        gcore.read(&[process.clone(), status(1), status(2), signal.clone()].concat());
        assert!(gcore.is_gcore);
        assert_eq!(gcore.threads.iter().map(|t| t.signal_info.is_some()).collect::<Vec<_>>(), [false, true]);
        let mut kernel = Notes::default();
        kernel.read(&[status(1), process, signal, status(2)].concat());
        assert!(!kernel.is_gcore);
        assert_eq!(kernel.threads.iter().map(|t| t.signal_info.is_some()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn aarch64_has_notes_of_its_own() {
        // The sizes that the kernel writes: 392, 16 (TLS, TLS2), 4, 16.
        let mut status = vec![0; 392];
        status[32..36].copy_from_slice(&7u32.to_le_bytes());
        status[112 + 8 * 32..112 + 8 * 33].copy_from_slice(&0x40_0123u64.to_le_bytes());
        let mut notes = Notes::of(Arch::AARCH64);
        let tls = [0x5500_1000u64.to_le_bytes(), 0u64.to_le_bytes()].concat();
        let masks = [0x007f_0000_0000_0000u64.to_le_bytes(), 0x007e_0000_0000_0000u64.to_le_bytes()].concat();
        let all = [
            note(NT_PRSTATUS, &status),
            note(NT_ARM_TLS, &tls),
            note(NT_ARM_SYSTEM_CALL, &(-1i32).to_le_bytes()),
            note(NT_ARM_PAC_MASK, &masks),
        ];
        notes.read(&all.concat());
        let registers = &notes.threads[0].registers;
        assert_eq!((notes.threads[0].tid, registers.get(32)), (7, Some(0x40_0123)));
        assert_eq!((registers.thread_pointer, registers.system_call), (Some(Address(0x5500_1000)), None));
        assert_eq!(notes.pac_mask, 0x007e_0000_0000_0000);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in prop::sample::select(
            vec![NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE]
        )) {
            let mut notes = Notes::default();
            notes.read(&bytes);
            notes.read(&note(kind, &bytes));
        }
    }
}
