//! Strings of the target on their way to people: nothing in them may drive a terminal, forge a line, or reorder one.

use std::fmt::{self, Display, Formatter};

/// A string with everything that is not plainly visible written as an escape: `\n`, `\x1b`, `\u202e`.
#[derive(Clone, Copy, Debug)]
pub struct Safe<'a>(pub &'a str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, character)) = first_unsafe(rest) {
            let (plain, tail) = rest.split_at(at);
            f.write_str(plain)?;
            let code = u32::from(character);
            match character {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if code <= 0xff => write!(f, "\\x{code:02x}")?,
                _ if code <= 0xffff => write!(f, "\\u{code:04x}")?,
                _ => write!(f, "\\U{code:08x}")?,
            }
            rest = tail.get(character.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

/// The first character that [`is_unsafe`], and where it is. What a report is full of, plain ASCII, costs little.
#[must_use]
pub fn first_unsafe(text: &str) -> Option<(usize, char)> {
    let plain = first_not_plain(text.as_bytes())?;
    let mut others = text.get(plain..)?.char_indices();
    others.find(|(_, character)| is_unsafe(*character)).map(|(at, character)| (plain + at, character))
}

/// Where the first byte is that is not of plain ASCII. By blocks without a branch inside, which compilers make few
/// instructions of.
fn first_not_plain(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 16;
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~');
    let is_whole = |block: &&[u8; BLOCK]| block.iter().fold(true, |plain, byte| plain & is_plain(byte));
    let start = bytes.as_chunks().0.iter().take_while(is_whole).count() * BLOCK;
    let rest = bytes.get(start..).unwrap_or_default();
    rest.iter().position(|byte| !is_plain(byte)).map(|at| start + at)
}

/// Whether a character drives terminals, forges or reorders lines, or cannot be seen.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Invisible: soft hyphen, combining grapheme joiner, zero-width and word joiners, fillers, byte order mark.
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            // Direction: marks, embeddings, overrides, isolates, and the deprecated format characters.
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2065}'..='\u{206f}'
            // Line and paragraph separators, interlinear annotations, tags.
            | '\u{2028}' | '\u{2029}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_written_as_an_escape() {
        for (hostile, expected) in [
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nTraceback", "a\\nTraceback"),
            ("\u{7}\u{8}\u{7f}\r\t\0", "\\x07\\x08\\x7f\\r\\t\\x00"),
            ("\u{9b}31m\u{85}", "\\x9b31m\\x85"),
            ("\u{202e}gpj.exe\u{2066}", "\\u202egpj.exe\\u2066"),
            ("a\u{2028}b\u{2029}c\u{200b}\u{feff}", "a\\u2028b\\u2029c\\u200b\\ufeff"),
            ("\u{e0041}", "\\U000e0041"),
        ] {
            assert_eq!(Safe(hostile).to_string(), expected);
        }
    }

    #[test]
    fn an_escape_is_found_wherever_it_is() {
        for length in [1, 15, 16, 17, 31, 32, 33, 100] {
            let plain = "~ plain!".chars().cycle().take(length).collect::<String>();
            assert_eq!(first_unsafe(&plain), None);
            for at in 0..length {
                let mut text = plain.clone();
                text.replace_range(at..=at, "\x1b");
                assert_eq!(first_unsafe(&text), Some((at, '\x1b')));
                text.replace_range(at..=at, "é");
                assert_eq!(first_unsafe(&text), None);
                text.push('\x7f');
                assert_eq!(first_unsafe(&text), Some((length + 1, '\x7f')));
            }
        }
    }

    #[test]
    fn letters_of_any_script_stay() {
        for text in ["функция 関数 🦀 naïve", "/tmp/a b\\c\"", "नमस्ते", "עברית"] {
            assert_eq!(Safe(text).to_string(), text);
        }
    }

    #[test]
    fn no_character_of_a_terminal_or_of_a_line_gets_through() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            let shown = Safe(&character.to_string()).to_string();
            assert!(
                !shown
                    .chars()
                    .any(|c| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
            );
        }
    }
}
