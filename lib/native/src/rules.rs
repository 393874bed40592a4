//! Applies compiled rules: this frame's registers to its caller's.

use crate::expression::evaluate;
use crate::machine::Machine;
use crate::registers::{COUNT, RegisterFile};
use crate::row::{Cfa, Row, Rule};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::Address;

/// Why a caller could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Bytes could not be had.
    Memory(ReadError),
    /// A rule is malformed.
    BadCfi,
    /// A rule needs a register that is not known.
    UnknownRegister,
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        Failure::Memory(error)
    }
}

/// The value of a register that a rule needs.
pub(crate) fn needed(register: usize, registers: &RegisterFile) -> Result<u64, Failure> {
    let unknown = if register < COUNT { Failure::UnknownRegister } else { Failure::BadCfi };
    registers.get(register).ok_or(unknown)
}

/// The canonical frame address.
pub(crate) fn cfa(row: &Row, registers: &RegisterFile, memory: &dyn Memory) -> Result<u64, Failure> {
    match &row.cfa {
        Cfa::Offset(register, offset) => {
            let base = needed(*register, registers)?;
            base.checked_add_signed(*offset).ok_or(Failure::BadCfi)
        }
        Cfa::Expression(expression) => evaluate(expression, None, registers, memory),
    }
}

/// The registers of the caller. Its pc is unknown when the rules say that there is no caller. `has_called` says whether the function
/// has made a call, which leaves its own return address nowhere but where it was saved.
pub(crate) fn caller(
    row: &Row,
    cfa: u64,
    registers: &RegisterFile,
    has_called: bool,
    machine: Machine,
    memory: &dyn Memory,
) -> Result<RegisterFile, Failure> {
    let mut caller = registers.kept_for_caller(machine);
    caller.set(machine.sp(), Some(cfa));
    let link = machine.link().filter(|_| !has_called).and_then(|link| registers.get(link));
    let mut return_address = link;
    let mut states_return_address = link.is_some();
    for (number, rule) in &row.rules {
        let value = match rule {
            Rule::Undefined => None,
            Rule::Same => registers.get(*number),
            Rule::Register(other) => registers.get(*other),
            Rule::Constant(value) => Some(*value),
            Rule::Offset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            Rule::AtOffset(offset) => Some(memory.read_u64(Address(cfa.wrapping_add_signed(*offset)))?),
            Rule::Expression(expression) => Some(evaluate(expression, Some(cfa), registers, memory)?),
            Rule::AtExpression(expression) => {
                let address = evaluate(expression, Some(cfa), registers, memory)?;
                Some(memory.read_u64(Address(address))?)
            }
        };
        if *number == machine.return_column() {
            states_return_address = true;
            return_address = value;
            let is_lost = has_called && *rule == Rule::Same && machine.link() == Some(*number);
            if is_lost || (value.is_none() && *rule != Rule::Undefined) {
                return Err(Failure::UnknownRegister);
            }
        }
        caller.set(*number, value);
    }
    caller.set(machine.pc(), return_address.map(|address| machine.without_signature(address)));
    // A function that does not say where its return address is, is not described at all.
    if states_return_address { Ok(caller) } else { Err(Failure::BadCfi) }
}
