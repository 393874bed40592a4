//! What a tool printed, looked over for what it had to show: a tool that shows nothing is quick, and no figure of it counts.

use super::targets::Program;
use super::tools::Mode;

/// What of that is missing in the text; nothing when all is there.
pub(crate) fn missing(text: &str, program: &Program, mode: Mode) -> Option<String> {
    let text = without_colours(text);
    let lines = || text.lines().map(str::trim);
    // py-spy and austin print `function (file:line)`, PyStack and pyst `…, in function`.
    let frames = |name: &str| {
        let (begin, end) = (format!("{name} ("), format!(", in {name}"));
        lines().filter(|line| line.starts_with(&begin) || line.ends_with(&end)).count()
    };
    // pyst names the call itself in a line of its own, which is no frame.
    let native = || lines().filter(|line| line.contains("clock_nanosleep") && !line.starts_with("(Kernel)")).count();
    let locals = || lines().filter(|line| line.starts_with("label: ")).count();
    let mut wanted = vec![("Python frames of the innermost function", frames("sleeper"), program.threads)];
    if program.deep > 0 {
        wanted.push(("frames of the recursion", frames("deep"), program.deep));
    }
    if mode.native() {
        wanted.push(("native frames of the system call", native(), program.threads));
    }
    if mode.locals() {
        wanted.push(("values of a local variable", locals(), program.threads));
    }
    let lacks = |(what, found, all): (&str, usize, usize)| (found < all).then(|| format!("{found} of {all} {what}"));
    let lacks: Vec<String> = wanted.into_iter().filter_map(lacks).collect();
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

/// The text without the sequences that set colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::super::targets::{deep, threads};
    use super::*;

    const PYSTACK: &str = "
        (Python) File \"/x.py\", line 3, in sleeper
            sleeper(0)
          Locals:
            label: \"job-0\"
        (C) File \"???\", line 0, in clock_nanosleep (/libc.so.6)
    ";

    #[test]
    fn all_that_was_asked_for_is_there() {
        assert_eq!(missing(PYSTACK, &threads(1), Mode::NativeLocals), None);
        assert_eq!(missing("    sleeper (x.py:3)\n", &threads(1), Mode::Python), None);
        assert_eq!(missing("  \x1b[1;33msleeper\x1b[0m (\x1b[1;36mx.py\x1b[0m:3)\n", &threads(1), Mode::Python), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = missing(PYSTACK, &threads(2), Mode::Python).unwrap();
        assert_eq!(said, "1 of 2 Python frames of the innermost function");
        let said = missing("sleeper (x.py:3)\n(Kernel) clock_nanosleep(1 s left)\n", &deep(5), Mode::Native).unwrap();
        assert_eq!(said, "0 of 3 frames of the recursion, 0 of 1 native frames of the system call");
    }

    #[test]
    fn a_source_line_is_no_frame() {
        assert!(missing("    sleeper(0)\n", &threads(1), Mode::Python).is_some());
    }
}
