//! Whether an address is one that a call returns to.

use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// Whether a call instruction ends at `address`; `None` when the code is not to be had.
pub(crate) fn follows_call(address: Address, memory: &dyn Memory) -> Option<bool> {
    let code: [u8; 4] = memory.read_array(address.checked_sub(4)?).ok()?;
    Some(address.0.is_multiple_of(4) && is_call(u32::from_le_bytes(code)))
}

fn is_call(instruction: u32) -> bool {
    // bl; blr, and blraa, blrab, blraaz, blrabz, which check the address's signature.
    instruction >> 26 == 0b10_0101
        || instruction & 0xffff_fc1f == 0xd63f_0000
        || instruction & 0xfeff_f800 == 0xd63f_0800
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_call_is_known() {
        assert!(is_call(0x97ff_fff0), "bl .-64");
        assert!(is_call(0x9400_0001), "bl .+4");
        assert!(is_call(0xd63f_0260), "blr x19");
        assert!(is_call(0xd73f_0a11), "blraa x16, x17");
        assert!(is_call(0xd63f_0a1f), "blraaz x16");
        assert!(!is_call(0x1400_0001), "b .+4");
        assert!(!is_call(0xd61f_0200), "br x16");
        assert!(!is_call(0xd65f_03c0), "ret");
        assert!(!is_call(0xd503_201f), "nop");
    }
}
