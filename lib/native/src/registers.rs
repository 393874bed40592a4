//! The registers of one frame, by DWARF number.

use crate::machine::Machine;
use pyst_snapshot::payload::{Register, Registers};

/// Room for the general registers of any instruction set, and its pc.
pub(crate) const COUNT: usize = 33;

/// Registers, each known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisterFile {
    /// 0 where not known.
    values: [u64; COUNT],
    /// A bit for each register that is known.
    known: u64,
}

impl RegisterFile {
    pub(crate) fn unknown() -> RegisterFile {
        RegisterFile { values: [0; COUNT], known: 0 }
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
        for (number, value) in file.values.iter_mut().enumerate() {
            if !machine.is_callee_saved(number) {
                *value = 0;
                file.known &= !(1 << number);
            }
        }
        file
    }

    pub(crate) fn get(&self, number: usize) -> Option<u64> {
        let value = self.values.get(number)?;
        (self.known >> number & 1 != 0).then_some(*value)
    }

    /// Other registers, such as vector registers, are not kept.
    pub(crate) fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(register) = self.values.get_mut(number) {
            *register = value.unwrap_or(0);
            self.known = self.known & !(1 << number) | u64::from(value.is_some()) << number;
        }
    }

    /// Those known of the numbers asked for, ascending.
    pub(crate) fn known(&self, wanted: impl Fn(usize) -> bool) -> Vec<Register> {
        let numbered = (0u16..).zip(self.values);
        let known = numbered.filter(|(number, _)| self.known >> number & 1 != 0 && wanted(usize::from(*number)));
        known.map(|(number, value)| Register { number, value }).collect()
    }
}
