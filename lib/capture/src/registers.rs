//! Registers, from the layout in which the kernel gives them (`struct user_regs_struct` or `user_pt_regs`, the same in a core
//! file's `NT_PRSTATUS` and from `PTRACE_GETREGSET`) to DWARF numbers.

use pyst_snapshot::Address;
use pyst_snapshot::payload::{Arch, Register, Registers};

/// Bytes below sp that a function may use without moving sp (the red zone of the x86_64 psABI; aarch64 has none).
pub(crate) const RED_ZONE: u64 = 128;

/// Where the kernel keeps what.
#[derive(Debug)]
pub(crate) struct Layout {
    /// How many words there are.
    pub(crate) words: usize,
    /// The word of each DWARF register, by DWARF number.
    registers: &'static [usize],
    /// DWARF number of the stack pointer.
    pub(crate) sp: u16,
    /// DWARF number of the program counter.
    pub(crate) pc: u16,
    system_call: Option<usize>,
    thread_pointer: Option<usize>,
}

/// rax rdx rcx rbx rsi rdi rbp rsp r8…r15 rip; orig_rax; fs_base.
static X86_64: Layout = Layout {
    words: 27,
    registers: &[10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16],
    sp: 7,
    pc: 16,
    system_call: Some(15),
    thread_pointer: Some(21),
};

/// x0…x30 sp pc. The thread pointer and the system call are in notes of their own.
static AARCH64: Layout = Layout {
    words: 34,
    registers: &[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
        30, 31, 32,
    ],
    sp: 31,
    pc: 32,
    system_call: None,
    thread_pointer: None,
};

/// The layout of an instruction set.
pub(crate) fn layout(arch: Arch) -> &'static Layout {
    match arch {
        Arch::AARCH64 => &AARCH64,
        _ => &X86_64,
    }
}

/// The stack pointer among `registers`.
pub(crate) fn stack_pointer(registers: &Registers, arch: Arch) -> Option<u64> {
    registers.get(layout(arch).sp)
}

impl Layout {
    /// The registers in `words`.
    pub(crate) fn read(&self, words: &[u64]) -> Registers {
        let mut registers = Registers { values: Vec::with_capacity(self.registers.len()), ..Registers::default() };
        self.fill(&mut registers, words);
        registers
    }

    /// The same into registers whose memory is already there.
    pub(crate) fn fill(&self, registers: &mut Registers, words: &[u64]) {
        let word = |index: usize| words.get(index).copied().unwrap_or(0);
        registers.values.clear();
        registers.values.extend((0..).zip(self.registers).map(|(number, at)| Register { number, value: word(*at) }));
        registers.thread_pointer = self.thread_pointer.map(|at| Address(word(at)));
        // The kernel writes −1 where the thread is in no system call.
        registers.system_call = self.system_call.map(word).filter(|number| *number != u64::MAX);
    }
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
        assert_eq!(names.len(), X86_64.words);
        let words: Vec<u64> = (1000..).take(X86_64.words).collect();
        let registers = X86_64.read(&words);
        for (number, name) in (0..).zip(dwarf.split_whitespace()) {
            let at = names.iter().position(|n| *n == name).unwrap();
            assert_eq!(registers.get(number), Some(words[at]), "{name}");
        }
        assert_eq!(registers.thread_pointer, Some(Address(1021)));
        assert_eq!(registers.system_call, Some(1015));
        assert_eq!(X86_64.read(&[u64::MAX; 27]).system_call, None);
    }

    #[test]
    fn the_registers_of_aarch64_are_in_the_order_of_their_numbers() {
        // <asm/ptrace.h>: regs[31], sp, pc, pstate.
        let words: Vec<u64> = (1000..).take(AARCH64.words).collect();
        let registers = AARCH64.read(&words);
        assert_eq!((registers.get(0), registers.get(30)), (Some(1000), Some(1030)));
        assert_eq!((stack_pointer(&registers, Arch::AARCH64), registers.get(AARCH64.pc)), (Some(1031), Some(1032)));
        assert_eq!((registers.get(33), registers.thread_pointer, registers.system_call), (None, None, None));
    }
}
