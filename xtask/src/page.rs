//! The page of measurements, `xtask/MEASUREMENTS.md`: what commands write into it, and what people write around that.
//!
//! A command owns a section, which lies between two markers, and replaces all of it. What is outside of the markers (the
//! reasons why an aim is missed) is written by hand and stays as it is.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The page, as seen from the root of the project.
pub(crate) const PAGE: &str = "xtask/MEASUREMENTS.md";

/// Replaces a section of the page of measurements: all between `<!-- begin NAME … -->` and `<!-- end NAME -->`.
///
/// # Errors
///
/// When the page has no such section, or cannot be written.
pub(crate) fn write_section(root: &Path, name: &str, content: &str) -> Result<()> {
    let path = root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let marks =
        || format!("{PAGE} has no section {name}: it needs the lines <!-- begin {name} --> and <!-- end {name} -->");
    let page = replaced(&page, name, content).with_context(marks)?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// The page with another content of a section; nothing when it has no such section.
fn replaced(page: &str, name: &str, content: &str) -> Option<String> {
    let (before, rest) = page.split_once(&format!("<!-- begin {name} "))?;
    // The rest of the marker's line says which command writes the section.
    let (marker, rest) = rest.split_once('\n')?;
    let (_, after) = rest.split_once(&format!("<!-- end {name} -->"))?;
    let content = content.trim();
    Some(format!("{before}<!-- begin {name} {marker}\n\n{content}\n\n<!-- end {name} -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# Page\n<!-- begin one by x -->\nold\n<!-- end one -->\nby hand\n<!-- begin one-more by y -->\n<!-- end one-more -->\n";

    #[test]
    fn a_section_is_replaced_and_all_else_stays() {
        let page = replaced(TWO, "one", "| new |\n").unwrap();
        assert_eq!(page, TWO.replace("\nold\n", "\n\n| new |\n\n"));
        assert_eq!(replaced(&page, "one", "| new |").unwrap(), page);
    }

    #[test]
    fn a_name_that_begins_like_another_is_told_from_it() {
        let page = replaced(TWO, "one-more", "new").unwrap();
        assert!(page.contains("old"));
        assert!(page.ends_with("by y -->\n\nnew\n\n<!-- end one-more -->\n"));
    }

    #[test]
    fn a_page_without_the_section_is_left_alone() {
        assert_eq!(replaced(TWO, "two", "new"), None);
        assert_eq!(replaced("<!-- begin one by x -->\nwithout an end", "one", "new"), None);
    }

    #[test]
    fn the_page_has_all_sections() {
        let page = fs::read_to_string(crate::root().unwrap().join(PAGE)).unwrap();
        for name in ["compare", "reliability"] {
            assert!(replaced(&page, name, "").is_some(), "{name}");
        }
    }
}
