//! Walks the stacks of all threads.

use crate::diagnose::{diagnose, lacking};
use crate::machine::Machine;
use crate::mapped::Mapped;
use crate::names::Names;
use crate::places::PlaceId;
use crate::registers::{RegisterFile, RegisterSet};
use crate::step::{Frame, Stepper};
use pyst_elf::{Files, ModuleTable};
use pyst_memory::Memory;
use pyst_snapshot::Address;
use pyst_snapshot::payload::{
    Arch, Diagnostic, FoundBy, Map, Native, NativeFrame, NativeStack, Severity, StackEnd, Thread, Threads,
};
use std::collections::{BTreeSet, HashSet};

/// The most frames a thread is shown with. A stack of 8 MiB holds about as many of the smallest that call anything.
pub const MAX_FRAMES: usize = 1 << 16;

/// What the stacks are made out from.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The target's instruction set.
    pub arch: Arch,
    /// The bits of a code address that hold a pointer authentication code.
    pub pac_mask: u64,
    /// The threads with their registers.
    pub threads: &'a Threads,
    /// The mappings, ascending; those at least that were asked about when the snapshot was taken.
    pub maps: &'a [Map],
    /// The target's memory: the stack bytes must be there. Code is read too, a few bytes and only where no CFI covers a pc;
    /// code that is not to be had is taken for what it seems to be.
    pub memory: &'a dyn Memory,
    /// The modules.
    pub modules: &'a ModuleTable,
    /// Their files.
    pub files: &'a dyn Files,
}

/// The stacks, and what is to be said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwound {
    /// The stack of each thread.
    pub native: Native,
    /// What went wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// The first address of each mapping that was asked about: to unwind again, these must be there.
    pub mappings: BTreeSet<Address>,
}

/// Unwinds every thread and names its frames. A thread without registers gets a stack of no frames.
pub fn unwind(evidence: Evidence<'_>) -> Unwound {
    let mut stacks = Vec::with_capacity(evidence.threads.threads.len());
    let mut unwound = unwind_each(evidence, &mut |stack, _| stacks.push(stack));
    stacks.sort_by_key(|stack| stack.tid);
    unwound.native.stacks = stacks;
    unwound
}

/// The same, with each stack given away as soon as it is named, and what its numbers stand for: the stacks of thousands of
/// threads take much room. Every thread is walked twice, for names are asked for together, which costs less than keeping what the
/// first walk found.
pub fn unwind_each(evidence: Evidence<'_>, each: &mut dyn FnMut(NativeStack, &Native)) -> Unwound {
    let Evidence { arch, pac_mask, threads, maps, memory, modules, files } = evidence;
    let Some(machine) = Machine::of(arch, pac_mask) else { return unsupported(arch) };
    let mut stepper = Stepper::new(machine, memory, modules, files, Mapped::new(maps, memory));
    let mut names = Names::new(files);
    let mut first = NativeStack::default();
    for thread in &threads.threads {
        first.frames.clear();
        walk(thread, &mut stepper, Registers::Left, &mut first);
        for place in first.frames.iter().map(|frame| PlaceId(frame.place)) {
            names.want(place, stepper.places.located(place));
        }
    }
    drop(first);
    names.prefetch();
    let mut diagnostics = Vec::new();
    for thread in &threads.threads {
        let mut stack = NativeStack::default();
        walk(thread, &mut stepper, Registers::Shown, &mut stack);
        name_frames(&mut stack, &mut names);
        diagnostics.extend(diagnose(&stack, &names.known().places, modules));
        each(stack, names.known());
    }
    diagnostics.extend(names.lacking.iter().map(|(file, module)| lacking(file, *module, modules)));
    Unwound { native: names.into_known(), diagnostics, mappings: stepper.mapped.into_asked() }
}

fn unsupported(arch: Arch) -> Unwound {
    let message = format!("native stacks of {} are not unwound by this version", arch.name());
    let diagnostic = Diagnostic::new(Severity::LOSS, "unsupported-architecture", message);
    Unwound { diagnostics: vec![diagnostic], ..Unwound::default() }
}

