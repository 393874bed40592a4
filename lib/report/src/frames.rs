//! Frames of the model from frames of the payloads: indices resolved, names shared and cut.

use crate::cut::cut;
use crate::internal::{self, Doing};
use crate::merge::PlacedBy;
use crate::model::{Exception, Frame, NativeFrame, PythonFrame};
use crate::sections::Sections;
use crate::words::{Hex, Word};
use pyst_snapshot::Text;
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::{PackedCall, PackedFrame, PackedStack};
use std::collections::HashMap;
use std::sync::Arc;

mod variables;

/// What frames refer to by number or name, each string made once.
pub(crate) struct Names<'a> {
    functions: Vec<Function<'a>>,
    /// The source files of native frames, those of the stacks that were added.
    files: HashMap<&'a [u8], Arc<str>>,
    modules: Vec<Module>,
    runtime_module: Option<u32>,
    codes: Vec<Code<'a>>,
    interpreters: Vec<(i64, Option<bool>)>,
    sources: HashMap<&'a Text, SourceFile>,
    /// By index of state and of frame; none where they were not asked for.
    variables: Option<HashMap<(u32, usize), &'a wire::FrameVariables>>,
    texts: Texts,
}

struct Function<'a> {
    name: Option<Arc<str>>,
    raw: Option<Arc<str>>,
    is_loop: bool,
    is_calling: bool,
    doing: Option<Doing>,
    /// The file that the first of its calls is in, as a rule that of all.
    file: Option<(&'a [u8], Arc<str>)>,
}

struct Module {
    path: Arc<str>,
    build_id: Option<Arc<str>>,
}

struct Code<'a> {
    function: Arc<str>,
    qualname: Option<Arc<str>>,
    file: Arc<str>,
    file_key: &'a Text,
}

struct SourceFile {
    newer: Option<bool>,
    lines: HashMap<u32, Arc<str>>,
}

impl<'a> Names<'a> {
    pub(crate) fn of_sections(sections: &'a Sections) -> Names<'a> {
        let native = sections.native.as_ref();
        let python = sections.python.as_ref();
        let found = sections.runtime.as_ref().and_then(|runtime| runtime.found.as_ref());
        let is_python_2 = found.is_some_and(|found| found.version_hex >> 24 == 2);
        let mut texts = Texts::default();
        let functions = native.into_iter().flat_map(|native| &native.functions);
        let codes = python.into_iter().flat_map(|python| &python.codes);
        let sources = sections.source.files.iter();
        Names {
            functions: functions.map(|function| Function::new(function, is_python_2, &mut texts)).collect(),
            files: HashMap::new(),
            modules: sections.modules.modules.iter().map(|module| Module::new(module, &mut texts)).collect(),
            runtime_module: found.and_then(|found| found.module),
            codes: codes.map(|code| Code::new(code, &mut texts)).collect(),
            interpreters: python
                .into_iter()
                .flat_map(|python| &python.interpreters)
                .map(|i| (i.id, i.gc_collecting))
                .collect(),
            sources: sources.map(|file| (&file.file, SourceFile::new(file, &mut texts))).collect(),
            variables: sections.variables.as_ref().map(variables::by_frame),
            texts,
        }
    }

    /// Adds the source files of a native stack.
    pub(crate) fn add_files(&mut self, stack: &PackedStack<'a>) {
        for call in stack.frames.iter().flat_map(PackedFrame::calls) {
            let Some(file) = call.file.filter(|_| self.file_of_function(&call).is_none()) else { continue };
            let texts = &mut self.texts;
            let shared = self.files.entry(file).or_insert_with(|| texts.share(Text(file.to_vec()).escaped()));
            if let Some(function) = self.functions.get_mut(call.function as usize) {
                function.file.get_or_insert_with(|| (file, shared.clone()));
            }
        }
    }

    /// The source file of a call, if it is the one that the function is known by.
    fn file_of_function(&self, call: &PackedCall) -> Option<&Arc<str>> {
        let (file, shared) = self.function(call)?.file.as_ref()?;
        (Some(*file) == call.file).then_some(shared)
    }

    /// How many names, paths and lines are cut.
    pub(crate) fn cut(&self) -> usize {
        self.texts.cut
    }

    /// The id of the interpreter with an index.
    pub(crate) fn interpreter(&self, index: u32) -> Option<i64> {
        self.interpreters.get(index as usize).map(|(id, _)| *id)
    }

    /// Whether the garbage of the interpreter with an index is being collected.
    pub(crate) fn is_collecting(&self, index: u32) -> Option<bool> {
        self.interpreters.get(index as usize).and_then(|(_, collecting)| *collecting)
    }

    /// Whether a native frame is an evaluation loop by its symbol.
    pub(crate) fn is_loop(&self, frame: &PackedFrame) -> bool {
        self.may_be_interpreter(frame)
            && frame.calls().any(|call| self.function(&call).is_some_and(|function| function.is_loop))
    }

    /// What the interpreter's functions that a native frame is of say of its thread.
    pub(crate) fn doing(&self, frame: &PackedFrame) -> impl Iterator<Item = Doing> {
        let is_interpreter = self.runtime_module.is_some() && frame.module == self.runtime_module;
        let calls = is_interpreter.then(|| frame.calls()).into_iter().flatten();
        calls.filter_map(|call| self.function(&call)?.doing)
    }

    /// The path of the module that has an evaluation loop by its symbol, but is not the one whose Python frames are shown.
    pub(crate) fn other_python(&self, frame: &PackedFrame) -> Option<&str> {
        let names_loop = |call| self.function(&call).is_some_and(|function| function.is_loop);
        let is_other = !self.may_be_interpreter(frame) && frame.calls().any(names_loop);
        let module = frame.module.filter(|_| is_other)?;
        Some(&self.modules.get(module as usize)?.path)
    }

    /// Adds the frames of one physical native frame, outermost first: the function, and those inlined into it.
    pub(crate) fn add_native(&self, frame: &PackedFrame, runs_python: bool, frames: &mut Vec<Frame>) {
        let module = frame.module.and_then(|index| self.modules.get(index as usize));
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
        if frame.is_nameless() {
            frames.push(Frame::Native(base));
            return;
        }
        let interpreter = self.may_be_interpreter(frame);
        let start = frames.len();
        frames.extend(frame.calls().map(|call| {
            let function = self.function(&call);
            let file = || call.file.and_then(|file| self.files.get(file));
            Frame::Native(NativeFrame {
                function: function.and_then(|function| function.name.clone()),
                raw_symbol: function.and_then(|function| function.raw.clone()),
                file: self.file_of_function(&call).or_else(file).cloned(),
                line: call.line,
                inlined: call.inlined,
                internal: runs_python || interpreter && function.is_some_and(|function| function.is_calling),
                ..base.clone()
            })
        }));
        frames.get_mut(start..).unwrap_or_default().reverse();
    }

    /// One Python frame.
    pub(crate) fn python(
        &self,
        interpreter: u32,
        frame: &wire::PythonFrame,
        place: (u32, usize),
        entry: bool,
        placed_by: Option<PlacedBy>,
    ) -> Frame {
        let code = self.codes.get(frame.code as usize);
        let source = code.and_then(|code| self.sources.get(code.file_key));
        let line = source.zip(frame.line).and_then(|(source, line)| source.lines.get(&line));
        let bound = self.variables.as_ref().and_then(|variables| variables.get(&place).copied());
        let (arguments, locals) = bound.map(variables::split).unzip();
        Frame::Python(PythonFrame {
            interpreter_id: self.interpreter(interpreter),
            function: code.map(|code| code.function.clone()),
            qualname: code.and_then(|code| code.qualname.clone()),
            file: code.map(|code| code.file.clone()),
            line: frame.line,
            end_line: frame.end_line,
            column: frame.column,
            end_column: frame.end_column,
            source: line.cloned(),
            source_newer: line.and(source).and_then(|source| source.newer),
            entry,
            placed_by: placed_by.map(Word),
            arguments,
            locals,
            variables_left_out: bound.map(|bound| bound.more),
            variables_lost: self.variables.is_some() && bound.is_none(),
        })
    }

    /// An exception.
    pub(crate) fn exception(&self, exception: &wire::PythonException) -> Exception {
        let code = exception.raised.and_then(|raised| self.codes.get(raised.code as usize));
        let mut type_name = exception.type_name.clone();
        let mut message = exception.message.as_ref().map(|message| message.escaped());
        let mut repr = exception.repr.clone();
        cut(&mut type_name);
        let [message_is_cut, repr_is_cut] = [&mut message, &mut repr].map(|text| text.as_mut().is_some_and(cut));
        Exception {
            type_name,
            truncated: exception.truncated || if message.is_some() { message_is_cut } else { repr_is_cut },
            message,
            repr,
            file: code.map(|code| code.file.clone()),
            line: code.and(exception.raised).and_then(|raised| raised.line),
            function: code.map(|code| code.function.clone()),
        }
    }

    fn function(&self, call: &PackedCall) -> Option<&Function<'a>> {
        self.functions.get(call.function as usize)
    }

