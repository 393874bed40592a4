//! Programs made from a seed, which record what they do as they do it.
//!
//! A thread keeps its record in words of a file that it shares with the test (`prelude.py` says where what is). At any
//! instant its real stack is the first `count` of the frames recorded, with `sure <= count <= possible`, and the two
//! differ by the one call that is just being made or left: a caller writes which function it calls, and from which line,
//! before it calls, and the callee counts itself among the sure ones first and no more before it leaves. Only where a
//! coroutine is suspended or thrown into, a whole chain of awaits enters or leaves at once.
//!
//! A frame's word says in which lines it can be while it is innermost, and in which line it calls.

use crate::random::Random;
use std::collections::HashSet;

/// What every program starts with.
const PRELUDE: &str = include_str!("prelude.py");

/// How many threads a program has at once, the main thread included, at most.
pub(crate) const SLOTS: usize = 8;

/// A program.
pub(crate) struct Program {
    /// Python.
    pub(crate) source: String,
    /// By their ids: the index is what the records have.
    pub(crate) functions: Vec<Function>,
    /// Which function calls which in which line.
    pub(crate) calls: HashSet<Call>,
    /// How many threads it has, besides the main thread.
    pub(crate) workers: usize,
}

/// A call: the caller's id, the line, the callee's id.
pub(crate) type Call = (usize, u32, usize);

/// A code object.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// What `co_name` is.
    pub(crate) name: String,
    /// The file, where that is not the program.
    pub(crate) file: Option<String>,
    /// The first and the last line.
    pub(crate) lines: (u32, u32),
    /// The lines in which it is left, and comes to from anywhere.
    pub(crate) leaving: (u32, u32),
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Method,
    Constructor,
    Item,
    Raiser,
    Deep,
    Generator,
    Coroutine,
    /// A coroutine with asynchronous loops. CPython does not link its frame while an exception is thrown through those.
    Consumer,
    AsyncGenerator,
}

/// A function that others may call.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) id: usize,
    pub(crate) kind: Kind,
    /// Whether a decorator wraps it: the wrapper's id.
    pub(crate) wrapper: Option<usize>,
}

/// The body that is being written.
pub(crate) struct Body {
    pub(crate) id: usize,
    pub(crate) indent: usize,
    /// The first line of the statement that is being written.
    start: u32,
    /// Words whose statement is not at its end yet.
    open: Vec<usize>,
}

/// A program in the making.
pub(crate) struct Writer {
    pub(crate) version: (u32, u32),
    pub(crate) random: Random,
    pub(crate) planned: Vec<Planned>,
    pub(crate) functions: Vec<Function>,
    pub(crate) prelude: Prelude,
    lines: Vec<String>,
    words: Vec<u64>,
    calls: HashSet<Call>,
}

impl Program {
    /// The program of a seed, for a version of Python.
    pub(crate) fn new(seed: u64, version: (u32, u32)) -> Program {
        let mut writer = Writer {
            version,
            random: Random(seed),
            planned: Vec::new(),
            functions: Vec::new(),
            prelude: Prelude::default(),
            lines: PRELUDE.lines().map(str::to_owned).collect(),
            words: Vec::new(),
            calls: HashSet::new(),
        };
        writer.prelude = Prelude {
            leaf: writer.of_prelude("leaf"),
            enter: writer.of_prelude("__enter__"),
            exit: writer.of_prelude("__exit__"),
            delete: writer.of_prelude("__del__"),
            nap: writer.of_prelude("nap"),
            awaits: writer.of_prelude("__await__"),
        };
        writer.plan();
        writer.functions();
        let worker = writer.worker();
        let main = writer.main(worker);
        let workers = writer.random.below(SLOTS);
        writer.end(main, workers)
    }
}

/// The ids of the prelude's functions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prelude {
    pub(crate) leaf: usize,
    pub(crate) enter: usize,
    pub(crate) exit: usize,
    pub(crate) delete: usize,
    pub(crate) nap: usize,
    pub(crate) awaits: usize,
}

impl Writer {
    /// A new function whose name and lines are known.
    pub(crate) fn declare(&mut self, name: &str, lines: (u32, u32)) -> usize {
        self.functions.push(Function { name: name.to_owned(), file: None, lines, leaving: (0, 0) });
        self.functions.len() - 1
    }

    /// The function of that name which the prelude has; an empty line follows it.
    fn of_prelude(&mut self, name: &str) -> usize {
        let head = format!("def {name}(");
        let first = self.lines.iter().position(|line| line.trim_start().starts_with(&head)).unwrap();
        let length = self.lines[first..].iter().position(|line| line.is_empty()).unwrap_or(self.lines.len() - first);
        let lines = (u32::try_from(first + 1).unwrap(), u32::try_from(first + length).unwrap());
        let id = self.declare(name, lines);
        self.functions[id].leaving = lines;
        id
    }

    /// The number of the line that comes next.
    pub(crate) fn next(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap() + 1
    }

