//! Strings of the target, which are not always UTF-8.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes as the kernel or a file holds them: a path, an argument, a raw symbol.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// A Python `str`: UTF-8 in which a lone surrogate, which Python allows, is encoded in three bytes as if it were a
/// character ("generalised UTF-8"). File names that are no UTF-8 reach Python as such surrogates (PEP 383).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl Bytes {
    /// The bytes as UTF-8, each byte that is none written `\xNN`, as Python's `backslashreplace` does.
    #[must_use]
    pub fn escaped(&self) -> String {
        escape(&self.0, |_| None)
    }
}

impl Text {
    /// The text as UTF-8, each lone surrogate written `\udcNN` as Python's `backslashreplace` does, and each byte that
    /// belongs to no character `\xNN`.
    #[must_use]
    pub fn escaped(&self) -> String {
        escape(&self.0, surrogate)
    }

    /// The bytes of the path this names, a PEP 383 surrogate (U+DC80 to U+DCFF) turned back into the byte it stands for.
    #[must_use]
    pub fn to_path_bytes(&self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_slice();
        while let Some((&first, tail)) = rest.split_first() {
            match surrogate(rest) {
                Some(unit @ 0xdc80..=0xdcff) => {
                    path.push((unit & 0xff) as u8);
                    rest = rest.get(3..).unwrap_or_default();
                }
                _ => {
                    path.push(first);
                    rest = tail;
                }
            }
        }
        path
    }
}

/// The surrogate that `bytes` starts with in generalised UTF-8 (`ED A0 80` to `ED BF BF`).
fn surrogate(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0xed, high @ 0xa0..=0xbf, low @ 0x80..=0xbf, ..] => {
            Some(0xd000 | u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f))
        }
        _ => None,
    }
}

fn escape(bytes: &[u8], surrogate: impl Fn(&[u8]) -> Option<u16>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, &[][..]),
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), bad)
            }
        };
        text.push_str(valid);
        let Some((&byte, tail)) = bad.split_first() else { return text };
        if let Some(unit) = surrogate(bad) {
            text.push_str(&format!("\\u{unit:04x}"));
            rest = bad.get(3..).unwrap_or_default();
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
            rest = tail;
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{:?}", self.escaped())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.escaped())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Bytes {
        Bytes(text.as_bytes().to_vec())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_utf8_stays_as_it_is() {
        assert_eq!(Text::from("функция 関数 🦀").escaped(), "функция 関数 🦀");
        assert_eq!(Bytes::from("naïve").escaped(), "naïve");
    }

    #[test]
    fn a_lone_surrogate_is_written_as_python_writes_it() {
        // '\udcff' in generalised UTF-8; "a\udcffb".encode("utf-8", "backslashreplace") is b"a\\udcffb".
        let text = Text(b"a\xed\xb3\xbfb".to_vec());
        assert_eq!(text.escaped(), "a\\udcffb");
        assert_eq!(text.to_path_bytes(), b"a\xffb");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_marked() {
        assert_eq!(Bytes(b"caf\xe9/\xed\xb3\xbf".to_vec()).escaped(), "caf\\xe9/\\xed\\xb3\\xbf");
        assert_eq!(Text(b"\xff\xed".to_vec()).escaped(), "\\xff\\xed");
    }
}
