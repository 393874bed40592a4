//! Each way there is to find a caller.

use crate::world::*;
use pyst_elf::CfiEntry;
use pyst_snapshot::payload::{CfiSection, FoundBy, Map, Register, Severity, StackEnd};
use pyst_snapshot::{Address, Range, Svma};

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
        .registers(&[(RIP, data + 0x10), (RSP, STACK), (RBP, 0)])
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

#[test]
fn code_without_cfi_is_left_by_a_frame_pointer_that_stands_every_test() {
    let call = [0x90, 0x90, 0xe8, 0, 0, 0, 0];
    let (stack, names, _) = without_cfi(&call).unwind();
    assert_eq!(names, ["bare", "outer"]);
    assert_eq!(stack.frames[1].found_by, FoundBy::FRAME_POINTER);
    assert_eq!(stack.frames[1].registers, [Register { number: RBP, value: 0xdead }]);
    assert_eq!(without_cfi(&[]).unwind().1, ["bare", "outer"], "code that is not to be had is believed");

    assert_eq!(without_cfi(&[0x90; 7]).end(), StackEnd::NO_CFI, "no call before the return address");
    let untold =
        |code: &[u8]| without_cfi(&call).bytes(TEXT + 0x300, code).registers(&[(RIP, TEXT + 0x310), (RSP, STACK)]);
    assert_eq!(untold(&[0x55, 0x48, 0x89, 0xe5]).end(), StackEnd::REGISTER_UNKNOWN, "a frame pointer that nobody told");
    let pushes_none = [0x48, 0x83, 0xec, 0x18, 0xe8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
    assert_eq!(untold(&pushes_none).end(), StackEnd::NO_CFI, "it keeps none");
    let misaligned = without_cfi(&call).registers(&[(RIP, TEXT + 0x310), (RSP, STACK), (RBP, STACK + 0x21)]);
    assert_eq!(misaligned.end(), StackEnd::NO_CFI);
    let below = without_cfi(&call).registers(&[(RIP, TEXT + 0x310), (RSP, STACK + 0x28), (RBP, STACK + 0x20)]);
    assert_eq!(below.end(), StackEnd::NO_CFI);
    let (_, _, diagnostics) = below.unwind();
    assert_eq!(diagnostics, [(Severity::INFO, "no-cfi".to_owned())]);
}

#[test]
fn a_frame_pointer_may_be_the_caller_s_where_nobody_knows_how_the_function_starts() {
    let world = World::default()
        .function(0x100, "outer", NO_CALLER)
        .registers(&[(RIP, TEXT + 0x310), (RSP, STACK), (RBP, STACK + 0x20)])
        .words(STACK + 0x20, &[0xdead, TEXT + 0x110]);
    assert_eq!(world.unwind().1, ["?", "outer"]);
    let world = world.words(STACK + 8, &[TEXT + 0x350]);
    assert_eq!(world.end(), StackEnd::NO_CFI, "what may be its own return address lies below");
    let world = world.bytes(TEXT + 0x349, &[0x90; 7]);
    assert_eq!(world.unwind().1, ["?", "outer"], "no call before it: it is none");
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
    for bad in [&[0x0f, 3, 0x2f, 0xfd, 0xff][..], &[0x0f, 1, 0x13], &[0x0f, 2, 0x91, 0], &[0x0c, 40, 8]] {
        let world = chain().function(0x400, "odd", bad).registers(&[(RIP, TEXT + 0x410), (RSP, STACK)]);
        assert_eq!(world.end(), StackEnd::BAD_CFI, "{bad:x?}");
    }
}

#[test]
fn a_register_that_nobody_told_is_another_matter_than_one_that_was_lost() {
    // The CFA is at r12, in the frame that runs, and in its caller after r12 was lost.
    let (at_r12, loses_r12) = ([0x0d, 12], [0x07, 12]);
    let with = |known: &[(u16, u64)], inner: &[u8]| {
        let registers = [&[(RIP, TEXT + 0x410), (RSP, STACK)][..], known].concat();
        chain().function(0x400, "inner", inner).registers(&registers).end()
    };
    assert_eq!(with(&[], &at_r12), StackEnd::REGISTER_UNKNOWN);
    let saved = [(3, 1), (6, 1), (12, STACK + 8), (13, 1), (14, 1), (15, 1)];
    assert_ne!(with(&saved, &at_r12), StackEnd::REGISTER_UNKNOWN);
    let lost = |known: &[(u16, u64)]| {
        let registers = [&[(RIP, TEXT + 0x410), (RSP, STACK)][..], known].concat();
        let world = World::default().function(0x400, "inner", &loses_r12).function(0x500, "outer", &at_r12);
        world.registers(&registers).words(STACK, &[TEXT + 0x510, 0, 0]).end()
    };
    assert_eq!(lost(&[]), StackEnd::REGISTER_UNKNOWN);
    assert_eq!(lost(&saved), StackEnd::BAD_CFI);
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
