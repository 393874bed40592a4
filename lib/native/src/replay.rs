//! Unwinds from a snapshot alone.

use crate::walk::{Evidence, Unwound, unwind_each};
use pyst_elf::{Fallback, Files, ModuleTable, RecordedFiles};
use pyst_memory::Image;
use pyst_snapshot::payload::{Capture, Diagnostic, Maps, Modules, Native, NativeStack, Severity, Threads};
use pyst_snapshot::{Payload, PayloadError, SectionKind, Snapshot};

/// The sections of a snapshot that unwinding reads, [`RecordedFiles`] with it.
pub const SECTIONS_READ: [SectionKind; 8] = [
    SectionKind::CAPTURE,
    SectionKind::THREADS,
    SectionKind::MAPS,
    SectionKind::MODULES,
    SectionKind::UNWIND,
    SectionKind::SYMBOLS,
    SectionKind::CALLS,
    SectionKind::MEMORY,
];

/// The native stacks of a snapshot. Questions that it has no answer to go to `local` files, if there are any.
pub fn unwind_from_snapshot(snapshot: &Snapshot, local: Option<&dyn Files>) -> (Native, Vec<Diagnostic>) {
    let mut stacks = Vec::new();
    let (mut native, diagnostics) = unwind_each_from_snapshot(snapshot, local, &mut |stack, _| stacks.push(stack));
    stacks.sort_by_key(|stack| stack.tid);
    native.stacks = stacks;
    (native, diagnostics)
}

/// The same, with each stack given away as soon as it is known, in the order of the threads, and what its numbers stand for.
/// What comes back has no stacks.
pub fn unwind_each_from_snapshot(
    snapshot: &Snapshot,
    local: Option<&dyn Files>,
    each: &mut dyn FnMut(NativeStack, &Native),
) -> (Native, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let capture: Capture = section(snapshot, &mut diagnostics);
    let threads: Threads = section(snapshot, &mut diagnostics);
    let modules: Modules = section(snapshot, &mut diagnostics);
    if capture.python_only() {
        let message = "the snapshot was taken with --python-only and holds no native stacks";
        diagnostics.push(Diagnostic::new(Severity::INFO, "python-only", message));
        return (Native::default(), diagnostics);
    }
    let (memory, errors) = Image::of_snapshot(snapshot);
    diagnostics.extend(errors.iter().map(unusable));
    let (recorded, errors) = RecordedFiles::of_snapshot(snapshot);
    diagnostics.extend(errors.iter().map(unusable));

    let modules = ModuleTable::new(&modules);
    let mut maps = snapshot.get::<Maps>().ok().flatten().unwrap_or_default();
    maps.maps.sort_by_key(|map| map.range);
    let (arch, pac_mask) = (capture.arch, capture.pac_mask);
    let evidence = |files| Evidence {
        arch,
        pac_mask,
        threads: &threads,
        maps: &maps.maps,
        memory: &memory,
        modules: &modules,
        files,
    };
    let unwound = match local {
        Some(local) => unwind_each(evidence(&Fallback(recorded, local)), each),
        None => unwind_each(evidence(&recorded), each),
    };
    let Unwound { native, diagnostics: more, .. } = unwound;
    diagnostics.extend(more);
    (native, diagnostics)
}

fn section<P: Payload + Default>(snapshot: &Snapshot, diagnostics: &mut Vec<Diagnostic>) -> P {
    match snapshot.get() {
        Ok(Some(payload)) => payload,
        Ok(None) => {
            let message = format!("the snapshot has no {} section: it cannot be unwound", P::KIND.name());
            diagnostics.push(Diagnostic::new(Severity::LOSS, "section-missing", message));
            P::default()
        }
        Err(error) => {
            diagnostics.push(unusable(&error));
            P::default()
        }
    }
}

fn unusable(error: &PayloadError) -> Diagnostic {
    Diagnostic::new(Severity::LOSS, "section-unusable", error.to_string())
}
