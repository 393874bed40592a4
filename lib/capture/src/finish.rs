//! The recording: the stages run once over what was captured, and exactly what they asked for becomes the snapshot.
//!
//! Living processes and core files end here alike. The stages run over memory that does not change any more; their
//! results are thrown away, what they read is kept, so that they give the same results over the snapshot.

use crate::Options;
use crate::captured::Steps;
use crate::error::CaptureError;
use crate::modules::{LoadedModules, WithFiles};
use crate::registers::{RED_ZONE, stack_pointer};
use crate::source::{self, TargetPaths};
use pyst_elf::{FileRecorder, Files, ModuleId, Reach, RecordedAnswers, WithoutCalls};
use pyst_kernel::Call;
use pyst_memory::{Memory, Recorder};
use pyst_native::Evidence;
use pyst_snapshot::payload::{
    Arch, Blocking, Capture, Diagnostic, Diagnostics, Map, Maps, Module, Modules, NativeStack, OpenFile, Process,
    Runtime, Severity, Stack, StackEnd, Stage, Thread, ThreadWait, Threads, Verdicts, Waits,
};
use pyst_snapshot::{Address, Range, Tid};
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of a stack above sp when unwinding ended early: a later version may get further.
const KEPT_OF_UNFINISHED_STACK: u64 = 64 << 10;

/// All that is known of a target before the recording.
pub(crate) struct Facts<'a> {
    pub(crate) capture: Capture,
    pub(crate) process: Process,
    pub(crate) threads: Vec<Thread>,
    /// Ascending.
    pub(crate) maps: &'a [Map],
    pub(crate) loaded: &'a LoadedModules,
    pub(crate) runtime: Runtime,
    /// Memory that does not change any more.
    pub(crate) memory: &'a dyn Memory,
    pub(crate) paths: TargetPaths,
    /// What can be had of the file systems that they lead to.
    pub(crate) reach: &'a Reach,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What the kernel says of what threads wait for, without files.
    pub(crate) waits: Waits,
    /// Of a process that ran while it was read.
    pub(crate) verdicts: Option<Verdicts>,
    /// The open files with these descriptors.
    pub(crate) open_files: &'a dyn Fn(&BTreeSet<i32>) -> Vec<OpenFile>,
    /// Whether the target was itself to the end.
    pub(crate) check: &'a dyn Fn() -> Result<(), CaptureError>,
}

