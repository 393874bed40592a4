//! Core files: the same walk over another memory. Notes give threads and process, segments give memory, and what was
//! not dumped (code and constants) comes from the mapped files, if they are the same as then.

mod file;
mod files;
mod notes;
mod unlisted;

use crate::captured::{Captured, Steps};
use crate::error::CaptureError;
use crate::finish::{self, Facts};
use crate::live::maps;
use crate::live::stack::up_to_top;
use crate::modules::{self, WithFiles};
use crate::registers::{RED_ZONE, stack_pointer};
use crate::source::TargetPaths;
use crate::{Options, nanoseconds};
use file::{CoreFile, Segment};
use files::CoreFiles;
use nix::errno::Errno;
use notes::{FileNote, Notes, SignalNote, ThreadNote};
use pyst_elf::Reach;
use pyst_snapshot::payload::{
    Arch, Blocking, Capture, CaptureSource, Diagnostic, Map, ModuleFile, Process, Severity, Signal, Stack, Thread,
    Waits,
};
use pyst_snapshot::{Address, Bytes, Range, Tid};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const AT_PHDR: u64 = 3;
const AT_PAGESZ: u64 = 6;
const AT_ENTRY: u64 = 9;
const AT_SYSINFO_EHDR: u64 = 33;

/// Captures from a core file, with `exe` as its executable if that is given.
pub(crate) fn capture(core: PathBuf, exe: Option<PathBuf>, options: &Options) -> Result<Captured, CaptureError> {
    let options = options.clone();
    // Nobody is stopped meanwhile, and a core may be as large as it likes.
    let stuck = |_| CaptureError::System { what: "read the core file", source: Errno::ETIMEDOUT.into() };
    Captured::by(Duration::MAX, stuck, move |steps| capture_here(&core, exe.as_deref(), &options, steps))
}

fn capture_here(path: &Path, exe: Option<&Path>, options: &Options, steps: &Steps) -> Result<(), CaptureError> {
    if let Some(exe) = exe {
        // A path that was given and leads nowhere is a mistake to hear of at once.
        modules::open_regular(exe).map_err(|source| CaptureError::Io {
            action: "open the executable",
            path: exe.to_owned(),
            source,
        })?;
    }
    let core = CoreFile::open(path)?;
    let mut notes = Notes::of(core.arch());
    for segment in core.notes() {
        notes.read(segment);
    }
    if notes.threads.is_empty() {
        let path = path.to_owned();
        return Err(match core.missing {
            0 => CaptureError::DamagedCore { path, what: "its notes name no thread".to_owned() },
            // gdb writes its notes last.
            missing => CaptureError::TruncatedCore { path, missing },
        });
    }
    if let (true, Some(exe), Some(entry)) = (notes.files.is_empty(), exe, notes.auxiliary(AT_ENTRY)) {
        notes.files = unlisted::mappings(exe, entry);
    }
    let captured_at_ns = nanoseconds(core.modified.unwrap_or(UNIX_EPOCH));
    let maps = map_segments(&core, &notes);
    let exe_address = notes.auxiliary(AT_ENTRY).or_else(|| notes.auxiliary(AT_PHDR)).map(Address);
    let reach = Reach::here();
    let finder =
        CoreFiles { core: &core, path, exe, exe_address, captured_at_ns, search: &options.search, reach: &reach };
    let mut loaded = modules::load(&maps, &core, &finder);
    loaded.add_companions(&finder, |_| true);
    let memory = WithFiles { memory: &core, maps: &maps, loaded: &loaded };
    let runtime = crate::find_runtime(&loaded, &maps, &memory, options);

    let mut diagnostics = Vec::new();
    if core.missing > 0 {
        let message = format!(
            "core file {} is truncated: {} bytes are missing at its end, and what was in them is lost; see the size limit \
             (ulimit -c) and the free space of its file system",
            path.display(),
            core.missing
        );
        diagnostics.push(Diagnostic::new(Severity::LOSS, "core-truncated", message));
    }
    let crash = crash(&notes);
    let mut process = process(&notes, crash);
    if let Some((module, id)) = exe_address.and_then(|address| {
        let (id, _) = loaded.table.locate(address)?;
        Some((loaded.table.get(id)?, id))
    }) {
        let is_found = module.file == ModuleFile::FOUND;
        process.exe = Some(
            exe.filter(|_| is_found)
                .map_or_else(|| module.path.clone(), |exe| Bytes(exe.as_os_str().as_bytes().to_vec())),
        );
        if is_found {
            process.exe_found = if exe.is_some() { "on the command line" } else { "in the core file" }.to_owned();
        } else if let Some(complaint) = loaded.take_complaint(id)
            && (exe.is_some() || !options.python_only || runtime.found.is_none())
        {
            diagnostics.push(complaint);
        }
    }
    let threads = threads(&notes, core.arch(), &maps, crash);
    let page_size = notes.auxiliary(AT_PAGESZ).and_then(|size| u32::try_from(size).ok());
    let common = crate::capture_section(options);
    let capture = Capture {
        captured_at_ns,
        source: CaptureSource::CORE,
        blocking: Blocking::NOT_APPLICABLE,
        arch: core.arch(),
        pac_mask: notes.pac_mask,
        page_size: page_size.unwrap_or(common.page_size),
        ..common
    };
    let facts = Facts {
        capture,
        process,
        threads,
        maps: &maps,
        loaded: &loaded,
        runtime,
        memory: &core,
        paths: TargetPaths::Here,
        reach: &reach,
        diagnostics,
        // The kernel writes none of this to a core.
        waits: Waits::default(),
        verdicts: None,
        open_files: &|_| Vec::new(),
        check: &|| Ok(()),
    };
    finish::finish(facts, options, steps)
}

