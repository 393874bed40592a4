//! What speaks for caution about a layout: a version that no table is of, fields that a build has elsewhere than others of
//! its version, and what its states say that the process does not.

use crate::layout::Layout;
use pyst_snapshot::Ident;
use pyst_snapshot::payload::{Diagnostic, FoundRuntime, LayoutSource, Python, Severity, Thread, VersionFoundBy};

/// All there is to say of the layout that a walk went by.
pub(crate) fn doubts(
    runtime: &FoundRuntime,
    layout: &Layout,
    python: &Python,
    threads: &[Thread],
) -> impl Iterator<Item = Diagnostic> {
    let of_layout = [of_version(runtime, layout), of_description(runtime, layout), of_moved(runtime, layout)];
    of_layout.into_iter().chain([of_idents(runtime, python, threads)]).flatten()
}

/// The version is not one of those that the table is known to be right for.
fn of_version(runtime: &FoundRuntime, layout: &Layout) -> Option<Diagnostic> {
    if layout.table.is_of(runtime.version_hex) {
        return None;
    }
    let (version, name) = (runtime.version(), layout.table.name);
    let own_description = layout.source == LayoutSource::SELF_DESCRIBED;
    let diagnostic = |severity, code, message| Some(Diagnostic::new(severity, code, message));
    if !layout.table.is_of_minor(runtime.version_hex) {
        let message = format!(
            "Python {version} is newer than what this version of pyst knows; it was read by what it says of itself, and by \
             the layout of {name} where that says nothing. What was found fits together; a newer pyst may tell more."
        );
        return diagnostic(Severity::WARNING, "python-version-new", message);
    }
    if own_description {
        let message = format!(
            "This very release of Python, {version}, is not known to pyst; it was read by what it says of itself, and by \
             the layout of {name} where that says nothing."
        );
        return diagnostic(Severity::INFO, "python-layout-nearest", message);
    }
    let message = format!(
        "This very release of Python, {version}, is not known to pyst; it was read by the nearest layout, that of {name}, \
         which fits what was found."
    );
    // Where not even the release is known, its number is no reason for doubt.
    let severity = if runtime.has_patch() { Severity::WARNING } else { Severity::INFO };
    diagnostic(severity, "python-layout-nearest", message)
}

/// The process describes itself, and not so that it could be believed. One that could be when the runtime was found, and cannot any
/// more, was lost with the runtime beside it, which is said of that.
fn of_description(runtime: &FoundRuntime, layout: &Layout) -> Option<Diagnostic> {
    let describes_itself = runtime.version_found_by == VersionFoundBy::DEBUG_OFFSETS;
    let was_believed = [runtime.layout_source, layout.source].contains(&LayoutSource::SELF_DESCRIBED);
    if !describes_itself || was_believed {
        return None;
    }
    let message = format!(
        "What Python {} says of its own layout cannot be; it was read by the layout of {}, which fits what was found.",
        runtime.version(),
        layout.table.name,
    );
    Some(Diagnostic::new(Severity::WARNING, "python-description-unusable", message))
}

/// The process says of itself that fields are elsewhere than in other builds of the same version: its distributor has
/// patched it. What it says is right, but of the fields that it says nothing about some may have moved too.
fn of_moved(runtime: &FoundRuntime, layout: &Layout) -> Option<Diagnostic> {
    let moved = layout.moved();
    if moved.is_empty() || !layout.table.is_of(runtime.version_hex) {
        return None;
    }
    let message = format!(
        "This build of Python {} has fields elsewhere than others of its version: {}. It was read by what it says of itself.",
        runtime.version(),
        moved.join(", "),
    );
    Some(Diagnostic::new(Severity::WARNING, "python-fields-moved", message))
}

/// The idents of thread states are what `pthread_self()` returns, and so the thread pointers of the process's threads. Where
/// none is, the field is elsewhere.
fn of_idents(runtime: &FoundRuntime, python: &Python, threads: &[Thread]) -> Option<Diagnostic> {
    let pointers: Vec<u64> =
        threads.iter().filter_map(|thread| Some(thread.registers.as_ref()?.thread_pointer?.0)).collect();
    let is_thread = |ident: Ident| pointers.contains(&ident.0);
    let mut running = python.states.iter().filter(|state| !state.frames.is_empty()).peekable();
    // Without all threads' registers, those of the states may be among the ones that are missing.
    let all_known = !threads.is_empty() && pointers.len() == threads.len();
    if !all_known || running.peek().is_none() || running.any(|state| is_thread(state.ident)) {
        return None;
    }
    let message = format!(
        "None of the thread idents that were found is of a thread of the process: this build of Python {} may have them \
         elsewhere than others. Which thread runs which frames was told by other traces, where there are any.",
        runtime.version(),
    );
    Some(Diagnostic::new(Severity::WARNING, "python-idents-unknown", message))
}

#[cfg(test)]
mod tests;