    pub(crate) fn line(&mut self, indent: usize, text: &str) {
        self.lines.push(format!("{}{text}", "    ".repeat(indent)));
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    /// Starts the body of a function that starts in the next line.
    pub(crate) fn body(&mut self, id: usize, indent: usize) -> Body {
        Body { id, indent, start: self.next(), open: Vec::new() }
    }

    /// Ends a statement of a body: from now on its lines are those of the next one.
    pub(crate) fn end_statement(&mut self, body: &mut Body) {
        let (start, next) = (body.start, self.next());
        for word in body.open.drain(..) {
            self.words[word] |= u64::from(start) << 16 | u64::from(next);
        }
        body.start = next;
    }

    /// The name of a word for the frame of `body`, which is about to call in line `call`; 0 says that it calls anywhere in
    /// the statement.
    pub(crate) fn word(&mut self, body: &mut Body, call: u32) -> String {
        self.words.push((body.id as u64) << 48 | u64::from(call) << 32);
        body.open.push(self.words.len() - 1);
        format!("W{}", self.words.len() - 1)
    }

    /// The name of a word for a frame of `id` that never calls from elsewhere than `call`.
    pub(crate) fn fixed_word(&mut self, id: usize, call: u32, lines: (u32, u32)) -> String {
        let lines = u64::from(lines.0) << 16 | u64::from(lines.1);
        self.words.push((id as u64) << 48 | u64::from(call) << 32 | lines);
        format!("W{}", self.words.len() - 1)
    }

    /// Notes that a function calls another one in a line.
    pub(crate) fn note_call(&mut self, caller: usize, line: u32, callee: usize) {
        self.calls.insert((caller, line, callee));
    }

    /// Writes a statement that calls `callee`, between what records that.
    pub(crate) fn call(&mut self, body: &mut Body, callee: usize, statement: &str) {
        let indent = body.indent;
        self.announce(body, callee, self.next() + 1);
        self.line(indent, statement);
        self.line(indent, "s[1] = k + 1");
    }

    /// Records that `callee` will be called in line `call`.
    pub(crate) fn announce(&mut self, body: &mut Body, callee: usize, call: u32) {
        let word = self.word(body, call);
        if call > 0 {
            self.note_call(body.id, call, callee);
        }
        self.line(body.indent, &format!("s[k + 9] = A{callee}; s[k + 8] = {word}; s[1] = k + 2"));
    }

    /// A call of a planned function, as an expression, and the id of who is called first.
    pub(crate) fn invocation(&mut self, planned: &Planned, fuel: &str) -> (usize, String) {
        let id = planned.id;
        let expression = match planned.kind {
            Kind::Method => format!("OBJECT{id}.f{id}(s, {fuel})"),
            Kind::Constructor => format!("C{id}(s, {fuel})"),
            Kind::Item => format!("ITEM{id}[s, {fuel}]"),
            Kind::Deep => format!("f{id}(s, {fuel}, {})", 20 + self.random.below(300)),
            _ => format!("f{id}(s, {fuel})"),
        };
        (planned.wrapper.unwrap_or(id), expression)
    }

    /// A function of one of `kinds`.
    pub(crate) fn one_of(&mut self, kinds: &[Kind]) -> Planned {
        let fit: Vec<Planned> = self.planned.iter().filter(|one| kinds.contains(&one.kind)).cloned().collect();
        fit[self.random.below(fit.len())].clone()
    }

    fn plan(&mut self) {
        use Kind::*;
        let mut kinds = vec![Plain, Plain, Plain, Plain, Method, Constructor, Item, Raiser, Raiser, Deep, Generator];
        let more = [Plain, Plain, Method, Constructor, Item, Raiser, Generator];
        for _ in 0..6 + self.random.below(12) {
            kinds.push(more[self.random.below(more.len())]);
        }
        if self.version >= (3, 6) {
            kinds.extend([Coroutine, Coroutine, Coroutine, Consumer, AsyncGenerator]);
        }
        for kind in kinds {
            let id = self.declare("", (0, 0));
            self.functions[id].name = match kind {
                Constructor => "__init__".to_owned(),
                Item => "__getitem__".to_owned(),
                _ => format!("f{id}"),
            };
            let wrapper = (kind == Plain && self.chance(3)).then(|| self.declare(&format!("wrapped{id}"), (0, 0)));
            self.planned.push(Planned { id, kind, wrapper });
        }
    }

    fn functions(&mut self) {
        for planned in self.planned.clone() {
            self.line(0, "");
            self.function(&planned);
        }
    }

    /// Ends the program with the constants, and runs it.
    fn end(mut self, main: usize, workers: usize) -> Program {
        let module = self.declare("<module>", (1, 0));
        let constants = u32::try_from(self.words.len() + 1 + self.functions.len()).unwrap();
        let run = self.next() + constants;
        self.functions[module].lines.1 = run;
        let word = self.fixed_word(module, run, (run, run));
        self.note_call(module, run, main);
        let announced = |(id, function): (usize, &Function)| {
            let (first, last) = function.lines;
            format!("A{id} = {:#x}", (id as u64) << 48 | u64::from(first) << 16 | u64::from(last))
        };
        self.lines.extend(self.words.iter().enumerate().map(|(index, word)| format!("W{index} = {word:#x}")));
        self.lines.extend(self.functions.iter().enumerate().map(announced));
        self.line(0, &format!("main(int(sys.argv[2]), {word}, A{main})"));
        Program { source: self.lines.join("\n") + "\n", functions: self.functions, calls: self.calls, workers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its last statement may be one with a function of its own, so that it is not the last function before `main`.
    #[test]
    fn a_worker_starts_with_its_own_word_whatever_functions_it_has_within() {
        for (seed, version) in (0..300).flat_map(|seed| [(seed, (2, 7)), (seed, (3, 13))]) {
            let program = Program::new(seed, version);
            let (_, started) = program.source.split_once("_thread.start_new_thread(worker, (").unwrap();
            let word = started.split(", A").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
            let function = &program.functions[word.parse::<usize>().unwrap()];
            assert_eq!(function.name, "worker", "seed {seed}, version {version:?}");
        }
    }
}
