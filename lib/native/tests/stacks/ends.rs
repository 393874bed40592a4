//! Each reason for a stack to end.

use crate::world::*;
use pyst_elf::{ModuleTable, RecordedFiles};
use pyst_memory::Image;
use pyst_native::MAX_FRAMES;
use pyst_snapshot::payload::{Severity, StackEnd, StackV1, Thread, Threads};
use pyst_snapshot::{Address, Range, Tid};
use std::time::{Duration, Instant};

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
fn a_thread_without_registers_has_a_stack_that_says_so() {
    let threads = Threads { threads: vec![Thread { tid: Tid(9), ..Thread::default() }] };
    let unwound = unwind_plainly(&threads, &Image::new(), &ModuleTable::default(), &World::default());
    assert_eq!(unwound.native.stacks[0].end, StackEnd::NO_REGISTERS);
    assert_eq!(unwound.diagnostics, []);
}
