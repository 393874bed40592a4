//! Reads of objects, within a budget.

use super::Lack;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::{Address, Range};
use std::cell::Cell;

/// How many bytes are read for one variable.
const OF_A_VALUE: u64 = 64 << 10;

/// The largest read at once.
const AT_ONCE: u64 = 16 << 10;

/// A memory, and how much of it may still be read.
pub(crate) struct Reader<'a> {
    memory: &'a dyn Memory,
    in_all: Cell<u64>,
    left: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(memory: &'a dyn Memory, limit: u64) -> Reader<'a> {
        Reader { memory, in_all: Cell::new(limit), left: Cell::new(OF_A_VALUE) }
    }

    /// Starts another variable.
    pub(crate) fn start(&self) {
        self.left.set(OF_A_VALUE);
    }

    /// Does `work`, which reads what many values have in common, apart from what may be read for this one.
    pub(crate) fn apart<R>(&self, work: impl FnOnce() -> R) -> R {
        let left = self.left.replace(OF_A_VALUE);
        let result = work();
        self.left.set(left);
        result
    }

    /// Starts what may read all that is left.
    pub(crate) fn start_without_part(&self) {
        self.left.set(self.in_all.get());
    }

    /// Starts a variable that may read less than others.
    pub(crate) fn start_within(&self, limit: u64) {
        self.left.set(limit.min(OF_A_VALUE));
    }

    /// Says that something at each of these addresses will be read next, and what it points to nearby.
    pub(crate) fn expect(&self, addresses: impl Iterator<Item = Address>) {
        self.memory.expect(addresses.filter_map(head).collect());
    }

    /// Says that the first bytes at each of these addresses will be read next, and little else.
    pub(crate) fn expect_heads(&self, addresses: impl Iterator<Item = Address>) {
        self.memory.expect_only(addresses.filter_map(head).collect());
    }

    /// The `length` bytes at `address`.
    pub(crate) fn bytes(&self, address: Address, length: u64) -> Result<Vec<u8>, Lack> {
        self.spend(length)?;
        self.memory.read_bytes(address, length, AT_ONCE).map_err(Lack::Read)
    }

    /// Fills `buffer` with what is at `address`.
    pub(crate) fn fill(&self, address: Address, buffer: &mut [u8]) -> Result<(), Lack> {
        self.spend(buffer.len() as u64)?;
        self.memory.read(address, buffer).map_err(Lack::Read)
    }

    /// The word at `address`.
    pub(crate) fn word(&self, address: Address) -> Result<u64, Lack> {
        self.spend(8)?;
        self.memory.read_u64(address).map_err(Lack::Read)
    }

    /// The `count` words at `address`.
    pub(crate) fn words(&self, address: Address, count: u64) -> Result<Vec<u64>, Lack> {
        let bytes = self.bytes(address, count.checked_mul(8).ok_or(Lack::Invalid)?)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// The text at `address` that ends with a zero byte; what is longer than `limit` is cut.
    pub(crate) fn c_text(&self, address: Address, limit: u64) -> Result<String, Lack> {
        const STEP: u64 = 32;
        let mut text = Vec::new();
        let mut at = address;
        while (text.len() as u64) < limit {
            // Never beyond the page: what follows need not be readable.
            let step = STEP - at.0 % STEP;
            let bytes = self.bytes(at, step)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(bytes.get(..end).unwrap_or_default());
                break;
            }
            text.extend_from_slice(&bytes);
            at = at.checked_add(step).ok_or(Lack::Invalid)?;
        }
        String::from_utf8(text).map_err(|_| Lack::Invalid)
    }

    /// Whether nothing more may be read, or next to nothing.
    pub(crate) fn is_spent(&self) -> bool {
        self.in_all.get() < AT_ONCE
    }

    fn spend(&self, length: u64) -> Result<(), Lack> {
        let (left, in_all) = (self.left.get(), self.in_all.get());
        if length > left.min(in_all) || length > AT_ONCE {
            return Err(Lack::Limit);
        }
        self.left.set(left - length);
        self.in_all.set(in_all - length);
        Ok(())
    }
}

/// The first bytes of an object: all of most.
fn head(address: Address) -> Option<Range> {
    Range::sized(address, 64)
}