/// Records what the stages ask, and makes the sections of the snapshot, in the order in which they can be made.
pub(crate) fn finish(facts: Facts<'_>, options: &Options, snapshot: &Steps) -> Result<(), CaptureError> {
    let Facts {
        capture,
        process,
        threads,
        maps,
        loaded,
        mut runtime,
        memory,
        paths,
        reach,
        mut diagnostics,
        waits,
        verdicts,
        open_files,
        check,
    } = facts;
    let memory = WithFiles { memory, maps, loaded };
    let threads = Threads { threads };
    let recorder = Recorder::new(&memory);
    let unwound = (!options.python_only).then(|| {
        let asked = Asked { threads: &threads, capture: &capture, maps, memory: &memory, recorder: &recorder, loaded };
        match options.debug_info {
            true => asked.unwind(&loaded.files),
            false => asked.unwind(WithoutCalls(&loaded.files)),
        }
    });
    let mut used = Used::default();
    used.0.extend(runtime.found.as_ref().and_then(|found| found.module).map(ModuleId));
    if let Some((unwound, answers)) = &unwound {
        used.0.extend(&unwound.modules);
        used.add(answers);
    }
    let (modules, ids) = used.modules(&loaded.modules);
    if runtime.found.is_none() {
        diagnostics.extend(complaints_of_python(loaded));
        // In a tree it is no failure, and what it is pyst-py says.
        if options.python_only && !options.children {
            diagnostics.push(pyst_python::no_python(&capture, &runtime));
        }
    } else if !options.python_only {
        diagnostics.extend(ids.iter().filter_map(|id| loaded.complaint(*id)).cloned());
    }
    if let Some(found) = &mut runtime.found {
        found.module = found.module.and_then(|old| position(&ids, ModuleId(old)));
    }

    let mut mappings = BTreeSet::new();
    let mut answers = RecordedAnswers::default();
    if let Some((unwound, recorded)) = unwound {
        diagnose_stacks(&threads, &unwound.ends, capture.blocking, &mut diagnostics);
        mappings = unwound.mappings;
        answers = renumbered(recorded, &ids);
    }
    let python = runtime.found.as_ref().map(|found| pyst_python::walk(found, &threads.threads, &recorder).python);
    if let Some((found, python)) = runtime.found.as_ref().zip(python.as_ref()) {
        // What they have to say, pyst-py says.
        let _ = pyst_python::exceptions(found, python, &recorder);
        if let Some(limit) = options.locals {
            let _ = pyst_python::variables(found, python, &recorder, limit);
        }
    }
    let source = python
        .filter(|_| options.source)
        .map(|python| source::read(&python, &paths, reach, process.started_at_ns, capture.captured_at_ns));
    diagnostics.extend(reach.diagnostic());
    let waits = wait_for(waits, &threads, capture.arch, open_files, &recorder);
    check()?;

    let complete = diagnostics.iter().all(|diagnostic| diagnostic.severity < Severity::LOSS);
    snapshot.append(&Capture { complete, ..capture })?;
    snapshot.append(&process)?;
    snapshot.append(&threads)?;
    snapshot.append(&modules)?;
    snapshot.append(&runtime)?;
    if !options.python_only {
        append_answers(snapshot, &answers, options)?;
    }
    drop(answers);
    if let Some(source) = source {
        snapshot.append(&source)?;
    }
    if waits != Waits::default() {
        snapshot.append(&waits)?;
    }
    if let Some(verdicts) = verdicts {
        snapshot.append(&verdicts)?;
    }
    let read = recorder.into_sections(&mut |section| snapshot.put(section))?;
    snapshot.append(&Maps { maps: recorded_maps(maps, &read, &mappings) })?;
    // Last: the stages take it for a sign that they may begin.
    snapshot.append(&Diagnostics { stage: Stage::GRAB, items: diagnostics })?;
    snapshot.end();
    Ok(())
}

/// What threads wait for, with the files that their system calls name; what their arguments point to is recorded.
fn wait_for(
    waits: Waits,
    threads: &Threads,
    arch: Arch,
    open_files: &dyn Fn(&BTreeSet<i32>) -> Vec<OpenFile>,
    memory: &dyn Memory,
) -> Waits {
    let mut descriptors = BTreeSet::new();
    let mut said: BTreeMap<Tid, ThreadWait> = waits.threads.into_iter().map(|wait| (wait.tid, wait)).collect();
    for thread in &threads.threads {
        let wait = said.get_mut(&thread.tid);
        let call = Call::of(thread, wait.as_deref(), arch, memory);
        // The registers are of a later moment, and of the same as the stack. They do not tell what was restarted.
        let is_needed = thread.registers.is_none() || call.as_ref().is_some_and(|call| call.restarted);
        descriptors.extend(call.into_iter().flat_map(|call| call.files.descriptors));
        if let Some(wait) = wait.filter(|_| !is_needed) {
            wait.system_call = None;
        }
    }
    said.retain(|_, wait| wait.wait_channel.is_some() || wait.system_call.is_some());
    Waits { threads: said.into_values().collect(), files: open_files(&descriptors), ..waits }
}

fn append_answers(snapshot: &Steps, answers: &RecordedAnswers, options: &Options) -> Result<(), CaptureError> {
    snapshot.append(&answers.unwind)?;
    snapshot.append(&answers.symbols)?;
    if options.debug_info {
        snapshot.append(&answers.calls)?;
    }
    Ok(())
}

/// Where no runtime was found, a file that is missing may be why: the likely ones are named.
fn complaints_of_python(loaded: &LoadedModules) -> impl Iterator<Item = Diagnostic> {
    let is_python = |module: &Module| {
        let name = module.path.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        name.starts_with(b"python") || name.starts_with(b"libpython")
    };
    let likely = loaded.table.iter().filter(move |(_, module)| is_python(module)).take(8);
    likely.filter_map(|(id, _)| loaded.complaint(id).cloned())
}

/// The modules that something refers to: a process may have hundreds, a stack touches ten.
#[derive(Default)]
struct Used(BTreeSet<ModuleId>);

