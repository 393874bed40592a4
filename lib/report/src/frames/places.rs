//! The places where native frames stand, each made ready to be shown once: thousands of frames stand in the same few.

use super::Texts;
use crate::internal::{self, Doing};
use crate::model::{Frame, NativeFrame};
use crate::sections::Sections;
use crate::words::{Hex, Word};
use pyst_snapshot::Text;
use pyst_snapshot::payload::{self as wire, PackedFrame};
use std::collections::HashMap;
use std::sync::Arc;

/// A place, as the frames that stand there are shown.
#[derive(Default)]
pub(super) struct Place {
    /// The file that the code is from.
    module: Option<Module>,
    /// The functions, outermost first; empty where nothing is known.
    calls: Vec<Call>,
    /// Whether the module is the interpreter's. Unknown where nobody knows which that is.
    is_interpreter: Option<bool>,
}

#[derive(Clone)]
struct Module {
    path: Arc<str>,
    build_id: Option<Arc<str>>,
}

struct Call {
    function: Option<Function>,
    file: Option<Arc<str>>,
    line: Option<u32>,
    inlined: bool,
}

#[derive(Clone)]
struct Function {
    name: Option<Arc<str>>,
    raw: Option<Arc<str>>,
    is_loop: bool,
    is_calling: bool,
    doing: Option<Doing>,
}

/// All places of native frames.
pub(super) fn of_sections(sections: &Sections, texts: &mut Texts) -> Vec<Place> {
    let found = sections.runtime.as_ref().and_then(|runtime| runtime.found.as_ref());
    let is_python_2 = found.is_some_and(|found| found.version_hex >> 24 == 2);
    let functions = sections.native.functions().iter();
    let modules = sections.modules.modules.iter();
    let mut tables = Tables {
        functions: functions.map(|function| Function::new(function, is_python_2, texts)).collect(),
        modules: modules.map(|module| Module::new(module, texts)).collect(),
        files: HashMap::new(),
        runtime_module: found.and_then(|found| found.module),
        texts,
    };
    sections.native.places().iter().map(|place| tables.place(place)).collect()
}

/// What places name.
struct Tables<'a, 't> {
    functions: Vec<Function>,
    modules: Vec<Module>,
    files: HashMap<&'a Text, Arc<str>>,
    runtime_module: Option<u32>,
    texts: &'t mut Texts,
}

impl<'a> Tables<'a, '_> {
    fn place(&mut self, place: &'a wire::NativePlace) -> Place {
        Place {
            module: place.module.and_then(|module| named(&self.modules, module)).cloned(),
            calls: place.calls.iter().rev().map(|call| self.call(call)).collect(),
            is_interpreter: self.runtime_module.map(|module| place.module == Some(module)),
        }
    }

    fn call(&mut self, call: &'a wire::NativeCallV1) -> Call {
        let Tables { functions, files, texts, .. } = self;
        let share = |file: &'a Text| files.entry(file).or_insert_with(|| texts.share(file.escaped())).clone();
        Call {
            function: named(functions, call.function).cloned(),
            file: call.file.as_ref().map(share),
            line: call.line,
            inlined: call.inlined,
        }
    }
}

fn named<T>(all: &[T], index: u32) -> Option<&T> {
    all.get(usize::try_from(index).ok()?)
}

impl Place {
    /// Whether an evaluation loop is here, by its symbol.
    pub(super) fn is_loop(&self) -> bool {
        self.may_be_interpreter() && self.names_loop()
    }

    /// What the interpreter's functions say of a thread that is here.
    pub(super) fn doing(&self) -> impl Iterator<Item = Doing> {
        let calls = (self.is_interpreter == Some(true)).then_some(&self.calls).into_iter().flatten();
        // As they were called, the innermost first.
        calls.rev().filter_map(|call| call.function.as_ref()?.doing)
    }

    /// The path of the module, if it has an evaluation loop by its symbol, but is not the one whose Python frames are shown.
    pub(super) fn other_python(&self) -> Option<&str> {
        let module = self.module.as_ref().filter(|_| !self.may_be_interpreter() && self.names_loop())?;
        Some(&module.path)
    }

    /// Adds the frames of one physical frame that stands here, outermost first.
    pub(super) fn add_frames(&self, frame: &PackedFrame, runs_python: bool, frames: &mut Vec<Frame>) {
        let module = self.module.as_ref();
        let base = NativeFrame {
            function: None,
            raw_symbol: None,
            file: None,
            line: None,
            inlined: false,
            internal: runs_python,
            module: module.map(|module| module.path.clone()),
            build_id: module.and_then(|module| module.build_id.clone()),
            address: Hex(frame.pc),
            found_by: Word(frame.found_by),
        };
        if self.calls.is_empty() {
            frames.push(Frame::Native(base));
            return;
        }
        frames.extend(self.calls.iter().map(|call| {
            let function = call.function.as_ref();
            let is_calling = self.may_be_interpreter() && function.is_some_and(|function| function.is_calling);
            Frame::Native(NativeFrame {
                function: function.and_then(|function| function.name.clone()),
                raw_symbol: function.and_then(|function| function.raw.clone()),
                file: call.file.clone(),
                line: call.line,
                inlined: call.inlined,
                internal: runs_python || is_calling,
                ..base.clone()
            })
        }));
    }

    fn names_loop(&self) -> bool {
        self.calls.iter().any(|call| call.function.as_ref().is_some_and(|function| function.is_loop))
    }

    /// A function of the same name in another module is not the interpreter's.
    fn may_be_interpreter(&self) -> bool {
        self.is_interpreter != Some(false)
    }
}

impl Function {
    fn new(function: &wire::NativeFunctionV1, is_python_2: bool, texts: &mut Texts) -> Function {
        let raw = &function.raw_symbol;
        let symbol = if raw.0.is_empty() { &function.function.0 } else { &raw.0 };
        Function {
            name: texts.share_non_empty(function.function.escaped()),
            raw: texts.share_non_empty(raw.escaped()),
            is_loop: internal::is_loop(symbol, is_python_2),
            is_calling: internal::is_calling(symbol),
            doing: internal::doing(symbol),
        }
    }
}

impl Module {
    fn new(module: &wire::Module, texts: &mut Texts) -> Module {
        let hexadecimal = |id: &pyst_snapshot::Bytes| id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Module {
            path: texts.share(module.path.escaped()),
            build_id: module.build_id.as_ref().map(|id| texts.share(hexadecimal(id))),
        }
    }
}