/// Whether frames get the registers that are worth showing. Each has room of its own for them, which those who ask for names
/// alone need not pay for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registers {
    Shown,
    Left,
}

/// Walks a thread's stack, into one without frames.
fn walk(thread: &Thread, stepper: &mut Stepper<'_>, shown: Registers, stack: &mut NativeStack) {
    stack.tid = thread.tid;
    stack.end = follow(thread, stepper, shown, &mut stack.frames);
    let known = thread.registers.as_ref().map(RegisterFile::of_thread);
    let knew_all = known.is_some_and(|known| known.knows(stepper.machine.callee_saved()));
    // What was known from the start was lost on the way, which is for the CFI to prevent.
    if stack.end == StackEnd::REGISTER_UNKNOWN && knew_all {
        stack.end = StackEnd::BAD_CFI;
    }
}

/// The frames, and why there are no more.
fn follow(thread: &Thread, stepper: &mut Stepper<'_>, shown: Registers, frames: &mut Vec<NativeFrame>) -> StackEnd {
    let Some(registers) = &thread.registers else { return StackEnd::NO_REGISTERS };
    let registers = RegisterFile::of_thread(registers);
    let mut frame = Frame { machine: stepper.machine, registers, floor: Address(0), found_by: FoundBy::CONTEXT };
    let mut seen = Seen::default();
    loop {
        let stepped = stepper.step(&frame, thread.stack.as_ref());
        // musl has no end marker, and damaged stacks go in circles through signal frames.
        if let Some(cfa) = stepped.cfa
            && seen.again(frames, frame.pc(), cfa)
        {
            return StackEnd::LOOP;
        }
        let lookup = if stepped.trampoline { frame.pc() } else { frame.lookup() };
        let place = stepper.places.at(lookup);
        frames.push(NativeFrame {
            pc: frame.pc(),
            sp: frame.sp(),
            cfa: stepped.cfa,
            found_by: frame.found_by,
            place: place.0,
            registers: if shown == Registers::Shown { shown_registers(&frame) } else { Vec::new() },
        });
        frame = match stepped.caller {
            Ok(_) if frames.len() >= MAX_FRAMES => {
                return StackEnd::FRAME_LIMIT;
            }
            Ok(caller) => caller,
            Err(end) => return end,
        };
    }
}

/// The frames seen so far. While CFAs ascend none can come again, so that nothing need be kept until one does not.
#[derive(Default)]
struct Seen {
    highest: Option<Address>,
    frames: Option<HashSet<(Address, Address)>>,
}

impl Seen {
    /// Whether a frame comes again, `before` being the frames before it.
    fn again(&mut self, before: &[NativeFrame], pc: Address, cfa: Address) -> bool {
        let ascends = self.highest.is_none_or(|highest| cfa > highest);
        self.highest = self.highest.max(Some(cfa));
        if self.frames.is_none() && ascends {
            return false;
        }
        let all = || before.iter().filter_map(|frame| Some((frame.pc, frame.cfa?))).collect();
        !self.frames.get_or_insert_with(all).insert((pc, cfa))
    }
}

/// Names the frames, up to where a greenlet was switched to.
///
/// A greenlet starts on top of whichever stack was in use (`g_initialstub`), and returns to its parent, whose own stack may
/// be saved on the heap by then: what lies beyond is leftovers.
fn name_frames(stack: &mut NativeStack, names: &mut Names<'_>) {
    let switch = stack.frames.iter().position(|frame| names.name(PlaceId(frame.place)));
    if let Some(index) = switch.filter(|index| index + 1 < stack.frames.len()) {
        stack.frames.truncate(index + 1);
        stack.end = StackEnd::STACK_SWITCH;
    }
}

/// Where a thread stands, or stood when a signal came, every register is worth showing; in a caller those that are kept.
fn shown_registers(frame: &Frame) -> Vec<pyst_snapshot::payload::Register> {
    frame.registers.known(if frame.is_exact() { RegisterSet::ALL } else { frame.machine.callee_saved() })
}
