//! The variable that a function returns, from the function's code: `return interp_head;`.
//!
//! Such a function is the one trace that a stripped library of before 3.7 has of a variable it does not export. Compilers
//! write it in a handful of ways; any other code is left alone.

use pyst_elf::ElfFile;
use pyst_snapshot::Svma;

const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// The longest form.
const LONGEST: usize = 24;

/// The svma of the variable whose value the function at `function` returns.
pub(super) fn variable_returned_by(file: &ElfFile, function: Svma) -> Option<Svma> {
    let mut code = [0; LONGEST];
    let code = match file.read_svma(function, &mut code) {
        Ok(()) => &code[..],
        // The last function of its segment.
        Err(_) => file.bytes_from(function)?,
    };
    match file.machine() {
        X86_64 => x86_64(code, function.0).map(Svma),
        AARCH64 => aarch64(code, function.0).map(Svma),
        _ => None,
    }
}

/// `mov rax, [rip + displacement]; ret`, perhaps after `endbr64`, and with a frame pointer in builds without optimization.
fn x86_64(code: &[u8], start: u64) -> Option<u64> {
    const ENDBR64: &[u8] = b"\xf3\x0f\x1e\xfa";
    const PUSH_FRAME: &[u8] = b"\x55\x48\x89\xe5";
    const LOAD: &[u8] = b"\x48\x8b\x05";
    let rest = code.strip_prefix(ENDBR64).unwrap_or(code);
    let framed = rest.strip_prefix(PUSH_FRAME);
    let rest = framed.unwrap_or(rest).strip_prefix(LOAD)?;
    let (displacement, rest) = rest.split_first_chunk()?;
    let returns = if framed.is_some() { rest.starts_with(b"\x5d\xc3") } else { rest.starts_with(b"\xc3") };
    let next = start.wrapping_add(code.len().checked_sub(rest.len())? as u64);
    returns.then(|| next.wrapping_add_signed(i32::from_le_bytes(*displacement).into()))
}

/// `adrp x0, page; ldr x0, [x0, #offset]; ret`, perhaps after `bti c`.
fn aarch64(code: &[u8], start: u64) -> Option<u64> {
    const BTI_C: u32 = 0xd503_245f;
    const RET: u32 = 0xd65f_03c0;
    let (words, _) = code.as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word)).peekable();
    let skipped = words.next_if_eq(&BTI_C).map_or(0, |_| 4);
    let (page, load, back) = (words.next()?, words.next()?, words.next()?);
    let loads = page & 0x9f00_001f == 0x9000_0000 && load & 0xffc0_03ff == 0xf940_0000 && back == RET;
    let pages = (page >> 5 & 0x7_ffff) << 2 | page >> 29 & 3;
    // Twenty-one bits, the highest of which is the sign.
    let pages = i64::from((pages << 11).cast_signed() >> 11);
    let offset = u64::from(load >> 10 & 0xfff) * 8;
    let here = start.wrapping_add(skipped) & !0xfff;
    loads.then(|| here.wrapping_add_signed(pages << 12).wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As gcc 12 writes it with -O2, with -fcf-protection, and with -O0; the variable's place is objdump's.
    #[test]
    fn the_forms_of_compilers_are_read() {
        assert_eq!(x86_64(b"\x48\x8b\x05\x10\x00\x00\x00\xc3\x90", 0x1000), Some(0x1017));
        assert_eq!(x86_64(b"\xf3\x0f\x1e\xfa\x48\x8b\x05\xf5\xff\xff\xff\xc3", 0x1000), Some(0x1000));
        assert_eq!(x86_64(b"\x55\x48\x89\xe5\x48\x8b\x05\x00\x01\x00\x00\x5d\xc3", 0x1000), Some(0x110b));
        // adrp x0, 11000 <head>; ldr x0, [x0, #24]; ret, at 0x1000.
        let words = [0x9000_0080_u32, 0xf940_0c00, 0xd65f_03c0];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(aarch64(&code, 0x1000), Some(0x1_1018));
        let back = [0xd503_245f_u32, 0xf0ff_ffe0, 0xf940_0000, 0xd65f_03c0];
        let code: Vec<u8> = back.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(aarch64(&code, 0x5000), Some(0x4000));
    }

    #[test]
    fn other_code_is_left_alone() {
        // Since 3.7: the address of the runtime, and a field of it.
        assert_eq!(x86_64(b"\x48\x8d\x05\x10\x00\x00\x00\x48\x8b\x40\x18\xc3", 0x1000), None);
        assert_eq!(x86_64(b"\x48\x8b\x05\x10\x00\x00\x00\x48\x8b\x40\x18\xc3", 0x1000), None);
        assert_eq!(x86_64(b"\x48\x8b\x05\x10", 0x1000), None);
        assert_eq!(x86_64(b"", 0), None);
        assert_eq!(aarch64(b"\0\0\0\0\0\0\0\0\0\0\0\0", 0), None);
        assert_eq!(aarch64(b"\xc0\x03\x5f\xd6", 0), None);
    }
}
