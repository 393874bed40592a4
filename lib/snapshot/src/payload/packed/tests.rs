use super::*;
use crate::address::Address;
use crate::payload::{FoundBy, NativeCallV1, NativeFrame, NativeStack, RegisterV1, StackEnd};
use crate::text::Text;

/// A call, with the function that it names.
type Call = (Option<NativeFunctionV1>, Option<Text>, Option<u32>, bool);

/// A frame, with the place that it names.
#[derive(Debug, PartialEq)]
struct Frame {
    pc: Address,
    sp: Address,
    cfa: Option<Address>,
    found_by: FoundBy,
    registers: Vec<RegisterV1>,
    place: Option<(Option<u32>, Vec<Call>)>,
}

type Stack = (Tid, Vec<Frame>, StackEnd);

fn place(index: u32, places: &[NativePlaceV1], functions: &[NativeFunctionV1]) -> Option<(Option<u32>, Vec<Call>)> {
    let NativePlaceV1 { module, calls } = places.get(index as usize)?;
    let call = |call: &NativeCallV1| {
        (functions.get(call.function as usize).cloned(), call.file.clone(), call.line, call.inlined)
    };
    Some((*module, calls.iter().map(call).collect()))
}

fn of_native(native: &Native) -> Vec<Stack> {
    let frame = |frame: &NativeFrame| {
        let NativeFrame { pc, sp, cfa, found_by, place: index, registers } = frame.clone();
        Frame { pc, sp, cfa, found_by, registers, place: place(index, &native.places, &native.functions) }
    };
    let stack = |stack: &NativeStack| (stack.tid, stack.frames.iter().map(frame).collect(), stack.end);
    native.stacks.iter().map(stack).collect()
}

fn of_packed(packed: &PackedNative) -> Vec<Stack> {
    let frame = |frame: &PackedFrame| Frame {
        pc: frame.pc,
        sp: frame.sp,
        cfa: frame.cfa,
        found_by: frame.found_by,
        registers: frame.registers().map(|(number, value)| RegisterV1 { number, value }).collect(),
        place: place(frame.place, packed.places(), packed.functions()),
    };
    packed.stacks().map(|stack| (stack.tid, stack.frames.iter().map(frame).collect(), stack.end)).collect()
}

fn pack(version: u16, payload: Vec<u8>) -> Result<PackedNative, PayloadError> {
    let mut packed = PackedNative::default();
    packed.add(version, payload).map(|()| packed)
}

fn native() -> Native {
    let call = |function| NativeCallV1 { function, file: Some("a.c".into()), line: Some(7), inlined: true };
    let frame = |place| NativeFrame {
        pc: Address(40 + u64::from(place)),
        cfa: Some(Address(9)),
        place,
        registers: vec![RegisterV1 { number: 3, value: 4 }],
        ..NativeFrame::default()
    };
    let stack = |tid, places: &[u32]| NativeStack {
        tid: Tid(tid),
        frames: places.iter().copied().map(frame).collect(),
        end: StackEnd::COMPLETE,
    };
    let function =
        |name: &str| NativeFunctionV1 { function: name.into(), raw_symbol: format!("_{name}").as_str().into() };
    Native {
        functions: vec![function("f"), NativeFunctionV1::default(), function("g")],
        places: vec![
            NativePlaceV1 {
                module: Some(1),
                calls: vec![call(2), NativeCallV1 { function: 1, ..NativeCallV1::default() }],
            },
            NativePlaceV1::default(),
            NativePlaceV1 { module: None, calls: vec![call(0)] },
        ],
        stacks: vec![stack(5, &[2, 1, 2]), stack(3, &[]), stack(9, &[0])],
    }
}

#[test]
fn stacks_come_out_as_they_do_all_at_once() {
    for native in [native(), Native::default()] {
        let packed = pack(1, native.encode().unwrap()).unwrap();
        assert_eq!(of_packed(&packed), of_native(&native));
        assert!(packed.tids().eq(native.stacks.iter().map(|stack| stack.tid)));
        assert_eq!(packed.stack(native.stacks.len()).frames.len(), 0);
    }
}

