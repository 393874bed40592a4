//! The kinds of address and id, one type each, so that the compiler keeps them apart.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An address in the target's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(pub u64);

/// A *stated virtual memory address*: the address a file gives to its own content, before loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Svma(pub u64);

/// What lies between a module's svmas and the target's addresses: `address = svma + bias`, modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bias(pub u64);

/// A thread id as the kernel gives it, in the pid namespace of the host that captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tid(pub u32);

/// What `threading.get_ident()` returns: on Linux `pthread_self()`, which is the thread pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ident(pub u64);

/// A half-open range of addresses, `start <= end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The first address in the range.
    pub start: Address,
    /// The first address after it.
    pub end: Address,
}

impl Address {
    /// The address `offset` bytes on, or `None` past the end of the address space.
    #[must_use]
    pub fn checked_add(self, offset: u64) -> Option<Address> {
        self.0.checked_add(offset).map(Address)
    }

    /// The address `offset` bytes before, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, offset: u64) -> Option<Address> {
        self.0.checked_sub(offset).map(Address)
    }

    /// The svma this address has in a module loaded with `bias`.
    #[must_use]
    pub fn to_svma(self, bias: Bias) -> Svma {
        Svma(self.0.wrapping_sub(bias.0))
    }

    /// Whether this is the null pointer.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl Svma {
    /// The address of this svma in a target that loaded its module with `bias`.
    #[must_use]
    pub fn to_address(self, bias: Bias) -> Address {
        Address(self.0.wrapping_add(bias.0))
    }
}

impl Range {
    /// The range of `length` bytes at `start`, or `None` past the end of the address space.
    #[must_use]
    pub fn sized(start: Address, length: u64) -> Option<Range> {
        start.checked_add(length).map(|end| Range { start, end })
    }

    /// Its length in bytes; 0 for a range whose end lies before its start, which hostile input can hold.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `address` lies inside.
    #[must_use]
    pub fn contains(self, address: Address) -> bool {
        self.start <= address && address < self.end
    }

    /// What both ranges hold; empty where they do not meet.
    #[must_use]
    pub fn intersect(self, other: Range) -> Range {
        let start = self.start.max(other.start);
        Range { start, end: self.end.min(other.end).max(start) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Svma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_past_the_end_of_the_address_space_is_refused() {
        assert_eq!(Range::sized(Address(u64::MAX), 2), None);
        assert_eq!(Range::sized(Address(u64::MAX - 2), 2).map(Range::len), Some(2));
    }

    #[test]
    fn an_inverted_range_is_empty_and_contains_nothing() {
        let inverted = Range { start: Address(9), end: Address(3) };
        assert_eq!(inverted.len(), 0);
        assert!(!inverted.contains(Address(5)));
    }

    #[test]
    fn ranges_that_do_not_meet_intersect_in_nothing() {
        let low = Range { start: Address(0), end: Address(4) };
        let high = Range { start: Address(8), end: Address(12) };
        assert!(low.intersect(high).is_empty());
        let across = Range { start: Address(2), end: Address(9) };
        assert_eq!(across.intersect(high), Range { start: Address(8), end: Address(9) });
    }
}
