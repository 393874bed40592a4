//! Registers, from the layout in which the kernel gives them (`struct user_regs_struct`, the same in a core file's
//! `NT_PRSTATUS` and from `PTRACE_GETREGSET`) to DWARF numbers.

use pyst_snapshot::Address;
use pyst_snapshot::payload::{Register, Registers};

/// DWARF number of the stack pointer on x86_64.
pub(crate) const SP: u16 = 7;

/// DWARF number of the program counter on x86_64.
pub(crate) const PC: u16 = 16;

/// How many words `struct user_regs_struct` has on x86_64.
pub(crate) const WORDS: usize = 27;

/// Bytes below sp that a function may use without moving sp (the red zone of the x86_64 psABI).
pub(crate) const RED_ZONE: u64 = 128;

/// Word in `user_regs_struct` of each DWARF register, by DWARF number: rax rdx rcx rbx rsi rdi rbp rsp r8…r15 rip.
const WORD_OF_REGISTER: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];
const ORIG_RAX: usize = 15;
const FS_BASE: usize = 21;

/// The registers in `words`, an x86_64 `user_regs_struct`.
pub(crate) fn from_words(words: &[u64]) -> Registers {
    let mut registers = Registers { values: Vec::with_capacity(WORD_OF_REGISTER.len()), ..Registers::default() };
    fill(&mut registers, words);
    registers
}

/// The same into registers whose memory is already there.
pub(crate) fn fill(registers: &mut Registers, words: &[u64]) {
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    registers.values.clear();
    registers.values.extend((0..).zip(WORD_OF_REGISTER).map(|(number, at)| Register { number, value: word(at) }));
    registers.thread_pointer = Some(Address(word(FS_BASE)));
    // The kernel writes −1 where the thread is in no system call.
    registers.system_call = Some(word(ORIG_RAX)).filter(|number| *number != u64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_comes_from_its_word_of_user_regs_struct() {
        // The order of the fields in <sys/user.h>; the DWARF numbers are those of the x86_64 psABI, figure 3.36.
        let names = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base \
                     gs_base ds es fs gs";
        let dwarf = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip";
        let names: Vec<&str> = names.split_whitespace().collect();
        assert_eq!(names.len(), WORDS);
        let words: Vec<u64> = (1000..).take(WORDS).collect();
        let registers = from_words(&words);
        for (number, name) in (0..).zip(dwarf.split_whitespace()) {
            let at = names.iter().position(|n| *n == name).unwrap();
            assert_eq!(registers.get(number), Some(words[at]), "{name}");
        }
        assert_eq!(registers.thread_pointer, Some(Address(1021)));
        assert_eq!(registers.system_call, Some(1015));
        assert_eq!(from_words(&[u64::MAX; WORDS]).system_call, None);
    }
}
