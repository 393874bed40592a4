//! The few colours of text output; without colour not one escape sequence is written.

use anstyle::{AnsiColor, Style};
use pyst_snapshot::{Safe, first_unsafe};
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

/// Whether and how to colour.
pub(super) struct Paint {
    pub(super) color: bool,
}

impl Paint {
    pub(super) fn header<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(Style::new().bold(), text)
    }

    pub(super) fn file<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Cyan.on_default(), text)
    }

    pub(super) fn line<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Blue.on_default(), text)
    }

    pub(super) fn function<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    pub(super) fn reason<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Red.on_default(), text)
    }

    pub(super) fn note<T: Display>(&self, text: T) -> Painted<T> {
        self.paint(Style::new().dimmed(), text)
    }

    fn paint<T: Display>(&self, style: Style, text: T) -> Painted<T> {
        Painted { style: if self.color { style } else { Style::new() }, text }
    }
}

/// Text in a style; the plain style writes nothing around it.
pub(super) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.style.is_plain() {
            return self.text.fmt(f);
        }
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}

/// What most of a report consists of, names and paths, written without the detour over a formatter where nothing is to be
/// painted or escaped.
pub(super) trait WriteTo {
    fn write_to(&self, out: &mut impl Write) -> io::Result<()>;
}

impl WriteTo for Safe<'_> {
    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match first_unsafe(self.0) {
            None => out.write_all(self.0.as_bytes()),
            Some(_) => write!(out, "{self}"),
        }
    }
}

impl WriteTo for u32 {
    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut digits = [0; 10];
        let (mut rest, mut start) = (*self, digits.len());
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            start -= 1;
            if rest == 0 {
                break;
            }
        }
        out.write_all(digits.get(start..).unwrap_or_default())
    }
}

impl<T: WriteTo + Display> WriteTo for Painted<T> {
    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        if self.style.is_plain() { self.text.write_to(out) } else { write!(out, "{self}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(what: &impl WriteTo) -> String {
        let mut out = Vec::new();
        what.write_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_written_is_what_would_be_formatted() {
        for number in [0, 1, 9, 10, 99, 100, 4711, 999_999_999, 1_000_000_000, u32::MAX] {
            assert_eq!(written(&number), number.to_string());
        }
        for color in [false, true] {
            for text in ["", "plain", "naïve", "a\x1b[2Jb", "\u{202e}"] {
                let painted = Paint { color }.file(Safe(text));
                assert_eq!(written(&painted), painted.to_string());
                assert_eq!(written(&painted).contains('\x1b'), color);
            }
        }
    }
}