impl Used {
    /// Adds the modules that were asked when stacks were unwound.
    fn add(&mut self, answers: &RecordedAnswers) {
        let RecordedAnswers { unwind, symbols, .. } = answers;
        self.0.extend(unwind.cies.iter().map(|cie| ModuleId(cie.module)));
        self.0.extend(unwind.absent.iter().map(|absent| ModuleId(absent.module)));
        self.0.extend(symbols.answers.iter().map(|answer| ModuleId(answer.module)));
    }

    /// Those modules, and the number that each had before.
    fn modules(&self, all: &Modules) -> (Modules, Vec<ModuleId>) {
        let number = |id: &ModuleId| usize::try_from(id.0).ok();
        let kept = self.0.iter().filter_map(|id| Some((all.modules.get(number(id)?)?.clone(), *id)));
        let (modules, ids) = kept.unzip();
        (Modules { modules }, ids)
    }
}

/// The number of a module among `ids`, which are ascending.
fn position(ids: &[ModuleId], old: ModuleId) -> Option<u32> {
    u32::try_from(ids.binary_search(&old).ok()?).ok()
}

/// The answers under the numbers that their modules have in the snapshot. They keep their order: `ids` are ascending, and all
/// modules that answers are of are among them.
fn renumbered(mut answers: RecordedAnswers, ids: &[ModuleId]) -> RecordedAnswers {
    let number = |module: &mut u32| *module = position(ids, ModuleId(*module)).unwrap_or(u32::MAX);
    answers.unwind.cies.iter_mut().for_each(|cie| number(&mut cie.module));
    answers.unwind.absent.iter_mut().for_each(|absent| number(&mut absent.module));
    answers.symbols.answers.iter_mut().for_each(|answer| number(&mut answer.module));
    answers.calls.answers.iter_mut().for_each(|answer| number(&mut answer.module));
    answers
}

/// What is asked of the files of a target whose stacks are unwound, and where what that reads is kept.
struct Asked<'a, M> {
    threads: &'a Threads,
    capture: &'a Capture,
    maps: &'a [Map],
    memory: &'a dyn Memory,
    recorder: &'a Recorder<M>,
    loaded: &'a LoadedModules,
}

/// What is kept of stacks: of thousands of threads they would take more room than all that is captured.
#[derive(Default)]
struct Unwound {
    /// Why each ends, by ascending tid.
    ends: Vec<(Tid, StackEnd)>,
    /// The modules that frames are in.
    modules: BTreeSet<ModuleId>,
    /// The first address of each mapping that was asked about.
    mappings: BTreeSet<Address>,
}

impl<M: Memory> Asked<'_, M> {
    /// Unwinds all stacks, and keeps what of them was used, and what the files answer, under the numbers that modules have among
    /// all that are loaded.
    fn unwind(&self, files: impl Files) -> (Unwound, RecordedAnswers) {
        let Asked { threads, capture, maps, recorder, loaded, .. } = *self;
        let files = FileRecorder::new(files);
        let (arch, pac_mask, modules) = (capture.arch, capture.pac_mask, &loaded.table);
        let evidence = Evidence { arch, pac_mask, threads, maps, memory: recorder, modules, files: &files };
        let mut of_threads = threads.threads.iter();
        let mut unwound = Unwound::default();
        let asked = pyst_native::unwind_each(evidence, &mut |stack, _| {
            unwound.ends.push((stack.tid, stack.end));
            if let Some(thread) = of_threads.find(|thread| thread.tid == stack.tid) {
                self.keep_stack(thread, &stack);
            }
        });
        unwound.ends.sort_unstable_by_key(|(tid, _)| *tid);
        unwound.mappings = asked.mappings;
        unwound.modules.extend(asked.native.places.iter().filter_map(|place| place.module).map(ModuleId));
        (unwound, files.into_payloads())
    }

    /// Keeps a stack from the red zone below sp to its highest CFA, and no further: above the main thread's lie its arguments and
    /// environment, which are nobody's business.
    fn keep_stack(&self, thread: &Thread, unwound: &NativeStack) {
        let sp = thread.registers.as_ref().and_then(|registers| stack_pointer(registers, self.capture.arch));
        let (Some(sp), Some(stack)) = (sp, thread.stack) else { return };
        for range in used_stack(Address(sp), stack, unwound, self.maps) {
            keep_readable(range, self.memory, self.recorder);
        }
    }
}

