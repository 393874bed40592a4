//! The statements of a program's functions: the ways in which Python code comes to run Python code.

use super::program::{Body, Kind, Planned, Writer};

const CALLABLE: [Kind; 4] = [Kind::Plain, Kind::Method, Kind::Constructor, Kind::Item];

impl Writer {
    /// A statement that calls with less fuel.
    pub(crate) fn statement(&mut self, body: &mut Body) {
        self.statement_with_fuel(body, "n - 1");
    }

    pub(crate) fn statement_with_fuel(&mut self, body: &mut Body, fuel: &str) {
        let coroutines = self.version >= (3, 6);
        match self.random.below(if coroutines { 15 } else { 12 }) {
            0 | 1 => self.simple_call(body, fuel),
            2 => self.leaf_loop(body),
            3 => self.called_by_c(body, fuel),
            4 => self.comprehension(body, fuel),
            5 => self.evaluated(body, fuel),
            6 => self.class_body(body, fuel),
            7 => self.context(body, fuel),
            8 => self.raised(body, fuel),
            9 => self.generator_loop(body, fuel),
            10 => self.generator_in_c(body, fuel),
            11 if self.chance(2) => self.doomed(body),
            11 => self.deep_call(body, fuel),
            _ => self.driven(body, fuel),
        }
        if self.chance(12) {
            let indent = body.indent;
            self.line(indent, "time.sleep(0.0005)");
        }
    }

