//! What a reader must know of a stack that ends early.

use crate::places::PlaceId;
use pyst_elf::{ModuleId, ModuleTable};
use pyst_snapshot::Bytes;
use pyst_snapshot::payload::{Diagnostic, NativeFrame, NativePlace, NativeStack, Severity, StackEnd};

/// A diagnostic for a stack that does not end where the thread began.
pub(crate) fn diagnose(stack: &NativeStack, places: &[NativePlace], modules: &ModuleTable) -> Option<Diagnostic> {
    let (severity, code, reason) = match stack.end {
        StackEnd::COMPLETE | StackEnd::ZERO_RETURN_ADDRESS | StackEnd::STACK_SWITCH => return None,
        // Whoever could not get the registers has said so.
        StackEnd::NO_REGISTERS => return None,
        StackEnd::STACK_TRUNCATED => (Severity::INFO, "stack-truncated", "only a stated part of the stack was read"),
        StackEnd::FRAME_LIMIT => (Severity::INFO, "frame-limit", "more frames are not followed"),
        StackEnd::NO_CFI => {
            (Severity::INFO, "no-cfi", "no file has unwind information for this code, and it keeps no frame pointer")
        }
        StackEnd::NO_MODULE => (Severity::INFO, "no-module", "the code that runs, or ran next, belongs to no file"),
        StackEnd::NOT_RECORDED => {
            (Severity::LOSS, "stack-incomplete", "the snapshot lacks what is needed to go on; capture it again")
        }
        StackEnd::UNREADABLE => (Severity::LOSS, "stack-incomplete", "memory needed to go on could not be read"),
        StackEnd::REGISTER_UNKNOWN => (
            Severity::INFO,
            "register-unknown",
            "to go on, a register would be needed that only a stop of the thread tells",
        ),
        StackEnd::BAD_CFI => {
            (Severity::LOSS, "stack-incomplete", "the unwind information is malformed or needs a lost register")
        }
        StackEnd::LOOP => (Severity::LOSS, "stack-incomplete", "the same frame came twice: the stack is damaged"),
        StackEnd::STACK_DID_NOT_GROW => {
            (Severity::LOSS, "stack-incomplete", "the next frame would lie below this one: the stack is damaged")
        }
        _ => (Severity::LOSS, "stack-incomplete", "it cannot be followed further"),
    };
    let count = match stack.frames.len() {
        1 => "1 frame".to_owned(),
        count => format!("{count} frames"),
    };
    let place = stack.frames.last().map_or_else(String::new, |frame| place(frame, places, modules));
    let message = format!("the native stack ends after {count}{place}: {reason}");
    Some(Diagnostic::new(severity, code, message).on(stack.tid))
}

/// Debug information is split, and a part of it was not read.
pub(crate) fn lacking(file: &[u8], module: ModuleId, modules: &ModuleTable) -> Diagnostic {
    let module = modules.get(module).map(|module| module.path.escaped()).unwrap_or_default();
    let is_split = file.ends_with(b".dwo") || file.ends_with(b".dwp");
    let why = if is_split { "which is split DWARF and not read" } else { "which was not found: see --debug-dir" };
    let message = format!(
        "frames of {module} lack lines or inlined functions: that debug information is in {}, {why}",
        Bytes(file.to_vec()).escaped()
    );
    Diagnostic::new(Severity::INFO, "split-dwarf", message)
}

fn place(frame: &NativeFrame, places: &[NativePlace], modules: &ModuleTable) -> String {
    let place = places.get(PlaceId(frame.place).index());
    match place.and_then(|place| modules.get(ModuleId(place.module?))) {
        Some(module) => {
            format!(", at pc {} ({} + {})", frame.pc, module.path.escaped(), frame.pc.to_svma(module.bias))
        }
        None => format!(", at pc {}", frame.pc),
    }
}
