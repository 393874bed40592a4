//! Whether a function keeps a frame pointer.

use pyst_memory::Memory;
use pyst_snapshot::Address;

/// How far into a function is looked, in bytes.
const WINDOW: usize = 4096;

/// `mov %rsp, %rbp`, in both encodings.
const MOVES: [[u8; 3]; 2] = [[0x48, 0x89, 0xe5], [0x48, 0x8b, 0xec]];

/// Whether the code from the function's `start` to `pc` points rbp to the frame; `None` when the start is not known, or the code not to
/// be had: instructions cannot be read backwards.
///
/// A function that keeps none leaves rbp as its caller has it, and whoever followed it would leave that caller out unawares.
pub(crate) fn makes_frame(start: Option<Address>, pc: Address, memory: &dyn Memory) -> Option<bool> {
    let start = start?;
    let length = usize::try_from(pc.0.checked_sub(start.0)?).ok()?;
    let mut window = [0; WINDOW];
    let code = window.get_mut(..length)?;
    memory.read(start, code).ok()?;
    Some(code.windows(3).any(|bytes| MOVES.iter().any(|one| one == bytes)))
}

/// Taking the frame off and leaving: `pop %rbp` or `leave`, then a return (`ret`, `repz ret`) or a jump to another function.
const LEAVES: [[u8; 2]; 10] = [
    [0x5d, 0xc3],
    [0x5d, 0xf3],
    [0x5d, 0xe9],
    [0x5d, 0xeb],
    [0x5d, 0xff],
    [0xc9, 0xc3],
    [0xc9, 0xf3],
    [0xc9, 0xe9],
    [0xc9, 0xeb],
    [0xc9, 0xff],
];

/// Whether `pc` is within the function that starts at `start`, which points rbp to its frame; `None` when that cannot be seen: it may be
/// in a function behind that one, or the start is that of a stub that jumps on (a PLT entry).
pub(crate) fn is_in_frame_of(start: Address, pc: Address, memory: &dyn Memory) -> Option<bool> {
    let mut window = [0; WINDOW];
    let code = window.get_mut(..usize::try_from(pc.0.checked_sub(start.0)?).ok()?)?;
    memory.read(start, code).ok()?;
    if code.windows(2).any(|bytes| LEAVES.iter().any(|one| one == bytes)) {
        return None;
    }
    Some(code.windows(3).any(|bytes| MOVES.iter().any(|one| one == bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::Image;

    fn is_in_frame(code: &[u8]) -> Option<bool> {
        let mut image = Image::new();
        image.extend([(Address(0x1000), code.to_vec().into())]);
        is_in_frame_of(Address(0x1000), Address(0x1000 + code.len() as u64), &image)
    }

    #[test]
    fn a_function_has_a_frame_from_where_it_makes_one_to_where_it_leaves() {
        assert_eq!(is_in_frame(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0]), Some(true));
        // It has not made it yet, or makes none.
        assert_eq!(is_in_frame(&[0x55]), Some(false));
        assert_eq!(is_in_frame(&[0x48, 0x83, 0xec, 0x18, 0xe8, 0, 0, 0, 0]), Some(false));
        // Behind a return there may be another function.
        for leave in LEAVES {
            assert_eq!(is_in_frame(&[&[0x55, 0x48, 0x89, 0xe5][..], &leave, &[0xe8, 0, 0, 0, 0]].concat()), None);
        }
        let image = Image::new();
        assert_eq!(is_in_frame_of(Address(0x1000), Address(0x1010), &image), None, "no code to be had");
        assert_eq!(is_in_frame_of(Address(0x1010), Address(0x1000), &image), None, "another function");
        assert_eq!(is_in_frame_of(Address(0), Address(u64::MAX), &image), None, "far away");
    }
}