    pub(crate) fn simple_call(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&CALLABLE);
        let (callee, call) = self.invocation(&planned, fuel);
        self.call(body, callee, &call);
    }

    fn deep_call(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&[Kind::Deep]);
        let (callee, call) = self.invocation(&planned, fuel);
        self.call(body, callee, &call);
    }

    /// What is called most often: a function that does next to nothing, again and again.
    fn leaf_loop(&mut self, body: &mut Body) {
        let call = self.next() + 2;
        self.announce(body, self.prelude.leaf, call);
        let indent = body.indent;
        self.line(indent, "for i in range(30):");
        self.line(indent + 1, "leaf(i)");
        self.line(indent, "s[1] = k + 1");
    }

    /// What is called there: an expression, and the id.
    fn inner(&mut self, fuel: &str) -> (usize, String) {
        if self.chance(2) {
            return (self.prelude.leaf, "leaf(value)".to_owned());
        }
        let planned = self.one_of(&CALLABLE);
        self.invocation(&planned, fuel)
    }

    /// Announces a frame named `name` that is called in the next line but `after`, and calls `callee` in that same line.
    fn announce_frame(&mut self, body: &mut Body, name: &str, callee: usize) {
        let line = self.next() + 1;
        let id = self.declare(name, (line, line));
        let inner = self.fixed_word(id, line, (line, line));
        let word = self.word(body, line);
        self.note_call(body.id, line, id);
        self.note_call(id, line, callee);
        let indent = body.indent;
        self.line(indent, &format!("s[k + 10] = A{callee}; s[k + 9] = {inner}; s[k + 8] = {word}; s[1] = k + 2"));
    }

    /// Python code that C code calls.
    fn called_by_c(&mut self, body: &mut Body, fuel: &str) {
        let (callee, call) = self.inner(fuel);
        self.announce_frame(body, "<lambda>", callee);
        let function = format!("lambda value: {}", in_frame(callee, &call));
        let statement = match self.random.below(7) {
            0 => format!("sorted(DATA, key={function})"),
            1 => format!("reduce(lambda first, value: {}, DATA)", in_frame(callee, &call)),
            2 => format!("list(map({function}, DATA))"),
            3 => format!("max(DATA, key={function})"),
            4 => format!("CALLBACK({function})(1)"),
            5 => format!("list(filter({function}, DATA))"),
            _ => format!("({function})(1)"),
        };
        let indent = body.indent;
        self.line(indent, &statement);
        self.line(indent, "s[1] = k + 1");
    }

    fn comprehension(&mut self, body: &mut Body, fuel: &str) {
        let (callee, call) = self.inner(fuel);
        let kind = self.random.below(4);
        // Until 3.11 they are functions, but for the lists of Python 2.
        let framed = match kind {
            0 => self.version < (3, 12) && self.version >= (3, 0),
            1 | 2 => self.version < (3, 12),
            _ => true,
        };
        let name = ["<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"][kind];
        if framed {
            self.announce_frame(body, name, callee);
        } else {
            let line = self.next() + 1;
            self.announce(body, callee, line);
        }
        let element = if framed { in_frame(callee, &call) } else { without_frame(callee, &call) };
        let statement = match kind {
            0 => format!("[{element} for value in DATA]"),
            1 => format!("{{{element} for value in DATA}}"),
            2 => format!("{{value: {element} for value in DATA}}"),
            _ => format!("sum({element} for value in DATA)"),
        };
        let indent = body.indent;
        self.line(indent, &statement);
        self.line(indent, "s[1] = k + 1");
    }

    fn evaluated(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&CALLABLE);
        let (callee, call) = self.invocation(&planned, fuel);
        let id = self.declare("<module>", (1, 1));
        let file = format!("<made for {id}>");
        self.functions[id].file = Some(file.clone());
        let inner = self.fixed_word(id, 1, (1, 1));
        let line = self.next() + 1;
        let word = self.word(body, line);
        self.note_call(body.id, line, id);
        self.note_call(id, 1, callee);
        let indent = body.indent;
        self.line(indent, &format!("s[k + 10] = A{callee}; s[k + 9] = {inner}; s[k + 8] = {word}; s[1] = k + 2"));
        let source = in_frame(callee, &call);
        let names = if fuel.contains('n') { "s=s, k=k, n=n, value=1" } else { "s=s, k=k, value=1" };
        self.line(indent, &format!("eval(compile(\"{source}\", \"{file}\", \"eval\"), globals(), dict({names}))"));
        self.line(indent, "s[1] = k + 1");
    }

    fn class_body(&mut self, body: &mut Body, fuel: &str) {
        let (callee, call) = self.inner(fuel);
        let call = call.replace("value", "1");
        let line = self.next() + 1;
        let id = self.declare("", (line, line + 3));
        let name = format!("B{id}");
        self.functions[id].name = name.clone();
        let inner = self.fixed_word(id, line + 2, (line, line + 3));
        let word = self.word(body, line);
        self.note_call(body.id, line, id);
        self.note_call(id, line + 2, callee);
        let indent = body.indent;
        self.line(indent, &format!("s[k + 10] = A{callee}; s[k + 9] = {inner}; s[k + 8] = {word}; s[1] = k + 2"));
        self.line(indent, &format!("class {name}(object):"));
        self.line(indent + 1, "s[0] = k + 2; s[1] = k + 3");
        self.line(indent + 1, &call);
        self.line(indent + 1, "s[1] = k + 2; s[0] = k + 1");
        self.line(indent, "s[1] = k + 1");
    }

    fn context(&mut self, body: &mut Body, fuel: &str) {
        let line = self.next() + 1;
        self.announce(body, self.prelude.enter, line);
        let indent = body.indent;
        self.line(indent, "with CONTEXT:");
        self.line(indent + 1, "s[1] = k + 1");
        body.indent = indent + 1;
        self.simple_call(body, fuel);
        // Which line an exit is called from differs among versions.
        self.announce(body, self.prelude.exit, 0);
        for exit_from in line..=self.next() {
            self.note_call(body.id, exit_from, self.prelude.exit);
        }
        body.indent = indent;
        self.line(indent, "s[1] = k + 1");
    }

    /// An exception that comes through several frames.
    fn raised(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&[Kind::Raiser]);
        let (callee, call) = self.invocation(&planned, fuel);
        let line = self.next() + 2;
        self.announce(body, callee, line);
        let indent = body.indent;
        self.line(indent, "try:");
        self.line(indent + 1, &call);
        self.line(indent, "except Stop:");
        self.line(indent + 1, "s[1] = k + 1");
    }

    fn generator_loop(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&[Kind::Generator]);
        self.loop_over(body, "for", &planned, fuel);
    }

    pub(crate) fn async_loop(&mut self, body: &mut Body) {
        let planned = self.one_of(&[Kind::AsyncGenerator]);
        self.loop_over(body, "async for", &planned, "n - 1");
    }

    fn loop_over(&mut self, body: &mut Body, keyword: &str, planned: &Planned, fuel: &str) {
        let (callee, call) = self.invocation(planned, fuel);
        let line = self.next() + 1;
        self.announce(body, callee, line);
        let indent = body.indent;
        self.line(indent, &format!("{keyword} value in {call}:"));
        self.line(indent + 1, "s[1] = k + 1");
        body.indent = indent + 1;
        self.call(body, self.prelude.leaf, "leaf(value)");
        self.announce(body, callee, line);
        body.indent = indent;
        self.line(indent, "s[1] = k + 1");
    }

    fn generator_in_c(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&[Kind::Generator]);
        let (callee, call) = self.invocation(&planned, fuel);
        let consumer = ["sum", "list", "max", "sorted"][self.random.below(4)];
        self.call(body, callee, &format!("{consumer}({call})"));
    }

    fn doomed(&mut self, body: &mut Body) {
        let indent = body.indent;
        let word = self.word(body, 0);
        self.line(indent, &format!("s[k + 8] = {word}; doomed = DOOMED()"));
        self.call(body, self.prelude.delete, "del doomed");
    }

    /// A coroutine that is driven by hand: suspended and resumed, at times thrown into.
    fn driven(&mut self, body: &mut Body, fuel: &str) {
        let planned = self.one_of(&[Kind::Coroutine, Kind::Coroutine, Kind::Consumer]);
        let (callee, call) = self.invocation(&planned, fuel);
        let indent = body.indent;
        let word = self.word(body, 0);
        self.line(indent, &format!("s[k + 8] = {word}; old = s[2]; s[2] = k + 1"));
        self.call(body, callee, &format!("task = {call}"));
        self.line(indent, &format!("h = k + 2; w = [A{callee}]"));
        self.line(indent, "turn = 0");
        self.line(indent, "while True:");
        let unlinked = self.version < (3, 10) && planned.kind != Kind::Consumer;
        let line = self.next() + 2 + u32::from(unlinked);
        let word = self.word(body, line);
        self.note_call(body.id, line, callee);
        // Not close(): that runs what is awaited without those that await it.
        let throw_from = self.random.below(6);
        if unlinked {
            self.line(indent + 1, &format!("t = s[6]; s[6] = t or (k + 1 if turn > {throw_from} else 0)"));
            self.note_throws(body.id, line);
        }
        self.line(indent + 1, &format!("s[k + 9:k + 9 + len(w)] = w; s[k + 8] = {word}; s[1] = h"));
        self.line(indent + 1, "try:");
        self.line(
            indent + 2,
            &match planned.kind {
                Kind::Consumer => "task.send(None)".to_owned(),
                _ => format!("task.throw(Stop()) if turn > {throw_from} else task.send(None)"),
            },
        );
        self.line(indent + 1, "except (Stop, StopIteration):");
        let rethrow = if unlinked { "; s[6] = t" } else { "" };
        self.line(indent + 2, &format!("s[1] = k + 1{rethrow}"));
        self.line(indent + 2, "break");
        self.line(indent + 1, &format!("turn += 1{rethrow}"));
        self.line(indent + 1, "h = s[1]; w = s[k + 9:h + 8]; s[1] = k + 1");
        body.indent = indent + 1;
        self.call(body, self.prelude.leaf, "leaf(turn)");
        body.indent = indent;
        self.line(indent, "s[2] = old");
    }

    /// Until 3.9, what is awaited is thrown into without those that await it.
    fn note_throws(&mut self, caller: usize, line: u32) {
        let awaited = |one: &Planned| (one.kind == Kind::Coroutine).then_some(one.id);
        let mut awaited: Vec<usize> = self.planned.iter().filter_map(awaited).collect();
        awaited.extend([self.prelude.nap, self.prelude.awaits]);
        for callee in awaited {
            self.note_call(caller, line, callee);
        }
    }

    /// Suspends the coroutine, and with it all that await it.
    pub(crate) fn nap(&mut self, body: &mut Body) {
        let indent = body.indent;
        if self.chance(2) {
            self.call(body, self.prelude.nap, "await nap(s)");
            return;
        }
        let line = self.next() + 2;
        self.announce(body, self.prelude.awaits, line);
        self.line(indent, "s[0] = s[2]");
        self.line(indent, "await PAUSE");
        self.line(indent, "s[0] = k + 1; s[1] = k + 1");
    }
}

/// An expression that does `call`, of `callee`, in a frame of its own, which records itself. It may be evaluated again.
fn in_frame(callee: usize, call: &str) -> String {
    let set = "s.__setitem__";
    format!(
        "({set}(0, k + 2), {set}(k + 10, A{callee}), {set}(1, k + 3), {call}, {set}(1, k + 2), {set}(0, k + 1), value)[6]"
    )
}

/// The same in the frame that it is written in.
fn without_frame(callee: usize, call: &str) -> String {
    let set = "s.__setitem__";
    format!("({set}(k + 9, A{callee}), {set}(1, k + 2), {call}, {set}(1, k + 1), value)[4]")
}