/// The used part of the stack that sp points into, and of those that the frames go on to: a signal handler's stack leads
/// back to the thread's own.
fn used_stack(sp: Address, stack: Stack, unwound: &NativeStack, maps: &[Map]) -> Vec<Range> {
    let mut of_mappings: BTreeMap<Range, Range> = BTreeMap::new();
    let mut use_up = |mapping: Range, from: Address, to: Address| {
        let used = of_mappings.entry(mapping).or_insert(Range { start: from, end: from });
        used.start = used.start.min(Address(from.0.saturating_sub(RED_ZONE)).max(mapping.start));
        // The frame of a signal handler's caller lies on another stack, and so does the CFA that leads there.
        if mapping.start <= to && to <= mapping.end {
            used.end = used.end.max(to);
        }
    };
    let unfinished = Address(sp.0.saturating_add(KEPT_OF_UNFINISHED_STACK));
    use_up(stack.mapping, sp, if is_finished(unwound.end) { sp } else { unfinished.min(stack.mapping.end) });
    for frame in &unwound.frames {
        let Some(cfa) = frame.cfa else { continue };
        if stack.mapping.contains(frame.sp) {
            use_up(stack.mapping, frame.sp, cfa);
        } else if let Some(map) = crate::live::maps::find(maps, frame.sp) {
            use_up(map.range, frame.sp, cfa);
        }
    }
    of_mappings.into_values().collect()
}

fn is_finished(end: StackEnd) -> bool {
    matches!(
        end,
        StackEnd::COMPLETE
            | StackEnd::ZERO_RETURN_ADDRESS
            | StackEnd::STACK_SWITCH
            | StackEnd::STACK_TRUNCATED
            | StackEnd::REGISTER_UNKNOWN
    )
}

/// Keeps what of `range` can be read: a recorder drops a range that cannot be had as a whole.
fn keep_readable<M: Memory>(range: Range, memory: &dyn Memory, recorder: &Recorder<M>) {
    const PAGE: u64 = 4096;
    let mut at = range.start;
    while at < range.end {
        let page_end = Address((at.0 | (PAGE - 1)).saturating_add(1)).min(range.end);
        let page = Range { start: at, end: page_end };
        if let Ok(length) = usize::try_from(page.len())
            && memory.read(page.start, &mut vec![0; length]).is_ok()
        {
            recorder.keep(page);
        }
        at = page_end;
    }
}

fn diagnose_stacks(threads: &Threads, ends: &[(Tid, StackEnd)], blocking: Blocking, diagnostics: &mut Vec<Diagnostic>) {
    for thread in &threads.threads {
        let tid = thread.tid;
        let end =
            ends.binary_search_by_key(&tid, |(tid, _)| *tid).ok().and_then(|at| ends.get(at)).map(|(_, end)| *end);
        let cut = matches!(end, Some(StackEnd::STACK_TRUNCATED | StackEnd::NOT_RECORDED));
        if thread.stack.is_some_and(|stack| stack.truncated) && cut {
            let message = "the stack is larger than what is read of one (8 MiB): the outermost frames are missing";
            diagnostics.push(Diagnostic::new(Severity::INFO, "stack-truncated", message).on(tid));
        }
        if thread.registers.is_some() || diagnostics.iter().any(|diagnostic| diagnostic.tid == Some(tid)) {
            continue;
        }
        if matches!(thread.state, Some(b'Z' | b'X')) {
            let message = "exited before the other threads, and has no frames any more";
            diagnostics.push(Diagnostic::new(Severity::INFO, "thread-exited", message).on(tid));
        } else if blocking != Blocking::NOT_STOPPED {
            let message = "the registers could not be read, so that native frames are missing";
            diagnostics.push(Diagnostic::new(Severity::LOSS, "no-registers", message).on(tid));
        }
    }
}

/// Those of `maps` that hold a byte that was `recorded`, and those that were asked about.
fn recorded_maps(maps: &[Map], recorded: &[Range], asked: &BTreeSet<Address>) -> Vec<Map> {
    let holds_any = |map: &&Map| {
        let first = recorded.partition_point(|range| range.end <= map.range.start);
        recorded.get(first).is_some_and(|range| range.start < map.range.end)
    };
    maps.iter().filter(|map| holds_any(map) || asked.contains(&map.range.start)).cloned().collect()
}
