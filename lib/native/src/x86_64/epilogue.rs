//! Code without CFI that is about to return.
//!
//! What stands at a return address will run. If it is nothing but the end of a function (take the frame off the stack, pop
//! registers, return) then running it tells the caller exactly. `python -X perf` makes such code: between any two Python
//! functions stands a trampoline in anonymous memory, `sub $8,%rsp; call *%rcx; add $8,%rsp; ret`, without frame pointer.

use super::{RBP, RIP, RSP};
use crate::machine::Machine;
use crate::registers::RegisterFile;
use crate::rules::Failure;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// How much code is looked at, in bytes; less where a page ends.
const WINDOWS: [usize; 3] = [32, 16, 5];

const RAX: usize = 0;

/// The DWARF numbers of the registers that `pop` encodes as 0 to 7; those from 8 on are the same in both.
const POPPED: [usize; 8] = [0, 2, 1, 3, RSP, RBP, 4, 5];

/// The caller's registers, or `None` when the code at pc does anything but return. Its rsp is the CFA.
pub(crate) fn run(registers: &RegisterFile, memory: &dyn Memory) -> Option<Result<RegisterFile, Failure>> {
    let pc = Address(registers.get(RIP)?);
    let mut window = [0; WINDOWS[0]];
    let code = WINDOWS.iter().find_map(|length| {
        memory.read(pc, window.get_mut(..*length)?).ok()?;
        Some(*length)
    });
    let code = window.get(..code?)?;
    let steps = decode(behind_clone(code, registers.get(RAX)))?;
    Some(execute(&steps, registers, memory))
}

/// glibc's `clone` and `clone3` have no CFI from the system call on, for two threads return from it. In the parent, which
/// gets another value than 0, a return follows; the child has no caller.
fn behind_clone(code: &[u8], result: Option<u64>) -> &[u8] {
    match (code, result) {
        // test %rax,%rax; jl error; je child
        ([0x48, 0x85, 0xc0, 0x7c, _, 0x74, _, rest @ ..], Some(1..)) => rest,
        _ => code,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// `add $n, %rsp`.
    Release(u64),
    /// `leave`.
    Leave,
    /// `pop`.
    Pop(usize),
}

/// The instructions before `ret`, if there are no others.
fn decode(mut code: &[u8]) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    loop {
        let (step, rest) = match code {
            [0xc3, ..] | [0xf3, 0xc3, ..] | [0xc2, _, _, ..] => return Some(steps),
            [0x48, 0x83, 0xc4, n @ 0..=0x7f, rest @ ..] => (Step::Release(u64::from(*n)), rest),
            [0x48, 0x81, 0xc4, a, b, c, d @ 0..=0x7f, rest @ ..] => {
                (Step::Release(u64::from(u32::from_le_bytes([*a, *b, *c, *d]))), rest)
            }
            [0xc9, rest @ ..] => (Step::Leave, rest),
            [opcode @ 0x58..=0x5f, rest @ ..] => (Step::Pop(*POPPED.get(usize::from(opcode - 0x58))?), rest),
            [0x41, opcode @ 0x58..=0x5f, rest @ ..] => (Step::Pop(8 + usize::from(opcode - 0x58)), rest),
            _ => return None,
        };
        // `pop %rsp` is no epilogue.
        if step == Step::Pop(RSP) {
            return None;
        }
        steps.push(step);
        code = rest;
    }
}

fn execute(steps: &[Step], registers: &RegisterFile, memory: &dyn Memory) -> Result<RegisterFile, Failure> {
    let mut caller = registers.kept_for_caller(Machine::X86_64);
    let mut sp = registers.get(RSP).ok_or(Failure::UnknownRegister)?;
    let advance = |sp: u64, by: u64| sp.checked_add(by).ok_or(Failure::BadCfi);
    for step in steps {
        match step {
            Step::Release(bytes) => sp = advance(sp, *bytes)?,
            Step::Leave => {
                let frame = caller.get(RBP).ok_or(Failure::UnknownRegister)?;
                caller.set(RBP, Some(memory.read_u64(Address(frame))?));
                sp = advance(frame, 8)?;
            }
            Step::Pop(register) => {
                caller.set(*register, Some(memory.read_u64(Address(sp))?));
                sp = advance(sp, 8)?;
            }
        }
    }
    caller.set(RIP, Some(memory.read_u64(Address(sp))?));
    caller.set(RSP, Some(advance(sp, 8)?));
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_returns_from_clone_and_the_child_does_not() {
        let after = [0x48, 0x85, 0xc0, 0x7c, 0x18, 0x74, 0x01, 0xc3, 0x31, 0xed];
        let decoded = |result| decode(behind_clone(&after, result));
        assert_eq!(decoded(Some(4711)), Some(vec![]));
        // Still in the kernel: -ENOSYS.
        assert_eq!(decoded(Some((-38_i64).cast_unsigned())), Some(vec![]));
        assert_eq!(decoded(Some(0)), None);
        assert_eq!(decoded(None), None);
    }

    #[test]
    fn only_what_leads_straight_to_a_return_is_an_epilogue() {
        assert_eq!(decode(&[0x48, 0x83, 0xc4, 8, 0xc3]), Some(vec![Step::Release(8)]));
        assert_eq!(decode(&[0xc9, 0xc3]), Some(vec![Step::Leave]));
        let popping = [0x48, 0x81, 0xc4, 0, 1, 0, 0, 0x5b, 0x5d, 0x41, 0x5f, 0xf3, 0xc3];
        let steps = vec![Step::Release(256), Step::Pop(3), Step::Pop(RBP), Step::Pop(15)];
        assert_eq!(decode(&popping), Some(steps));
        assert_eq!(decode(&[0x48, 0x83, 0xc4, 8, 0xe9, 0, 0, 0, 0]), None, "a jump may go anywhere");
        assert_eq!(decode(&[0x48, 0x83, 0xc4, 0xf8, 0xc3]), None, "a frame is not made before a return");
        assert_eq!(decode(&[0x5c, 0xc3]), None);
        assert_eq!(decode(&[0x90, 0xc3]), None);
        assert_eq!(decode(&[]), None);
    }
}
