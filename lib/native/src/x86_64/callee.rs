//! Whether an address is one that a call returns to.

use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::Address;

/// The longest call instruction: `call *disp32(base,index)`.
const LONGEST: usize = 7;

/// Whether a call instruction ends at `address`; `None` when the code is not to be had.
pub(crate) fn follows_call(address: Address, memory: &dyn Memory) -> Option<bool> {
    let start = address.checked_sub(LONGEST as u64)?;
    let mut code = [0; LONGEST];
    memory.read(start, &mut code).ok()?;
    Some(ends_in_call(&code))
}

/// What the call that ends at `address` calls, if the instruction says so: `call rel32`.
pub(crate) fn called_by(address: Address, memory: &dyn Memory) -> Option<Address> {
    let code: [u8; 5] = memory.read_array(address.checked_sub(5)?).ok()?;
    let [0xe8, distance @ ..] = code else { return None };
    Some(Address(address.0.wrapping_add_signed(i32::from_le_bytes(distance).into())))
}

fn ends_in_call(code: &[u8; LONGEST]) -> bool {
    // `call rel32`.
    if let [_, _, 0xe8, ..] = code {
        return true;
    }
    // `call *…` is ff /2: with a register or [register], disp8, SIB and disp8, disp32, SIB and disp32.
    [2, 3, 4, 6, 7].iter().any(|length| {
        let instruction = code.get(LONGEST - length..).unwrap_or_default();
        matches!(instruction, [0xff, modrm, ..] if modrm & 0x38 == 0x10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_call_is_known() {
        assert!(ends_in_call(&[0x90, 0x90, 0xe8, 1, 2, 3, 4]), "call rel32");
        assert!(ends_in_call(&[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0]), "call *%rax");
        assert!(ends_in_call(&[0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18]), "call *0x18(%rax)");
        assert!(ends_in_call(&[0x90, 0xff, 0x15, 1, 2, 3, 4]), "call *x(%rip)");
        assert!(ends_in_call(&[0xff, 0x94, 0x24, 0, 1, 0, 0]), "call *0x100(%rsp)");
        assert!(!ends_in_call(&[0x90; 7]));
        assert!(!ends_in_call(&[0x90, 0x90, 0xe9, 1, 2, 3, 4]), "jmp rel32");
    }
}
