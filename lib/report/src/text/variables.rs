//! Arguments and locals of a frame, in the shape that PyStack prints:
//!
//! ```text
//!       Arguments:
//!         price: Decimal(…)
//!       Locals:
//!         total: 12
//! ```

use super::paint::Paint;
use crate::model::{PythonFrame, Variable};
use pyst_snapshot::Safe;
use std::io::{self, Write};

/// How many characters of a value a line shows: a value has one line. JSON has more of it.
const WIDTH: usize = 160;

/// Writes them, if the frame has any.
pub(super) fn write(frame: &PythonFrame, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    write_list("Arguments", frame.arguments.as_deref().unwrap_or_default(), paint, out)?;
    write_list("Locals", frame.locals.as_deref().unwrap_or_default(), paint, out)?;
    if frame.variables_lost {
        return writeln!(out, "      {}", paint.note("[arguments and locals: not read]"));
    }
    match frame.variables_left_out {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "        {}", paint.note(format_args!("[{more} more variables]"))),
    }
}

fn write_list(title: &str, variables: &[Variable], paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    if variables.is_empty() {
        return Ok(());
    }
    writeln!(out, "      {title}:")?;
    for variable in variables {
        let name = Safe(&variable.name);
        match (&variable.repr, &variable.absent) {
            (Some(repr), _) => writeln!(out, "        {name}: {}", Safe(&cut(repr)))?,
            (None, Some(why)) => {
                writeln!(out, "        {name}: {}", paint.note(format_args!("[{}]", why.0.name())))?;
            }
            (None, None) => writeln!(out, "        {name}: ???")?,
        }
    }
    Ok(())
}

fn cut(repr: &str) -> String {
    match repr.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", repr.get(..end).unwrap_or_default()),
        None => repr.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_line_of_bounded_length() {
        assert_eq!(cut("[1, 2]"), "[1, 2]");
        let long = "é".repeat(1000);
        assert_eq!(cut(&long).chars().count(), WIDTH + 1);
    }
}
