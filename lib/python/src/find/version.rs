//! Which version a runtime is of.

use crate::layout::COOKIE;
use pyst_elf::ElfFile;
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{Module, VersionFoundBy};
use pyst_snapshot::{Address, Svma};

/// A version, and what told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// `PY_VERSION_HEX`; 0xff for a patch release that is not known.
    pub(crate) hex: u32,
    pub(crate) free_threaded: bool,
    pub(crate) found_by: VersionFoundBy,
}

/// How much read-only data is searched for a version text.
const SEARCHED: usize = 64 << 20;

/// How many version texts are tried.
const TEXTS: usize = 8;

/// The versions that the runtime at `runtime` may be of, the likeliest first. Only texts leave more than one.
pub(crate) fn version_of(
    runtime: Address,
    module: &Module,
    file: Option<&ElfFile>,
    memory: &dyn Memory,
) -> Vec<Version> {
    let told = described(runtime, memory).or_else(|| by_symbol(module, file?, memory));
    if let Some(version) = told {
        return vec![version];
    }
    let minor = minor_in_name(&module.path.0);
    let version = |hex, found_by| Version { hex, free_threaded: false, found_by };
    let texts = file.map(texts).unwrap_or_default();
    let fitting = texts.into_iter().filter(|hex| minor.is_none_or(|(major, minor)| hex >> 16 == major << 8 | minor));
    let mut versions: Vec<Version> = fitting.map(|hex| version(hex, VersionFoundBy::TEXT)).collect();
    if let Some((major, minor)) = minor {
        versions.push(version(major << 24 | minor << 16 | 0xfff0, VersionFoundBy::FILE_NAME));
    }
    versions
}

/// 3.13 and later: the cookie, `PY_VERSION_HEX`, `Py_GIL_DISABLED`.
fn described(runtime: Address, memory: &dyn Memory) -> Option<Version> {
    let head = memory.read_array::<24>(runtime).ok()?;
    let rest = head.strip_prefix(COOKIE)?;
    let (hex, rest) = rest.split_first_chunk()?;
    let hex = u32::try_from(u64::from_le_bytes(*hex)).ok()?;
    let free_threaded = rest.first_chunk().map(|flag| u64::from_le_bytes(*flag))? != 0;
    plausible(hex).then_some(Version { hex, free_threaded, found_by: VersionFoundBy::DEBUG_OFFSETS })
}

/// 3.11 and later: `const unsigned long Py_Version`. A core file may lack the page; then the file has it.
fn by_symbol(module: &Module, file: &ElfFile, memory: &dyn Memory) -> Option<Version> {
    let svma = file.symbol_named("Py_Version")?;
    let in_file = || {
        let mut bytes = [0; 8];
        file.read_svma(svma, &mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
    };
    let in_memory = memory.read_u64(svma.to_address(module.bias)).ok();
    let usable = |value: u64| u32::try_from(value).ok().filter(|hex| plausible(*hex));
    let hex = in_memory.and_then(usable).or_else(|| in_file().and_then(usable))?;
    Some(Version { hex, free_threaded: false, found_by: VersionFoundBy::SYMBOL })
}

fn plausible(hex: u32) -> bool {
    let [major, minor, _, level] = hex.to_be_bytes();
    matches!(major, 2 | 3) && minor < 100 && matches!(level >> 4, 0xa | 0xb | 0xc | 0xf)
}

/// `3.11` of `libpython3.11.so.1.0` and `python3.11`.
fn minor_in_name(path: &[u8]) -> Option<(u32, u32)> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let after = name.get(memchr::memmem::find(name, b"python")?.checked_add(6)?..)?;
    let (major, rest) = number(after)?;
    let (minor, _) = number(rest.strip_prefix(b".")?)?;
    (matches!(major, 2 | 3) && minor < 100).then_some((major, minor))
}

/// Texts in the file's read-only data that are a whole Python version: `3.11.2`, `3.12.0rc1`, `3.13.0+`.
fn texts(file: &ElfFile) -> Vec<u32> {
    let Some(svmas) = file.section(".rodata") else { return Vec::new() };
    let length = usize::try_from(svmas.end.0.saturating_sub(svmas.start.0)).unwrap_or(usize::MAX).min(SEARCHED);
    let data = file.bytes_from(Svma(svmas.start.0)).unwrap_or_default();
    let data = data.get(..length).unwrap_or(data);
    let before = |at: usize| at.checked_sub(1).and_then(|before| data.get(before)).copied();
    let starts = |text: &'static [u8]| memchr::memmem::find_iter(data, text);
    let mut places: Vec<usize> = starts(b"3.").chain(starts(b"2.7.")).collect();
    places.retain(|at| before(*at).is_some_and(|byte| matches!(byte, 0 | b'/' | b'-' | b' ')));
    // Linkers store a text that ends another one within that: `/opt/python/3.7.16`.
    places.sort_by_key(|at| before(*at) != Some(0));
    let mut versions = Vec::new();
    for at in places {
        let text = data.get(at..).unwrap_or_default();
        let end = text.iter().take(16).position(|byte| *byte == 0);
        let version = end.and_then(|end| text.get(..end)).and_then(version_text);
        if let Some(version) = version.filter(|version| !versions.contains(version)) {
            versions.push(version);
        }
        if versions.len() >= TEXTS {
            break;
        }
    }
    versions
}

/// `PY_VERSION_HEX` of a `PY_VERSION`.
fn version_text(text: &[u8]) -> Option<u32> {
    let (major, rest) = number(text)?;
    let (minor, rest) = number(rest.strip_prefix(b".")?)?;
    let (patch, rest) = number(rest.strip_prefix(b".")?)?;
    let rest = rest.strip_suffix(b"+").unwrap_or(rest);
    let (level, serial) = match rest {
        [] => (0xf, 0),
        [b'a', serial @ ..] => (0xa, number(serial)?.0),
        [b'b', serial @ ..] => (0xb, number(serial)?.0),
        [b'r', b'c', serial @ ..] => (0xc, number(serial)?.0),
        _ => return None,
    };
    let fits = (major == 3 || (major, minor) == (2, 7)) && minor < 100 && patch < 100 && serial < 16;
    fits.then_some(major << 24 | minor << 16 | patch << 8 | level << 4 | serial)
}

/// The decimal number that `text` starts with, of at most three digits, and what follows it.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    let in_range = (1..=3).contains(&digits);
    in_range.then(|| (number.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_minor_version() {
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.11.so.1.0"), Some((3, 11)));
        assert_eq!(minor_in_name(b"/opt/python3.9/bin/python3.12"), Some((3, 12)));
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.7m.so.1.0"), Some((3, 7)));
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.so"), None);
        assert_eq!(minor_in_name(b"/usr/bin/uwsgi"), None);
    }

    #[test]
    fn version_texts_read_as_sys_hexversion() {
        assert_eq!(version_text(b"3.11.2"), Some(0x030b_02f0));
        assert_eq!(version_text(b"3.12.0rc1"), Some(0x030c_00c1));
        assert_eq!(version_text(b"3.13.0+"), Some(0x030d_00f0));
        assert_eq!(version_text(b"2.7.18"), Some(0x0207_12f0));
        assert_eq!(version_text(b"2.1.0"), None);
        assert_eq!(version_text(b"3.11"), None);
        assert_eq!(version_text(b"3.40.1.2"), None);
        assert_eq!(version_text(b"3.1234.1"), None);
    }
}
