//! The registers of one frame, by DWARF number.

use crate::machine::Machine;
use pyst_snapshot::payload::{Register, Registers};

/// Room for the general registers of any instruction set, and its pc.
pub(crate) const COUNT: usize = 33;

/// Some of the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterSet(u64);

impl RegisterSet {
    /// All that there are.
    pub(crate) const ALL: RegisterSet = RegisterSet((1 << COUNT) - 1);

    /// These; what is no register's number is left out.
    pub(crate) const fn of(numbers: &[usize]) -> RegisterSet {
        let mut bits = 0;
        let mut rest = numbers;
        while let [number, others @ ..] = rest {
            if *number < COUNT {
                bits |= 1 << *number;
            }
            rest = others;
        }
        RegisterSet(bits)
    }

    fn has(self, number: usize) -> bool {
        number < COUNT && self.0 >> number & 1 != 0
    }

    fn both(self, other: RegisterSet) -> RegisterSet {
        RegisterSet(self.0 & other.0)
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// The numbers, ascending.
impl Iterator for RegisterSet {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lowest = self.0.trailing_zeros() as usize;
        // Clears the lowest bit.
        self.0 &= self.0.checked_sub(1)?;
        Some(lowest)
    }
}

/// Registers, each known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisterFile {
    /// 0 where not known.
    values: [u64; COUNT],
    known: RegisterSet,
}

impl RegisterFile {
    pub(crate) fn unknown() -> RegisterFile {
        RegisterFile { values: [0; COUNT], known: RegisterSet(0) }
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
        let mut file = RegisterFile::unknown();
        for number in machine.callee_saved().both(self.known) {
            file.set(number, self.get(number));
        }
        file
    }

    /// Whether all of these are known.
    pub(crate) fn knows(&self, wanted: RegisterSet) -> bool {
        self.known.both(wanted) == wanted
    }

    pub(crate) fn get(&self, number: usize) -> Option<u64> {
        let value = self.values.get(number)?;
        self.known.has(number).then_some(*value)
    }

    /// Other registers, such as vector registers, are not kept.
    pub(crate) fn set(&mut self, number: usize, value: Option<u64>) {
        if let Some(register) = self.values.get_mut(number) {
            *register = value.unwrap_or(0);
            let bit = 1 << number;
            self.known.0 = if value.is_some() { self.known.0 | bit } else { self.known.0 & !bit };
        }
    }

    /// Those known of the numbers asked for, ascending.
    pub(crate) fn known(&self, wanted: RegisterSet) -> Vec<Register> {
        let shown = wanted.both(self.known);
        let mut known = Vec::with_capacity(shown.len());
        known.extend(
            shown.filter_map(|number| Some(Register { number: u16::try_from(number).ok()?, value: self.get(number)? })),
        );
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_its_numbers_in_order() {
        assert_eq!(RegisterSet::of(&[16, 3, 32, 64, 0]).collect::<Vec<_>>(), [0, 3, 16, 32]);
        assert_eq!(RegisterSet::of(&[]).next(), None);
        assert_eq!(RegisterSet::ALL.count(), COUNT);
    }

    #[test]
    fn a_caller_has_what_its_callee_must_keep_as_far_as_it_is_known() {
        let mut file = RegisterFile::unknown();
        for number in [0, 3, 7, 12, 16] {
            file.set(number, Some(100 + number as u64));
        }
        let kept = file.kept_for_caller(Machine::X86_64);
        let known: Vec<_> = kept.known(RegisterSet::ALL).iter().map(|known| (known.number, known.value)).collect();
        assert_eq!(known, [(3, 103), (12, 112)]);
        let kept = file.kept_for_caller(Machine::Aarch64 { pac_mask: 0 });
        assert_eq!(kept, RegisterFile::unknown());
        file.set(3, None);
        assert_eq!(file.known(RegisterSet::of(&[3, 12])).len(), 1);
    }
}
