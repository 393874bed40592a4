//! Frames of the model from frames of the payloads: indices resolved, names shared and cut.

use crate::cut::cut;
use crate::internal::Doing;
use crate::merge::PlacedBy;
use crate::model::{Exception, Frame, PythonFrame};
use crate::sections::Sections;
use crate::words::Word;
use places::Place;
use pyst_snapshot::Text;
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::PackedFrame;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

mod places;
mod variables;

/// What frames refer to by number or name, each string made once.
pub(crate) struct Names<'a> {
    places: Vec<Place>,
    codes: Vec<Code<'a>>,
    interpreters: Vec<(i64, Option<bool>)>,
    sources: HashMap<&'a Text, SourceFile>,
    /// By index of state and of frame; none where they were not asked for.
    variables: Option<HashMap<(u32, usize), &'a wire::FrameVariables>>,
    texts: Texts,
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
        let python = sections.python.as_ref();
        let mut texts = Texts::default();
        let codes = python.into_iter().flat_map(|python| &python.codes);
        let sources = sections.source.files.iter();
        Names {
            places: places::of_sections(sections, &mut texts),
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
        self.place(frame).is_some_and(Place::is_loop)
    }

    /// What the interpreter's functions that a native frame is of say of its thread.
    pub(crate) fn doing(&self, frame: &PackedFrame) -> impl Iterator<Item = Doing> {
        self.place(frame).into_iter().flat_map(Place::doing)
    }

    /// The paths of the modules that have an evaluation loop by its symbol, but are not the one whose Python frames are shown.
    pub(crate) fn other_pythons(&self) -> BTreeSet<&str> {
        self.places.iter().filter_map(Place::other_python).collect()
    }

    /// Adds the frames of one physical native frame, outermost first: the function, and those inlined into it.
    pub(crate) fn add_native(&self, frame: &PackedFrame, runs_python: bool, frames: &mut Vec<Frame>) {
        let nowhere = Place::default();
        self.place(frame).unwrap_or(&nowhere).add_frames(frame, runs_python, frames);
    }

    fn place(&self, frame: &PackedFrame) -> Option<&Place> {
        self.places.get(usize::try_from(frame.place).ok()?)
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
