//! The line of an svma, and the paths of source files.

use super::budget::Budget;
use super::functions::within;
use super::{Slice, cut, slice};
use gimli::{Reader as _, UnitRef};
use pyst_snapshot::Svma;

/// A file, by its number, and a line in it.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) file: u64,
    pub(super) line: Option<u32>,
}

/// The line of each svma. They are ascending.
pub(super) fn lines_at(unit: UnitRef<'_, Slice<'_>>, svmas: &[Svma], budget: &Budget) -> Vec<Option<Line>> {
    let mut found = vec![None; svmas.len()];
    let _ = run(unit, svmas, budget, &mut found);
    found
}

/// Whether a line program, which `bytes` start with, has anything behind its header.
pub(super) fn has_rows(bytes: &[u8]) -> bool {
    let behind = |bytes: &[u8]| {
        let mut rest = slice(bytes);
        let (length, format) = rest.read_initial_length()?;
        let mut program = rest.split(length.min(rest.len()))?;
        // DWARF 5 has the sizes of addresses and selectors before the length of the header.
        if program.read_u16()? >= 5 {
            program.skip(2)?;
        }
        let header = program.read_length(format)?;
        program.skip(header)?;
        gimli::Result::Ok(!program.is_empty())
    };
    behind(bytes).unwrap_or(false)
}

/// `None` where the program ended early.
fn run(unit: UnitRef<'_, Slice<'_>>, svmas: &[Svma], budget: &Budget, found: &mut [Option<Line>]) -> Option<()> {
    let program = unit.line_program.clone()?;
    budget.spend(program.header().raw_program_buf().len())?;
    let mut rows = program.rows();
    // Where the last row starts, and what it says; it holds up to the next.
    let mut last: Option<(u64, Line)> = None;
    // The first svma from there on.
    let mut next = u64::MAX;
    while let Some((_, row)) = rows.next_row().ok()? {
        if let Some((start, line)) = last
            && next < row.address()
        {
            let indexes = within(svmas, start, row.address());
            budget.spend(indexes.len())?;
            for found in found.get_mut(indexes).unwrap_or_default() {
                found.get_or_insert(line);
            }
        }
        // Rows ascend by little, mostly to before the same svma.
        let stays = last.is_some_and(|(start, _)| start <= row.address()) && row.address() <= next;
        if !stays {
            let from = svmas.partition_point(|svma| svma.0 < row.address());
            next = svmas.get(from).map_or(u64::MAX, |svma| svma.0);
        }
        let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
        last = (!row.end_sequence()).then(|| (row.address(), Line { file: row.file_index(), line }));
    }
    Some(())
}

/// The path of a source file: its name, below its folder, below the folder that the compiler ran in.
pub(super) fn path_of(unit: UnitRef<'_, Slice<'_>>, file: u64) -> Option<Vec<u8>> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(file)?;
    let mut path = unit.comp_dir.map(|folder| cut(folder.slice())).unwrap_or_default();
    // Folder 0 is the one that the compiler ran in.
    let folder = (file.directory_index() != 0).then(|| file.directory(header)).flatten();
    for part in folder.into_iter().chain([file.path_name()]) {
        let part = unit.attr_string(part).ok()?.slice();
        if part.starts_with(b"/") {
            path.clear();
        } else if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend(cut(part));
    }
    Some(cut(&path))
}