/// Every byte is once an absent option, a present one, what is neither, and the end of a number that is too large.
#[test]
fn what_is_damaged_is_read_as_it_is_all_at_once_or_refused_with_the_same_words() {
    let payload = native().encode().unwrap();
    let (mut read, mut refused) = (0, 0);
    for at in 0..payload.len() {
        for byte in [0, 1, 2, 3, 0x7f, 0xff] {
            let mut damaged = payload.clone();
            damaged[at] = byte;
            match (Native::decode(1, &damaged), pack(1, damaged)) {
                (Ok(native), Ok(packed)) => {
                    read += 1;
                    assert_eq!(of_packed(&packed), of_native(&native), "{byte} at {at}");
                }
                (Err(expected), Err(found)) => {
                    refused += 1;
                    let words = [expected.to_string(), found.to_string()];
                    assert_eq!(words[0], words[1], "{byte} at {at}");
                }
                (at_once, in_parts) => panic!("{byte} at {at}: {at_once:?} and {in_parts:?}"),
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
}

#[test]
fn stacks_that_are_packed_one_by_one_give_the_same_however_they_are_divided() {
    let native = native();
    for division in 0..4u32 {
        let mut sections = Vec::new();
        let mut packer = NativePacker::default();
        for (index, stack) in native.stacks.iter().enumerate() {
            packer.add(stack.clone(), &native).unwrap();
            if division & (1 << index) != 0 {
                sections.push(std::mem::take(&mut packer).finish().unwrap());
            }
        }
        sections.push(packer.finish().unwrap());
        let mut packed = PackedNative::default();
        for section in sections {
            assert_eq!((section.kind, section.version), (Native::KIND, Native::VERSION));
            // What others read, who take the payload for what the struct says.
            let piece = Native::decode(1, &section.payload).unwrap();
            assert!(piece.stacks.is_sorted_by_key(|stack| stack.tid));
            let named: Vec<u32> =
                piece.stacks.iter().flat_map(|stack| &stack.frames).map(|frame| frame.place).collect();
            assert!((0..piece.places.len() as u32).all(|place| named.contains(&place)), "one that no frame names");
            packed.add(section.version, section.payload).unwrap();
        }
        let (mut found, mut expected) = (of_packed(&packed), of_native(&native));
        found.sort_by_key(|stack| stack.0);
        expected.sort_by_key(|stack| stack.0);
        assert_eq!(found, expected, "{division:b}");
        // Those that pieces share are there once.
        assert_eq!((packed.places().len(), packed.functions().len()), (3, 3));
    }
}

#[test]
fn what_a_stack_names_and_no_table_has_stays_unknown() {
    let mut stacks = native();
    stacks.places[0].calls[0].function = 77;
    stacks.stacks[0].frames[0].place = u32::MAX;
    stacks.stacks[0].frames[1].place = 3;
    let mut packer = NativePacker::default();
    stacks.stacks.iter().for_each(|stack| packer.add(stack.clone(), &stacks).unwrap());
    let mut expected = of_native(&stacks);
    expected.sort_by_key(|stack| stack.0);
    let packed = pack(1, packer.finish().unwrap().payload).unwrap();
    assert_eq!(of_packed(&packed), expected);
    assert_eq!(expected[1].1.iter().filter(|frame| frame.place.is_none()).count(), 2);
}

#[test]
fn what_does_not_decode_at_once_does_not_in_parts() {
    let payload = native().encode().unwrap();
    let message = |error: PayloadError| error.to_string();
    for end in 0..payload.len() {
        let part = &payload[..end];
        let both = (Native::decode(1, part).unwrap_err(), pack(1, part.to_vec()).unwrap_err());
        assert!(matches!(both, (PayloadError::Malformed { .. }, PayloadError::Malformed { .. })), "{both:?}");
    }
    let longer = [&payload[..], &[0]].concat();
    let expected = message(Native::decode(1, &longer).unwrap_err());
    assert_eq!(message(pack(1, longer).unwrap_err()), expected);
    let expected = message(Native::decode(2, &payload).unwrap_err());
    assert_eq!(message(pack(2, payload.clone()).unwrap_err()), expected);
    let mut endless = payload;
    let head = Native { stacks: vec![], ..native() }.encode().unwrap();
    endless[head.len() - 8..head.len()].fill(0xff);
    assert!(pack(1, endless).is_err());
}