/// The mappings: segments, with the files that the notes name for them.
fn map_segments(core: &CoreFile, notes: &Notes) -> Vec<Map> {
    let vdso = notes.auxiliary(AT_SYSINFO_EHDR).map(Address);
    let mut maps: Vec<Map> = core.segments().iter().map(|segment| map_segment(segment, &notes.files, vdso)).collect();
    // gdb leaves out segments that it does not dump. What it does not dump is code and constants.
    let undumped = notes.files.iter().filter(|file| {
        let after = core.segments().partition_point(|segment| segment.range.start < file.range.end);
        let below = after.checked_sub(1).and_then(|index| core.segments().get(index));
        below.is_none_or(|segment| segment.range.end <= file.range.start)
    });
    maps.extend(undumped.map(|file| Map {
        range: file.range,
        permissions: 5,
        offset: file.offset,
        path: Bytes(file.path.clone()),
        ..Map::default()
    }));
    maps.sort_by_key(|map| map.range);
    maps
}

fn map_segment(segment: &Segment, files: &[FileNote], vdso: Option<Address>) -> Map {
    let start = segment.range.start;
    let after = files.partition_point(|file| file.range.start <= start);
    let file = after.checked_sub(1).and_then(|index| files.get(index)).filter(|file| file.range.contains(start));
    let path = match file {
        Some(file) => Bytes(file.path.clone()),
        None if vdso == Some(start) => Bytes::from("[vdso]"),
        None => Bytes::default(),
    };
    Map {
        range: segment.range,
        permissions: u16::try_from(segment.flags & 7).unwrap_or(0),
        offset: file.map_or(0, |file| file.offset.saturating_add(start.0 - file.range.start.0)),
        path,
        ..Map::default()
    }
}

/// The thread that took the signal which ended the process, and that signal. The kernel writes a core for no other reason
/// and puts that thread first. gdb writes one of a process it has stopped: only a signal that kills tells of a crash then.
fn crash(notes: &Notes) -> Option<(&ThreadNote, SignalNote)> {
    let signal = |thread: &ThreadNote| {
        thread.signal_info.unwrap_or(SignalNote { number: thread.signal, code: i32::MAX, low: 0, high: 0 })
    };
    let mut threads = notes.threads.iter().map(|thread| (thread, signal(thread)));
    if notes.is_gcore { threads.find(|(_, signal)| kills(signal.number)) } else { threads.next() }
        .filter(|(_, signal)| signal.number > 0)
}

/// Signals that dump a core by default, those aside that stop a process under a debugger.
fn kills(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGQUIT
            | libc::SIGILL
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGSEGV
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGSYS
    )
}

fn signal_section(thread: &ThreadNote, signal: SignalNote) -> Signal {
    // Codes up to 0 come from a process, those above from the kernel: 0x80 is SI_KERNEL, which knows no address.
    let is_known = thread.signal_info.is_some();
    let is_sent = is_known && signal.code <= 0;
    let is_fault = is_known
        && (1..0x80).contains(&signal.code)
        && matches!(signal.number, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP);
    Signal {
        number: signal.number,
        code: if is_known { signal.code } else { 0 },
        tid: Tid(thread.tid),
        sender_pid: is_sent.then_some(signal.low),
        sender_uid: is_sent.then_some(signal.high),
        fault_address: is_fault.then_some(Address(u64::from(signal.high) << 32 | u64::from(signal.low))),
    }
}

fn process(notes: &Notes, crash: Option<(&ThreadNote, SignalNote)>) -> Process {
    let signal = crash.map(|(thread, signal)| signal_section(thread, signal));
    let Some(note) = &notes.process else {
        let pid = notes.threads.iter().map(|thread| thread.tid).min().unwrap_or(0);
        return Process { pid, signal, ..Process::default() };
    };
    Process {
        pid: note.pid,
        ppid: Some(note.ppid),
        pgrp: Some(note.pgrp),
        sid: Some(note.sid),
        uid: Some(note.uid),
        gid: Some(note.gid),
        state: Some(note.state),
        zombie: Some(note.zombie),
        nice: Some(note.nice),
        name: Bytes(note.name.clone()),
        cmdline: if note.arguments.is_empty() { Vec::new() } else { vec![Bytes(note.arguments.clone())] },
        signal,
        ..Process::default()
    }
}

/// The threads. A core has no names of them, and the living process that has the same number by now is another one.
fn threads(notes: &Notes, arch: Arch, maps: &[Map], crash: Option<(&ThreadNote, SignalNote)>) -> Vec<Thread> {
    let mut threads: Vec<Thread> = notes
        .threads
        .iter()
        .map(|note| Thread {
            tid: Tid(note.tid),
            crashed: crash.is_some_and(|(crashed, _)| crashed.tid == note.tid),
            stack: stack_pointer(&note.registers, arch)
                .and_then(|sp| stack_at(Address(sp), note.registers.thread_pointer, maps)),
            registers: Some(note.registers.clone()),
            ..Thread::default()
        })
        .collect();
    threads.sort_by_key(|thread| thread.tid);
    threads.dedup_by_key(|thread| thread.tid);
    threads
}

fn stack_at(sp: Address, thread_pointer: Option<Address>, maps: &[Map]) -> Option<Stack> {
    let mapping = up_to_top(maps::find(maps, sp)?.range, sp, thread_pointer);
    let start = Address(sp.0.saturating_sub(RED_ZONE)).max(mapping.start);
    Some(Stack { mapping, read: Range { start, end: mapping.end }, truncated: false })
}
