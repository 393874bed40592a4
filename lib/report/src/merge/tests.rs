mod oracle;

use super::*;
use pyst_snapshot::Payload;
use pyst_snapshot::payload::{Native, NativeFrame, NativeStack, PackedNative, PythonFrame, PythonRun, Register};

/// The merge of a stack as it is on the wire.
fn merge(native: Option<&NativeStack>, states: &[&PythonState], is_loop: &dyn Fn(usize) -> bool) -> Merged {
    let payload = Native { stacks: native.cloned().into_iter().collect(), ..Native::default() }.encode().unwrap();
    let mut packed = PackedNative::default();
    packed.add(Native::VERSION, payload).unwrap();
    super::merge(packed.stacks().next().as_ref(), states, is_loop)
}

/// A stack of frames that touch, innermost first, from their sizes; the innermost starts at 0x1000.
fn stack(sizes: &[u64]) -> NativeStack {
    let mut sp = 0x1000;
    let frame = |size: &u64| {
        let frame = NativeFrame { sp: Address(sp), cfa: Some(Address(sp + size)), ..NativeFrame::default() };
        sp += size;
        frame
    };
    NativeStack { frames: sizes.iter().map(frame).collect(), end: StackEnd::COMPLETE, ..NativeStack::default() }
}

/// A state with runs, innermost first: how many frames, and the anchor.
fn state(runs: &[(u32, Option<u64>)]) -> PythonState {
    let run = |(frames, anchor): &(u32, Option<u64>)| PythonRun {
        frames: *frames,
        anchor: anchor.map(Address),
        anchor_kind: AnchorKind::SHIM_FRAME,
    };
    let count = runs.iter().map(|(frames, _)| *frames as usize).sum();
    PythonState {
        frames: vec![PythonFrame::default(); count],
        runs: runs.iter().map(run).collect(),
        end: FrameChainEnd::COMPLETE,
        ..PythonState::default()
    }
}

/// `N3` a native frame, `N3*` an evaluation loop; `P0` a Python frame, `(P0` an entry; `?` unplaced, `~` by order, `=` by a
/// register; states
/// after the first as `P1:0`.
fn show(merged: &Merged) -> String {
    let entry = |entry: &Entry| match *entry {
        Entry::Native { frame, runs_python } => format!("N{frame}{}", if runs_python { "*" } else { "" }),
        Entry::Python { state, frame, entry, placed_by } => {
            let state = if state == 0 { String::new() } else { format!("{state}:") };
            let mark = match placed_by {
                Some(PlacedBy::Unplaced) => "?",
                Some(PlacedBy::Order) => "~",
                Some(PlacedBy::Register) => "=",
                None | Some(PlacedBy::Anchor(_)) => "",
            };
            format!("{}P{state}{frame}{mark}", if entry { "(" } else { "" })
        }
    };
    merged.entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn merged(native: &NativeStack, states: &[&PythonState]) -> Merged {
    merge(Some(native), states, &|_| false)
}

#[test]
fn three_levels_of_calls_back_into_python_lie_between_their_native_frames() {
    // sleep, time_sleep, loop, list.sort, loop, reduce, loop, main.
    let native = stack(&[0x80, 0x80, 0x200, 0x80, 0x200, 0x80, 0x200, 0x80]);
    let python = state(&[(2, Some(0x12f0)), (1, Some(0x1570)), (3, Some(0x17f0))]);
    let merged = merged(&native, &[&python]);
    assert_eq!(show(&merged), "N7 N6* (P5 P4 P3 N5 N4* (P2 N3 N2* (P1 P0 N1 N0");
    assert_eq!((merged.unplaced, merged.state_order_unknown), (vec![], false));
    let by_shim = Some(PlacedBy::Anchor(AnchorKind::SHIM_FRAME));
    assert!(merged.entries.contains(&Entry::Python { state: 0, frame: 2, entry: true, placed_by: by_shim }));
}

#[test]
fn a_frame_holds_its_sp_and_not_its_cfa() {
    let native = stack(&[0x10, 0x10]);
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0x1010))])])), "N1* (P0 N0");
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0x100f))])])), "N1 N0* (P0");
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0x1020))])])), "(P0? N1 N0");
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0xfff))])])), "(P0? N1 N0");
}

#[test]
fn a_loop_that_runs_no_frame_yet_is_a_loop() {
    let native = stack(&[0x10, 0x10, 0x10]);
    let merged = merged(&native, &[&state(&[(0, Some(0x1000)), (1, Some(0x1020)), (0, Some(0x9000))])]);
    assert_eq!(show(&merged), "N2* (P0 N1 N0*");
    assert_eq!(merged.unplaced, []);
}

