//! Whether a function keeps a frame record.

use pyst_memory::Memory;
use pyst_snapshot::Address;

/// How much code before pc is searched, in bytes; less where it begins.
const WINDOWS: [usize; 3] = [2048, 512, 128];

const RET: u32 = 0xd65f_03c0;

/// Whether the code before `pc`, from the function's `start` if that is known, points x29 to a frame record. Where the start is not
/// known, a return or a jump may be the end of another function, and ends the search. `None` when the code is not to be had.
///
/// A function that keeps none leaves x29 as its caller has it, and whoever followed it would leave that caller out unawares.
pub(crate) fn makes_record(start: Option<Address>, pc: Address, memory: &dyn Memory) -> Option<bool> {
    let mut window = [0; WINDOWS[0]];
    let own = start.and_then(|start| usize::try_from(pc.0.checked_sub(start.0)?).ok());
    if let Some(length) = own.filter(|length| *length <= window.len()) {
        let code = window.get_mut(..length)?;
        memory.read(start?, code).ok()?;
        return Some(instructions(code).any(points_to_record));
    }
    let length = WINDOWS.into_iter().find(|length| {
        let start = pc.checked_sub(*length as u64);
        let code = window.get_mut(..*length);
        start.zip(code).is_some_and(|(start, code)| memory.read(start, code).is_ok())
    })?;
    Some(instructions(window.get(..length)?).take_while(|one| !ends_function(*one)).any(points_to_record))
}

/// The last one first.
fn instructions(code: &[u8]) -> impl Iterator<Item = u32> {
    let (words, _) = code.as_chunks::<4>();
    words.iter().rev().map(|word| u32::from_le_bytes(*word))
}

/// ret; b, which may be a tail call.
fn ends_function(instruction: u32) -> bool {
    instruction == RET || instruction >> 26 == 0b00_0101
}

/// mov x29, sp, which is an add of nothing; add x29, sp, #n.
fn points_to_record(instruction: u32) -> bool {
    instruction & 0xffc0_03ff == 0x9100_03fd
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::Image;

    fn makes(code: &[u32], start: Option<u64>) -> Option<bool> {
        let mut image = Image::new();
        let bytes: Vec<u8> = [0; 32].into_iter().chain(code.to_vec()).flat_map(u32::to_le_bytes).collect();
        let pc = Address(0x1000 + bytes.len() as u64);
        image.extend([(Address(0x1000), bytes.into())]);
        makes_record(start.map(|at| Address(0x1080 + 4 * at)), pc, &image)
    }

    #[test]
    fn a_record_is_made_by_pointing_to_it() {
        // stp x29, x30, [sp, #-32]!; mov x29, sp; bl
        assert_eq!(makes(&[0xa9be_7bfd, 0x9100_03fd, 0x9400_0010], None), Some(true));
        // stp x29, x30, [sp, #32]; add x29, sp, #0x20; bl
        assert_eq!(makes(&[0xa902_7bfd, 0x9100_83fd, 0x9400_0010], Some(0)), Some(true));
        // str x30, [sp, #-16]!; bl
        assert_eq!(makes(&[0xf81f_0ffe, 0x9400_0010], None), Some(false));
        assert_eq!(makes_record(None, Address(0x1000), &Image::new()), None);
    }

    #[test]
    fn a_record_of_the_function_before_is_not_its_own() {
        for end in [RET, 0x17ff_fff0] {
            let code = [0xa9be_7bfd, 0x9100_03fd, end, 0xf81f_0ffe, 0x9400_0010];
            assert_eq!(makes(&code, None), Some(false));
            assert_eq!(makes(&code, Some(3)), Some(false));
            assert_eq!(makes(&code, Some(0)), Some(true), "the symbol says that it is the same function");
        }
    }
}
