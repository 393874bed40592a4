//! The bound on each string of a report: a target may make its names as long as it likes.

/// The most bytes of a name or a source line that are shown. A frame takes some 50 bytes of a snapshot and names its
/// function by number: without a limit a small snapshot could ask for terabytes of output.
pub(crate) const MAX_TEXT: usize = 4096;

/// Cuts a text that is too long to be shown, and says whether it was.
pub(crate) fn cut(text: &mut String) -> bool {
    let is_long = text.len() > MAX_TEXT;
    if is_long {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    is_long
}

/// The text, cut if it is too long.
pub(crate) fn shortened(mut text: String) -> String {
    cut(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis_between_two_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        // The limit falls into the middle of a character.
        let long = shortened(format!("x{}", "é".repeat(MAX_TEXT)));
        assert_eq!(long.strip_suffix('…').map(str::len), Some(MAX_TEXT - 1));
    }
}