#[test]
fn without_native_frames_nothing_is_said_of_places() {
    let python = state(&[(2, Some(0x1000)), (1, None)]);
    let empty = NativeStack { end: StackEnd::NO_REGISTERS, ..NativeStack::default() };
    for native in [None, Some(&empty)] {
        let merged = merge(native, &[&python], &|_| false);
        assert_eq!(show(&merged), "(P2 (P1 P0");
        assert_eq!(merged.unplaced, []);
        assert!(merged.entries.iter().all(|entry| matches!(entry, Entry::Python { placed_by: None, .. })));
    }
}

#[test]
fn a_run_beyond_a_stack_that_ends_early_is_shown_outermost_and_noted() {
    let native = NativeStack { end: StackEnd::NO_CFI, ..stack(&[0x10, 0x10, 0x10]) };
    let merged = merged(&native, &[&state(&[(1, Some(0x1010)), (2, Some(0x2000)), (1, Some(0x3000))])]);
    assert_eq!(show(&merged), "(P3? (P2? P1? N2 N1* (P0 N0");
    assert_eq!(merged.unplaced, [Unplaced { reason: Reason::OutsideStack, runs: 2, frames: 3 }]);
}

#[test]
fn a_run_without_a_place_is_shown_inside_its_outer_neighbour() {
    let native = stack(&[0x10; 5]);
    let merged = merged(&native, &[&state(&[(1, Some(0x1000)), (2, None), (1, Some(0x1040))])]);
    assert_eq!(show(&merged), "N4* (P3 (P2? P1? N3 N2 N1 N0* (P0");
    assert_eq!(merged.unplaced, [Unplaced { reason: Reason::NoAnchor, runs: 1, frames: 2 }]);
}

#[test]
fn places_that_contradict_the_chain_are_given_up_on_both_sides() {
    let native = stack(&[0x10; 6]);
    // The second run lies further in than the first.
    let crossed = state(&[(1, Some(0x1020)), (1, Some(0x1010)), (1, Some(0x1050))]);
    let merged = merged(&native, &[&crossed]);
    assert_eq!(show(&merged), "N5* (P2 (P1? (P0? N4 N3 N2 N1 N0");
    assert_eq!(merged.unplaced, [Unplaced { reason: Reason::Disorder, runs: 2, frames: 2 }]);
    // Two runs in one frame.
    let shared = state(&[(1, Some(0x1021)), (1, Some(0x1022)), (1, Some(0x1050))]);
    assert_eq!(show(&super::tests::merged(&native, &[&shared])), "N5* (P2 (P1? (P0? N4 N3 N2 N1 N0");
}

#[test]
fn a_place_that_two_native_frames_claim_is_none() {
    let mut native = stack(&[0x10, 0x10]);
    native.frames[1].sp = Address(0x1008);
    let merged = merged(&native, &[&state(&[(1, Some(0x1009))])]);
    assert_eq!(show(&merged), "(P0? N1 N0");
    assert_eq!(merged.unplaced, [Unplaced { reason: Reason::Ambiguous, runs: 1, frames: 1 }]);
}

#[test]
fn a_frame_that_could_not_be_unwound_ends_where_its_caller_begins() {
    let mut native = stack(&[0x10, 0x10]);
    native.frames[0].cfa = None;
    native.frames[1].cfa = None;
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0x1004))])])), "N1 N0* (P0");
    // Nothing bounds the outermost, so nothing is known to lie in it.
    assert_eq!(show(&merged(&native, &[&state(&[(1, Some(0x1014))])])), "(P0? N1 N0");
}

#[test]
fn runs_without_anchors_take_the_loops_where_there_are_as_many() {
    let loops = |frame| [1, 3].contains(&frame);
    let native = stack(&[0x10; 5]);
    let two = state(&[(1, None), (2, None)]);
    assert_eq!(show(&merge(Some(&native), &[&two], &loops)), "N4 N3* (P2~ P1~ N2 N1* (P0~ N0");
    // One frame has no loop of its own: coro.throw(). Which one cannot be told.
    let three = state(&[(1, None), (1, None), (1, None)]);
    assert_eq!(show(&merge(Some(&native), &[&three], &loops)), "(P2? (P1? (P0? N4 N3 N2 N1 N0");
    // The stack ends early: more loops may lie beyond.
    let cut = NativeStack { end: StackEnd::UNREADABLE, ..native.clone() };
    assert_eq!(show(&merge(Some(&cut), &[&two], &loops)), "(P2? P1? (P0? N4 N3 N2 N1 N0");
    // Between neighbours that have a place the end does not matter.
    let between = state(&[(1, None), (1, Some(0x1020)), (1, None)]);
    assert_eq!(show(&merge(Some(&cut), &[&between], &loops)), "(P2? N4 N3 N2* (P1 N1* (P0~ N0");
}

