//! DWARF expressions in CFI: PLT entries, realigned stacks, signal frames.

use crate::registers::RegisterFile;
use crate::rules::{Failure, needed};
use gimli::{Encoding, EndianSlice, Evaluation, EvaluationResult, Format, LittleEndian, Location, Value};
use pyst_memory::Memory;
use pyst_snapshot::Address;

/// How many operations an expression may execute. The longest real ones have about fifteen.
const MAX_OPERATIONS: u32 = 1000;

const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// The value of an expression, `initial` (the CFA, for a register's rule) being on its stack at the start.
pub(crate) fn evaluate(
    expression: &[u8],
    initial: Option<u64>,
    registers: &RegisterFile,
    memory: &dyn Memory,
) -> Result<u64, Failure> {
    let mut evaluation = Evaluation::new(EndianSlice::new(expression, LittleEndian), ENCODING);
    evaluation.set_max_iterations(MAX_OPERATIONS);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut state = evaluation.evaluate();
    loop {
        state = match state.map_err(|_| Failure::BadCfi)? {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size, space: None, .. } => {
                let value = read(memory, address, size)?;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = needed(register.0.into(), registers)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            // All others ask about a function's variables, which CFI has none of.
            _ => return Err(Failure::BadCfi),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => Ok(address),
            Location::Value { value } => value.to_u64(u64::MAX).map_err(|_| Failure::BadCfi),
            _ => Err(Failure::BadCfi),
        },
        _ => Err(Failure::BadCfi),
    }
}

fn read(memory: &dyn Memory, address: u64, size: u8) -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    let wanted = bytes.get_mut(..usize::from(size)).ok_or(Failure::BadCfi)?;
    memory.read(Address(address), wanted)?;
    Ok(u64::from_le_bytes(bytes))
}
