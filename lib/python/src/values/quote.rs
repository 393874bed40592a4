//! Text and bytes in quotes, as `repr()` writes them.

use super::printable::is_printable;
use std::fmt::Write;

/// How what is in quotes is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Text: characters that can be seen are themselves.
    Text,
    /// Text of Python 2: all but ASCII is escaped.
    AsciiText,
    /// Bytes: all but ASCII is escaped by the byte.
    Bytes,
}

/// `points` in quotes: `"` if there is a `'` in it, and no `"`.
pub(crate) fn quoted(points: impl Iterator<Item = u32> + Clone, style: Style) -> String {
    let has = |quote: char| points.clone().any(|point| point == u32::from(quote));
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    let mut text = String::from(quote);
    for point in points {
        let character = char::from_u32(point);
        match (character, style) {
            (Some('\\'), _) => text.push_str("\\\\"),
            (Some('\n'), _) => text.push_str("\\n"),
            (Some('\r'), _) => text.push_str("\\r"),
            (Some('\t'), _) => text.push_str("\\t"),
            (Some(same), _) if same == quote => text.extend(['\\', quote]),
            (Some(ascii @ ' '..='~'), _) => text.push(ascii),
            (Some(other), Style::Text) if is_printable(point) && point > 0x7f => text.push(other),
            _ => {
                let _ = match point {
                    0..=0xff => write!(text, "\\x{point:02x}"),
                    0x100..=0xffff => write!(text, "\\u{point:04x}"),
                    _ => write!(text, "\\U{point:08x}"),
                };
            }
        }
    }
    text.push(quote);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.11 and 2.7 printed.
    #[test]
    fn quotes_and_escapes_are_pythons() {
        let text = |text: &str, style| quoted(text.chars().map(u32::from), style);
        assert_eq!(text("plain", Style::Text), "'plain'");
        assert_eq!(text("it's", Style::Text), "\"it's\"");
        assert_eq!(text("'\"", Style::Text), "'\\'\"'");
        assert_eq!(text("a\n\r\t\\\0\x7f\u{85}", Style::Text), "'a\\n\\r\\t\\\\\\x00\\x7f\\x85'");
        assert_eq!(text("naïve関🦀\u{200b}", Style::Text), "'naïve関🦀\\u200b'");
        assert_eq!(text("ï関🦀", Style::AsciiText), "'\\xef\\u95a2\\U0001f980'");
        assert_eq!(quoted([0xff, 0x41].into_iter(), Style::Bytes), "'\\xffA'");
        assert_eq!(quoted([0xdcff].into_iter(), Style::Text), "'\\udcff'");
    }
}
