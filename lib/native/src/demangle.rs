//! The name of a function as its programmer knows it.

use cpp_demangle::{BorrowedSymbol, DemangleOptions};
use std::fmt::Write;

/// Longer symbols are shown as they are.
const MAX_SYMBOL: usize = 4096;

/// Longer names are not built: a few bytes of substitutions can stand for gigabytes.
const MAX_NAME: usize = 16 << 10;

/// The name to show for a symbol: that of Rust or C++ which it encodes, or the symbol without its version.
pub(crate) fn demangle(symbol: &[u8]) -> Vec<u8> {
    let symbol = without_version(symbol);
    let known = || rust(symbol).or_else(|| thunk(symbol)).or_else(|| cpp(symbol));
    let demangled = (symbol.len() <= MAX_SYMBOL).then(known).flatten();
    demangled.map_or_else(|| symbol.to_vec(), String::into_bytes)
}

/// `.symtab` has `clock_nanosleep@@GLIBC_2.17` where `.dynsym` keeps the version apart.
fn without_version(symbol: &[u8]) -> &[u8] {
    match symbol.iter().position(|byte| *byte == b'@') {
        Some(at) if at > 0 => symbol.get(..at).unwrap_or(symbol),
        _ => symbol,
    }
}

/// Rust comes first: its legacy mangling is C++'s with a hash, which C++ would show.
fn rust(symbol: &[u8]) -> Option<String> {
    let symbol = std::str::from_utf8(symbol).ok()?;
    if !(symbol.starts_with("_R") || symbol.starts_with("_ZN")) {
        return None;
    }
    let name = rustc_demangle::try_demangle(symbol).ok()?;
    let mut out = Bounded::default();
    write!(out, "{name:#}").ok()?;
    Some(out.0)
}

/// What a virtual call goes through when the object is not where the method expects it: `_ZThn16_` or `_ZTv0_n24_` before
/// the method's own encoding. cpp_demangle writes these in a notation of its own.
fn thunk(symbol: &[u8]) -> Option<String> {
    let (kind, offsets, rest) = match symbol {
        [b'_', b'Z', b'T', b'h', rest @ ..] => ("non-virtual", 1, rest),
        [b'_', b'Z', b'T', b'v', rest @ ..] => ("virtual", 2, rest),
        _ => return None,
    };
    let encoding = rest.splitn(offsets + 1, |byte| *byte == b'_').nth(offsets)?;
    let method = cpp(&[b"_Z", encoding].concat())?;
    Some(format!("{kind} thunk to {method}"))
}

fn cpp(symbol: &[u8]) -> Option<String> {
    if !(symbol.starts_with(b"_Z") || symbol.starts_with(b"_GLOBAL_")) {
        return None;
    }
    let (parsed, rest) = BorrowedSymbol::with_tail(symbol).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut out = Bounded::default();
    parsed.structured_demangle(&mut out, &DemangleOptions::default()).ok()?;
    Some(out.0)
}

/// A string that refuses to become longer than [`MAX_NAME`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_NAME {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(symbol: &str) -> String {
        String::from_utf8(demangle(symbol.as_bytes())).unwrap()
    }

    #[test]
    fn c_names_stay_as_they_are_without_their_version() {
        assert_eq!(name("_PyEval_EvalFrameDefault"), "_PyEval_EvalFrameDefault");
        assert_eq!(name("clock_nanosleep@@GLIBC_2.17"), "clock_nanosleep");
        assert_eq!(name("memcpy@GLIBC_2.2.5"), "memcpy");
        assert_eq!(name("builtin_eval.constprop.0"), "builtin_eval.constprop.0");
        assert_eq!(name("_PyEval_EvalFrameDefault.cold"), "_PyEval_EvalFrameDefault.cold");
        assert_eq!(name("@"), "@");
        assert_eq!(demangle(b"\xff_Z"), b"\xff_Z");
    }

    #[test]
    fn rust_names_lose_their_hash() {
        assert_eq!(name("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(name("_RNvC6_123foo3bar"), "123foo::bar");
    }

    #[test]
    fn symbols_that_stand_for_endless_names_stay_as_they_are() {
        let mut bomb = String::from("_Z1fI");
        for _ in 0..40 {
            bomb.push_str("St4pairI");
        }
        assert_eq!(name(&bomb), bomb);
        // Each level doubles: 2^24 names.
        let doubling = format!(
            "_Z1fSt4pairIiiE{}",
            (0..24)
                .map(|i| {
                    let base36 = |i: u32| char::from_digit(i, 36).unwrap().to_ascii_uppercase();
                    format!("St4pairIS{0}_S{0}_E", base36(i))
                })
                .collect::<String>()
        );
        assert!(name(&doubling).len() <= MAX_NAME);
        let long = format!("_Z{}", "a".repeat(MAX_SYMBOL));
        assert_eq!(name(&long), long);
    }

    #[test]
    fn cpp_names_are_those_of_cxxfilt() {
        use std::process::Command;
        let symbols = [
            "_ZNSt6vectorIiSaIiEE9push_backERKi",
            "_ZN12_GLOBAL__N_13fooEv",
            "_ZNK3foo3barIiEEiT_",
            "_ZTv0_n24_N3foo3barEv",
            "_ZThn16_N3foo3barEi",
            "_ZN3foo3barEv.cold",
            "_ZZ4mainENKUlvE_clEv",
        ];
        let Ok(output) = Command::new("c++filt").args(symbols).output() else {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: no c++filt\n"));
            return;
        };
        let expected = String::from_utf8(output.stdout).unwrap();
        for (symbol, expected) in symbols.iter().zip(expected.lines()) {
            // The two lay out spaces and closures differently.
            let plain = |name: &str| name.replace(' ', "").replace("{lambda()#1}", "");
            println!("{symbol}: {} / {expected}", name(symbol));
            assert_eq!(plain(&name(symbol)), plain(expected));
        }
    }
}
