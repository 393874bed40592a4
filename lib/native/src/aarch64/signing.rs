//! CFI that tells whether a return address is signed, where the library that evaluates CFI knows nothing of it.
//!
//! Signatures are taken off by the mask, whether or not CFI says that there is one, so what CFI says of them is passed over. Left as
//! they are, these instructions would make all that the entry says unusable. Compilers write them from 2024 on.

/// `DW_CFA_AARCH64_set_ra_state`: the state, and the place of the instruction that signed, relative to this.
const SET: u8 = 0x2b;
/// `DW_CFA_AARCH64_negate_ra_state_with_pc`.
const NEGATE_WITH_PLACE: u8 = 0x2c;
/// `DW_CFA_AARCH64_negate_ra_state`, which is known, but not after rules of another kind.
const NEGATE: u8 = 0x2d;
const NOP: u8 = 0;

/// Blanks what `entry`, a CIE or an FDE whole, says of signatures in its instructions. `instructions` is where they start. What comes
/// after an instruction that is not known stays as it is.
pub(crate) fn pass_over_signing(entry: &mut [u8], instructions: usize) {
    let Some(mut rest) = entry.get_mut(instructions..) else { return };
    while let Some(length) = length_of_first(rest) {
        let (first, after) = rest.split_at_mut(length);
        if matches!(first, [SET | NEGATE_WITH_PLACE | NEGATE, ..]) {
            first.fill(NOP);
        }
        rest = after;
    }
}

/// How an operand is written.
#[derive(Clone, Copy)]
enum Operand {
    Bytes(usize),
    Leb128,
    /// A length, and that many bytes.
    Block,
}
use Operand::{Block, Bytes, Leb128};

/// How long the first instruction is, with its operands. (DWARF 5, 6.4.2 and 7.24; `set_loc`, whose operand's size the CIE tells, is
/// written by no compiler.)
fn length_of_first(code: &[u8]) -> Option<usize> {
    let opcode = *code.first()?;
    let operands: &[Operand] = match opcode {
        // advance_loc, restore.
        0x40..=0x7f | 0xc0..=0xff => &[],
        // offset.
        0x80..=0xbf => &[Leb128],
        // nop, remember_state, restore_state; GNU_window_save.
        NOP | 0x0a | 0x0b | NEGATE_WITH_PLACE | NEGATE => &[],
        // advance_loc1, 2, 4.
        0x02 => &[Bytes(1)],
        0x03 => &[Bytes(2)],
        0x04 => &[Bytes(4)],
        // restore_extended, undefined, same_value, def_cfa_register, def_cfa_offset, def_cfa_offset_sf, GNU_args_size.
        0x06..=0x08 | 0x0d | 0x0e | 0x13 | 0x2e => &[Leb128],
        // offset_extended, register, def_cfa, offset_extended_sf, def_cfa_sf, val_offset, val_offset_sf.
        0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15 | SET => &[Leb128, Leb128],
        // def_cfa_expression; expression, val_expression.
        0x0f => &[Block],
        0x10 | 0x16 => &[Leb128, Block],
        _ => return None,
    };
    let mut at = 1usize;
    for operand in operands {
        at = match operand {
            Bytes(length) => at.checked_add(*length)?,
            Leb128 => leb128(code, at)?.1,
            Block => {
                let (length, start) = leb128(code, at)?;
                start.checked_add(usize::try_from(length).ok()?)?
            }
        };
    }
    (at <= code.len()).then_some(at)
}

/// The number at `at`, as an unsigned one, and where it ends.
fn leb128(code: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in code.get(at..)?.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * index).ok()?).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value, at.checked_add(index + 1)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_over(code: &[u8]) -> Vec<u8> {
        let mut entry = [&[0x2c; 3], code].concat();
        pass_over_signing(&mut entry, 3);
        assert_eq!(entry[..3], [0x2c; 3], "what comes before is no instruction");
        entry[3..].to_vec()
    }

    #[test]
    fn what_is_said_of_signatures_is_blanked_and_nothing_else() {
        // advance_loc 4; negate with place; def_cfa_offset 32; offset x29; set the state, from 4 instructions before.
        let code = [0x41, 0x2c, 0x0e, 0x20, 0x9d, 0x04, 0x2b, 0x01, 0x7c, 0x42, 0x2d];
        assert_eq!(passed_over(&code), [0x41, 0, 0x0e, 0x20, 0x9d, 0x04, 0, 0, 0, 0x42, 0]);
        // Operands that look like it.
        for code in [
            &[0x0e, 0x2c, 0x0c, 0x2c, 0x2d, 0x02, 0x2c, 0x03, 0x2b, 0x2c][..],
            &[0x04, 0x2c, 0x2c, 0x2c, 0x2c, 0x10, 0x1e, 0x02, 0x2c, 0x2d],
            &[0x0f, 0x03, 0x2b, 0x2c, 0x2d, 0x16, 0x2c, 0x01, 0x2c, 0x0a],
            &[0x05, 0xac, 0x2c, 0x2c, 0xac, 0x2c, 0x0b],
        ] {
            assert_eq!(passed_over(code), code);
        }
    }

    #[test]
    fn what_does_not_parse_stays_as_it_is() {
        for code in [
            // An unknown instruction, and set_loc.
            &[0x3f, 0x2c][..],
            &[0x01, 0x2c],
            // Cut off.
            &[0x0e],
            &[0x0e, 0x80],
            &[0x04, 1, 2, 0x2c],
            &[0x2b, 1],
            // A block that is longer than anything.
            &[0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x2c],
            &[0x0f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x2c],
            &[],
        ] {
            assert_eq!(passed_over(code), code);
        }
        pass_over_signing(&mut [], 3);
    }
}
