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
