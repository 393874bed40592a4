//! Pages: the unit in which memory is readable or not, and there or not.

/// Their size.
pub(crate) const PAGE: u64 = 4096;

/// The start of the page that `address` is in.
pub(crate) fn page_of(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// The start of the first page that starts at `address` or above; where there is none, the last address.
pub(crate) fn page_from(address: u64) -> u64 {
    address.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}
