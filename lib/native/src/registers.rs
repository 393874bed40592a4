//! The registers of one frame, by DWARF number.

use crate::machine::Machine;
use pyst_snapshot::payload::{Register, Registers};

/// Room for the general registers of any instruction set, and its pc.
pub(crate) const COUNT: usize = 33;

/// Registers, each known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisterFile([Option<u64>; COUNT]);

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
    pub(crate) fn kept_for_caller(&self, machine: Machine) -> RegisterFile {
        let mut file = self.clone();
        for (number, value) in file.0.iter_mut().enumerate() {
            if !machine.is_callee_saved(number) {
                *value = None;
            }
        }
        file
    }

    pub(crate) fn get(&self, number: usize) -> Option<u64> {
        self.0.get(number).copied().flatten()
    }

    /// Other registers, such as vector registers, are not kept.
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
