//! Texts that tell a version: `3.11.2` among constants, and `3.11.2 (main, …) [GCC …]`, which is `sys.version`.

/// How many versions of one module are worth trying.
const TEXTS: usize = 8;

/// How long `Py_GetVersion()` may be before its parenthesis opens: `3.14.0 free-threading build (`.
const BEFORE_BUILD: usize = 64;

/// The longest `PY_VERSION` there may be.
const LONGEST: usize = 16;

/// What bytes may follow a text, for it to be whole.
pub(super) const OVERLAP: u64 = 128;

/// Which texts are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string that is a version and nothing else.
    Constant,
    /// What `Py_GetVersion()` has put together while Python started.
    Running,
}

/// Adds the versions in `data` to those that are known already, as `PY_VERSION_HEX`.
pub(super) fn collect(data: &[u8], kind: Kind, versions: &mut Vec<u32>) {
    let before = |at: &usize| at.checked_sub(1).and_then(|before| data.get(before)).copied();
    let starts = |text: &'static [u8]| memchr::memmem::find_iter(data, text);
    let mut places: Vec<usize> = starts(b"3.").chain(starts(b"2.7.")).collect();
    places.retain(|at| matches!((kind, before(at)), (_, Some(0)) | (Kind::Constant, Some(b'/' | b'-' | b' '))));
    // Linkers store a text that ends another one within that: `/opt/python/3.7.16`.
    places.sort_by_key(|at| before(at) != Some(0));
    for at in places {
        let text = data.get(at..).unwrap_or_default();
        let version = match kind {
            Kind::Constant => constant(text),
            Kind::Running => running(text),
        };
        if let Some(version) = version.filter(|version| !versions.contains(version)) {
            versions.push(version);
        }
        if versions.len() >= TEXTS {
            return;
        }
    }
}

fn constant(text: &[u8]) -> Option<u32> {
    let end = text.iter().take(LONGEST).position(|byte| *byte == 0)?;
    version_text(text.get(..end)?)
}

fn running(text: &[u8]) -> Option<u32> {
    let end = text.iter().take(LONGEST).position(|byte| *byte == b' ')?;
    let build = text.get(end..)?.iter().take(BEFORE_BUILD).take_while(|byte| **byte != 0);
    let mut build = build.skip_while(|byte| **byte != b'(');
    build.next()?;
    version_text(text.get(..end)?)
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
pub(super) fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    let in_range = (1..=3).contains(&digits);
    in_range.then(|| (number.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(data: &[u8], kind: Kind) -> Vec<u32> {
        let mut versions = Vec::new();
        collect(data, kind, &mut versions);
        versions
    }

    #[test]
    fn version_texts_read_as_sys_hexversion() {
        assert_eq!(version_text(b"3.11.2"), Some(0x030b_02f0));
        assert_eq!(version_text(b"2.7.18"), Some(0x0207_12f0));
        assert_eq!(version_text(b"3.12.0rc1"), Some(0x030c_00c1));
        assert_eq!(version_text(b"3.13.0+"), Some(0x030d_00f0));
        assert_eq!(version_text(b"2.1.0"), None);
        assert_eq!(version_text(b"3.11"), None);
        assert_eq!(version_text(b"3.40.1.2"), None);
        assert_eq!(version_text(b"3.1234.1"), None);
    }

    #[test]
    fn constants_and_what_python_says_of_itself_are_told_apart() {
        let data = b"x\x003.8.18 (default, Nov 21 2026) \n[GCC 12.2.0]\0/lib/3.40.1\0\x002.7.18\0y3.9.1\0\x003.1";
        assert_eq!(collected(data, Kind::Running), [0x0308_12f0]);
        assert_eq!(collected(data, Kind::Constant), [0x0207_12f0, 0x0328_01f0]);
        let free_threaded = b"\x003.14.0 free-threading build (main, Nov 21 2026)\0";
        assert_eq!(collected(free_threaded, Kind::Running), [0x030e_00f0]);
        assert_eq!(collected(b"\x003.14.0 and no more\0(", Kind::Running), []);
    }
}