    /// A function of the same name in another module is not the interpreter's.
    fn may_be_interpreter(&self, frame: &PackedFrame) -> bool {
        self.runtime_module.is_none() || frame.module == self.runtime_module
    }
}

impl Function<'_> {
    fn new<'a>(function: &wire::NativeFunctionV1, is_python_2: bool, texts: &mut Texts) -> Function<'a> {
        let raw = &function.raw_symbol;
        let symbol = if raw.0.is_empty() { &function.function.0 } else { &raw.0 };
        Function {
            name: texts.share_non_empty(function.function.escaped()),
            raw: texts.share_non_empty(raw.escaped()),
            is_loop: internal::is_loop(symbol, is_python_2),
            is_calling: internal::is_calling(symbol),
            doing: internal::doing(symbol),
            file: None,
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

impl<'a> Code<'a> {
    fn new(code: &'a wire::PythonCode, texts: &mut Texts) -> Code<'a> {
        Code {
            function: texts.share(code.function.escaped()),
            qualname: code.qualname.as_ref().map(|name| texts.share(name.escaped())),
            file: texts.share(code.file.escaped()),
            file_key: &code.file,
        }
    }
}

impl SourceFile {
    fn new(file: &wire::SourceFileV1, texts: &mut Texts) -> SourceFile {
        let lines = file.lines.iter().map(|line| (line.line, texts.share(line.text.clone()))).collect();
        SourceFile { newer: file.newer, lines }
    }
}

/// Makes the strings that frames share.
#[derive(Default)]
struct Texts {
    cut: usize,
}

impl Texts {
    /// The string to share, cut where it is too long.
    fn share(&mut self, mut text: String) -> Arc<str> {
        self.cut += usize::from(cut(&mut text));
        Arc::from(text)
    }

    fn share_non_empty(&mut self, text: String) -> Option<Arc<str>> {
        (!text.is_empty()).then(|| self.share(text))
    }
}