/// Native frames of which each has these values in registers, and a state of as many frames as `frames`, each a run of its
/// own, at these addresses; both innermost first.
fn with_registers(values: &[&[u64]], frames: &[u64]) -> (NativeStack, PythonState) {
    let mut native = stack(&vec![0x10; values.len()]);
    for (frame, values) in native.frames.iter_mut().zip(values) {
        let register = |(number, value): (usize, &u64)| Register { number: number as u16, value: *value };
        frame.registers = values.iter().enumerate().map(register).collect();
    }
    let mut python = state(&vec![(1, None); frames.len()]);
    for (frame, address) in python.frames.iter_mut().zip(frames) {
        frame.address = Address(*address);
    }
    (native, python)
}

fn merged_by_registers(values: &[&[u64]], frames: &[u64], loops: &[usize]) -> String {
    let (native, python) = with_registers(values, frames);
    show(&merge(Some(&native), &[&python], &|frame| loops.contains(&frame)))
}

#[test]
fn a_loop_runs_the_frame_that_it_has_in_a_register() {
    let all = [0, 2, 4];
    assert_eq!(
        merged_by_registers(&[&[0xa], &[0xa], &[0xb], &[], &[0xc]], &[0xa, 0xb, 0xc], &all),
        "N4* (P2= N3 N2* (P1= N1 N0* (P0="
    );
    // One that has none takes what is left.
    assert_eq!(
        merged_by_registers(&[&[], &[], &[0xb], &[], &[0xc]], &[0xa, 0xb, 0xc], &all),
        "N4* (P2= N3 N2* (P1= N1 N0* (P0~"
    );
}

#[test]
fn a_loop_in_its_first_instructions_has_the_register_of_its_caller() {
    assert_eq!(merged_by_registers(&[&[0xa], &[], &[0xa], &[0xb]], &[0xa, 0xb], &[0, 2, 3]), "N3* (P1= N2* (P0= N1 N0");
}

#[test]
fn a_loop_that_has_the_frame_of_one_it_calls_too_runs_its_own() {
    assert_eq!(merged_by_registers(&[&[0xa], &[0xa, 0xb]], &[0xa, 0xb], &[0, 1]), "N1* (P1= N0* (P0=");
    // Nothing has the caller's, which must have a loop all the same.
    assert_eq!(merged_by_registers(&[&[0xa], &[0xa]], &[0xa, 0xb], &[0, 1]), "N1* (P1~ N0* (P0=");
}

#[test]
fn a_frame_thrown_into_has_no_loop_of_its_own() {
    // coro.throw() through two awaits: five frames, three loops.
    assert_eq!(
        merged_by_registers(&[&[0xa], &[], &[0xd], &[], &[0xe]], &[0xa, 0xb, 0xc, 0xd, 0xe], &[0, 2, 4]),
        "N4* (P4= N3 N2* (P3= (P2? (P1? N1 N0* (P0="
    );
}

#[test]
fn counting_does_not_overrule_a_register() {
    // The inner loop has the outer frame: it can't be that the outer one runs it and the inner one the other.
    let (mut native, python) = with_registers(&[&[0xb], &[]], &[0xa, 0xb]);
    assert_eq!(show(&merge(Some(&native), &[&python], &|_| true)), "(P1? (P0? N1 N0");
    native.frames[0].registers.clear();
    assert_eq!(show(&merge(Some(&native), &[&python], &|_| true)), "N1* (P1~ N0* (P0~");
}

#[test]
fn an_anchor_that_leads_nowhere_is_not_overruled_by_counting() {
    let native = stack(&[0x10; 3]);
    let python = state(&[(1, Some(0x9000))]);
    assert_eq!(show(&merge(Some(&native), &[&python], &|frame| frame == 1)), "(P0? N2 N1 N0");
}

#[test]
fn nested_interpreters_are_ordered_by_their_places() {
    let native = stack(&[0x10; 6]);
    // The main interpreter called into a sub-interpreter, which called back.
    let sub = state(&[(2, Some(0x1020))]);
    let main = state(&[(1, Some(0x1000)), (1, Some(0x1050))]);
    let both = merged(&native, &[&sub, &main]);
    assert_eq!(show(&both), "N5* (P1:1 N4 N3 N2* (P1 P0 N1 N0* (P1:0");
    assert_eq!(both.states, [1, 0]);
    // The same without native frames, by the anchors alone.
    let alone = merge(None, &[&sub, &main], &|_| false);
    assert_eq!((show(&alone).as_str(), alone.state_order_unknown), ("(P1:1 (P1 P0 (P1:0", false));
}

