//! The few colours of text output; without colour not one escape sequence is written.

use anstyle::{AnsiColor, Style};
use std::fmt::{self, Display, Formatter};

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
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}
