//! The exception that a thread is handling, in the last line of its traceback:
//!
//! ```text
//!     Handling KeyError: 'spam' (raised at File "/srv/app/shop.py", line 7, in price)
//! ```

use super::paint::Paint;
use crate::model::{Exception, PythonState};
use pyst_snapshot::Safe;
use std::io::{self, Write};

/// How many characters of what an exception says a line shows. JSON has more of it.
const WIDTH: usize = 160;

/// Writes those of a thread's states, the innermost first. `several` says of each which interpreter it is in.
pub(super) fn write(states: &[PythonState], several: bool, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    for state in states {
        let Some(exception) = &state.exception else { continue };
        write!(out, "    {}", paint.reason(what(exception)))?;
        if several {
            match state.interpreter_id {
                Some(0) => write!(out, " in the main interpreter")?,
                Some(id) => write!(out, " in interpreter {id}")?,
                None => write!(out, " in interpreter ???")?,
            }
        }
        if let Some(file) = exception.file.as_deref() {
            let file = paint.file(Safe(file));
            let line = paint.line(exception.line.unwrap_or(0));
            let function = paint.function(Safe(exception.function.as_deref().unwrap_or("???")));
            write!(out, " (raised at File \"{file}\", line {line}, in {function})")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Its type, and what it says; where only its class knows what that is, its short form.
fn what(exception: &Exception) -> String {
    let name = Safe(&exception.type_name);
    match (&exception.message, &exception.repr) {
        (Some(message), _) if message.is_empty() => format!("Handling {name}"),
        (Some(message), _) => format!("Handling {name}: {}", shown(message, exception.truncated)),
        (None, Some(repr)) => format!("Handling {name} [{}]", shown(repr, false)),
        (None, None) => format!("Handling {name} [???]"),
    }
}

/// The start of a text. `is_cut` when it was one already.
fn shown(text: &str, is_cut: bool) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", Safe(text.get(..end).unwrap_or_default())),
        None if is_cut && !text.ends_with('…') => format!("{}…", Safe(text)),
        None => Safe(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(message: Option<&str>) -> Exception {
        Exception {
            type_name: "app.Bad".to_owned(),
            message: message.map(str::to_owned),
            repr: Some("Bad(1, 2)".to_owned()),
            truncated: false,
            file: None,
            line: None,
            function: None,
        }
    }

    #[test]
    fn an_exception_has_one_line_of_bounded_length() {
        assert_eq!(what(&exception(Some(""))), "Handling app.Bad");
        assert_eq!(what(&exception(Some("no\nsuch \u{1b}[31mthing"))), "Handling app.Bad: no\\nsuch \\x1b[31mthing");
        assert_eq!(what(&exception(None)), "Handling app.Bad [Bad(1, 2)]");
        assert_eq!(what(&exception(Some(&"é".repeat(5000)))), format!("Handling app.Bad: {}…", "é".repeat(WIDTH)));
        let cut = Exception { truncated: true, ..exception(Some("start")) };
        assert_eq!(what(&cut), "Handling app.Bad: start…");
    }
}