#[test]
fn nested_interpreters_that_nothing_orders_are_said_to_be_so() {
    let (sub, main) = (state(&[(1, None)]), state(&[(1, None)]));
    let merged = merge(None, &[&sub, &main], &|_| false);
    assert_eq!((show(&merged).as_str(), merged.state_order_unknown), ("(P1:0 (P0", true));
    let idle = state(&[]);
    assert!(!merge(None, &[&idle, &main], &|_| false).state_order_unknown);
}

#[test]
fn two_interpreters_cannot_share_a_loop() {
    let native = stack(&[0x10; 3]);
    let (sub, main) = (state(&[(1, Some(0x1011))]), state(&[(1, Some(0x1012))]));
    assert_eq!(show(&merged(&native, &[&sub, &main])), "(P1:0? (P0? N2 N1 N0");
}

#[test]
fn counts_that_do_not_fit_lose_no_frame() {
    let mut python = state(&[(2, Some(0x1000))]);
    python.runs[0].frames = u32::MAX;
    assert_eq!(show(&merge(None, &[&python], &|_| false)), "(P1 P0");
    python.runs[0].frames = 1;
    assert_eq!(show(&merge(None, &[&python], &|_| false)), "(P1 (P0");
    python.runs.clear();
    assert_eq!(show(&merge(None, &[&python], &|_| false)), "(P1 P0");
}

#[test]
fn the_outermost_frame_of_a_chain_that_broke_off_is_no_entry() {
    let mut python = state(&[(1, Some(0x1000)), (2, None)]);
    python.end = FrameChainEnd::UNREADABLE;
    assert_eq!(show(&merge(None, &[&python], &|_| false)), "P2 P1 (P0");
}

/// A generator that needs no crate: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn native(&mut self) -> NativeStack {
        let sizes: Vec<u64> = (0..self.below(9)).map(|_| 1 + self.below(8)).collect();
        let mut native = stack(&sizes);
        for frame in &mut native.frames {
            match self.below(12) {
                0 => frame.cfa = None,
                1 => frame.cfa = Some(Address(0x1000 + self.below(64))),
                2 => frame.sp = Address(0x1000 + self.below(64)),
                _ => {}
            }
        }
        native.end = if self.below(3) == 0 { StackEnd::NO_CFI } else { StackEnd::COMPLETE };
        native
    }

    /// Mostly a chain in order, sometimes nonsense.
    fn state(&mut self) -> PythonState {
        let mut anchors: Vec<u64> = (0..self.below(5)).map(|_| 0xffe + self.below(60)).collect();
        if self.below(3) > 0 {
            anchors.sort_unstable();
        }
        let without = self.below(4) == 0;
        let runs: Vec<(u32, Option<u64>)> = anchors
            .into_iter()
            .map(|anchor| (self.below(4) as u32, (!without && self.below(5) > 0).then_some(anchor)))
            .collect();
        let mut state = state(&runs);
        if self.below(6) == 0 {
            state.runs.pop();
        }
        if self.below(6) == 0 {
            state.end = FrameChainEnd::LOOP;
        }
        state
    }
}

#[test]
fn random_stacks_merge_as_the_definitions_say() {
    let seed = match std::env::var("PYST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1,
    };
    println!("PYST_SEED={seed}");
    let mut random = Random(seed);
    let mut placed_by_order = 0;
    for case in 0..30_000 {
        let native = random.native();
        let states: Vec<PythonState> = (0..1 + random.below(3)).map(|_| random.state()).collect();
        let states: Vec<&PythonState> = states.iter().collect();
        let loops: Vec<usize> = (0..native.frames.len()).filter(|_| random.below(3) == 0).collect();
        let merged = merge(Some(&native), &states, &|frame| loops.contains(&frame));
        let (expected, known) = oracle::merge(&native, &states, &loops);
        assert_eq!(show(&merged), expected, "case {case}: {native:?} {states:?} {loops:?}");
        assert_eq!(merged.state_order_unknown, !known, "case {case}: {native:?} {states:?}");
        let python = merged.entries.iter().filter(|entry| matches!(entry, Entry::Python { .. })).count();
        assert_eq!(python, states.iter().map(|state| state.frames.len()).sum::<usize>());
        assert_eq!(merged.entries.len() - python, native.frames.len());
        let unplaced: usize = merged.unplaced.iter().map(|unplaced| unplaced.frames).sum();
        assert_eq!(unplaced, expected.matches('?').count());
        placed_by_order += expected.matches('~').count();
    }
    assert!(placed_by_order > 100, "the cases must cover placing by order");
}
