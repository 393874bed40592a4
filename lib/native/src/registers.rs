//! The registers of one frame, x86_64, by DWARF number.

use pyst_snapshot::payload::{Register, Registers};

/// rbx.
pub(crate) const RBX: usize = 3;
/// rbp.
pub(crate) const RBP: usize = 6;
/// rsp.
pub(crate) const RSP: usize = 7;
/// The return address column, which holds rip.
pub(crate) const RIP: usize = 16;
/// rax to r15, and rip.
pub(crate) const COUNT: usize = 17;

/// Registers, each known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisterFile([Option<u64>; COUNT]);

/// Whether the psABI has a function keep the register for its caller. (rsp, which it also keeps, is the CFA.)
pub(crate) fn is_callee_saved(number: usize) -> bool {
    matches!(number, RBX | RBP | 12..=15)
}

impl RegisterFile {
    pub(crate) fn unknown() -> RegisterFile {
        RegisterFile([None; COUNT])
    }

    pub(crate) fn of_thread(registers: &Registers) -> RegisterFile {
        let mut file = RegisterFile::unknown();
        for register in &registers.values {
            file.set(register.number.into(), Some(register.value));
        }
        file
    }

    /// What a caller still has of these without any rule: what its callees must keep.
    pub(crate) fn kept_for_caller(&self) -> RegisterFile {
        let mut file = self.clone();
        for (number, value) in file.0.iter_mut().enumerate() {
            if !is_callee_saved(number) {
                *value = None;
            }
        }
        file
    }

    pub(crate) fn get(&self, number: usize) -> Option<u64> {
        self.0.get(number).copied().flatten()
    }

    /// Registers beyond rip, such as vector registers, are not kept.
    pub(crate) fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(register) = self.0.get_mut(number) {
            *register = value;
        }
    }

    /// Those known of the numbers asked for, ascending.
    pub(crate) fn known(&self, wanted: impl Fn(usize) -> bool) -> Vec<Register> {
        let numbered = (0u16..).zip(self.0);
        let known = numbered.filter(|(number, _)| wanted(usize::from(*number)));
        known.filter_map(|(number, value)| Some(Register { number, value: value? })).collect()
    }
}
