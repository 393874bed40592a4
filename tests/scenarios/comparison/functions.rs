//! The functions of a program, each of its kind.

use super::program::{Body, Kind, Planned, Writer};

/// How many calls deep a program goes, recursion of one function aside.
const FUEL: usize = 5;

const ENTER: &str = "k = s[0]; s[0] = k + 1";
const LEAVE: &str = "s[1] = k + 1; s[0] = k";

impl Writer {
    pub(crate) fn function(&mut self, planned: &Planned) {
        let id = planned.id;
        match planned.kind {
            Kind::Plain => {
                if let Some(wrapper) = planned.wrapper {
                    self.decorator(id, wrapper);
                }
                // A code object starts with its decorator.
                let first = self.next();
                if planned.wrapper.is_some() {
                    self.line(0, &format!("@decorate{id}"));
                }
                self.plain(id, 0, &format!("def f{id}(s, n):"), first);
            }
            Kind::Method => {
                self.line(0, &format!("class C{id}(object):"));
                let first = self.next();
                self.plain(id, 1, &format!("def f{id}(self, s, n):"), first);
                self.line(0, &format!("OBJECT{id} = C{id}()"));
            }
            Kind::Constructor => {
                self.line(0, &format!("class C{id}(object):"));
                let first = self.next();
                self.plain(id, 1, "def __init__(self, s, n):", first);
            }
            Kind::Item => {
                self.line(0, &format!("class C{id}(object):"));
                let first = self.next();
                self.plain(id, 1, "def __getitem__(self, key, s=None, n=None):", first);
                self.line(0, &format!("ITEM{id} = C{id}()"));
            }
            Kind::Raiser => self.raiser(id),
            Kind::Deep => self.deep(id),
            Kind::Generator => self.generator(id),
            Kind::Coroutine => self.coroutine(id, false),
            Kind::Consumer => self.coroutine(id, true),
            Kind::AsyncGenerator => self.async_generator(id),
        }
    }

    /// Ends a function that started in line `first`, and in line `leaving` began to leave.
    fn end_function(&mut self, id: usize, first: u32, leaving: u32) {
        let last = self.next() - 1;
        self.functions[id].lines = (first, last);
        self.functions[id].leaving = (leaving, last);
    }

    fn decorator(&mut self, id: usize, wrapper: usize) {
        self.line(0, &format!("def decorate{id}(f):"));
        let first = self.next();
        self.line(1, &format!("def wrapped{id}(s, n):"));
        self.line(2, ENTER);
        let mut body = self.body(wrapper, 2);
        self.call(&mut body, id, "f(s, n)");
        self.end_statement(&mut body);
        let leaving = self.next();
        self.line(2, LEAVE);
        self.line(2, "return n");
        self.end_function(wrapper, first, leaving);
        self.line(1, &format!("return wrapped{id}"));
    }

    /// A function that nothing is raised through, or that catches it.
    fn plain(&mut self, id: usize, indent: usize, head: &str, first: u32) {
        self.line(indent, head);
        if head.contains("key") {
            self.line(indent + 1, "s, n = key");
        }
        self.line(indent + 1, ENTER);
        let guarded = self.chance(2);
        let inner = indent + if guarded { 2 } else { 1 };
        if guarded {
            self.line(indent + 1, "try:");
        }
        let mut body = self.body(id, inner + 1);
        self.line(inner, "if n > 0:");
        self.statements(&mut body);
        let leaving = self.next();
        if guarded {
            self.line(indent + 1, "finally:");
            self.line(indent + 2, LEAVE);
        } else {
            self.line(indent + 1, LEAVE);
        }
        if !head.contains("__init__") {
            self.line(indent + 1, "return n");
        }
        self.end_function(id, first, leaving);
    }

    fn statements(&mut self, body: &mut Body) {
        for _ in 0..1 + self.random.below(3) {
            self.statement(body);
            self.end_statement(body);
        }
    }

    /// A function that raises `Stop` in the end, through all functions like it.
    fn raiser(&mut self, id: usize) {
        let first = self.next();
        self.line(0, &format!("def f{id}(s, n):"));
        self.line(1, ENTER);
        self.line(1, "try:");
        let mut body = self.body(id, 3);
        self.line(2, "if n > 0:");
        if self.chance(2) {
            self.statement(&mut body);
            self.end_statement(&mut body);
        }
        let other = self.one_of(&[Kind::Raiser]);
        let (callee, call) = self.invocation(&other, "n - 1");
        self.call(&mut body, callee, &call);
        self.end_statement(&mut body);
        let leaving = self.next();
        self.line(2, "raise Stop()");
        if self.chance(2) {
            self.line(1, "except Stop:");
            self.line(2, "s[1] = k + 1");
            self.line(2, "raise");
        }
        self.line(1, "finally:");
        self.line(2, LEAVE);
        self.end_function(id, first, leaving);
    }

    fn deep(&mut self, id: usize) {
        let first = self.next();
        self.line(0, &format!("def f{id}(s, n, left):"));
        self.line(1, ENTER);
        let mut body = self.body(id, 2);
        self.line(1, "if left > 0:");
        self.call(&mut body, id, &format!("f{id}(s, n, left - 1)"));
        self.line(1, "else:");
        let other = self.one_of(&[Kind::Plain, Kind::Constructor]);
        let (callee, call) = self.invocation(&other, "n - 1");
        self.call(&mut body, callee, &call);
        self.end_statement(&mut body);
        let leaving = self.next();
        self.line(1, LEAVE);
        self.end_function(id, first, leaving);
    }

    fn generator(&mut self, id: usize) {
        let first = self.next();
        self.line(0, &format!("def f{id}(s, n):"));
        let mut body = self.body(id, 3);
        self.line(1, "for i in range(3):");
        self.line(2, ENTER);
        self.line(2, "if n > 0:");
        self.simple_call(&mut body, "n - 1");
        self.line(2, LEAVE);
        self.line(2, "yield i");
        self.line(1, ENTER);
        self.end_statement(&mut body);
        let leaving = self.next();
        self.line(1, LEAVE);
        self.end_function(id, first, leaving);
    }

    /// A coroutine; a consumer of asynchronous generators, if it is not to be thrown into.
    fn coroutine(&mut self, id: usize, consumer: bool) {
        let first = self.next();
        self.line(0, &format!("async def f{id}(s, n):"));
        self.line(1, ENTER);
        self.line(1, "try:");
        let mut body = self.body(id, 3);
        for _ in 0..1 + self.random.below(3) {
            self.line(2, "if n > 0:");
            body.indent = 3;
            match self.random.below(4) {
                _ if consumer => self.async_loop(&mut body),
                0 => self.statement(&mut body),
                _ => self.awaited(&mut body),
            }
            body.indent = 2;
            self.nap(&mut body);
        }
        self.end_statement(&mut body);
        let leaving = self.next();
        if self.chance(2) {
            self.line(1, "except Stop:");
            self.line(2, "s[1] = k + 1; s[0] = k + 1");
        }
        self.line(1, "finally:");
        // While an exception is thrown through awaits, who awaits leaves the stack for a moment.
        self.line(2, "s[1] = k + 1; s[0] = s[2]");
        self.line(1, "return n");
        self.end_function(id, first, leaving);
    }

    fn awaited(&mut self, body: &mut Body) {
        let other = self.one_of(&[Kind::Coroutine]);
        let (callee, call) = self.invocation(&other, "n - 1");
        self.call(body, callee, &format!("await {call}"));
        self.line(body.indent, "s[0] = k + 1");
    }

    fn async_generator(&mut self, id: usize) {
        let first = self.next();
        self.line(0, &format!("async def f{id}(s, n):"));
        let mut body = self.body(id, 3);
        self.line(1, "for i in range(3):");
        self.line(2, ENTER);
        self.line(2, "if n > 0:");
        if self.chance(2) {
            self.simple_call(&mut body, "n - 1");
        } else {
            self.awaited(&mut body);
        }
        body.indent = 2;
        self.nap(&mut body);
        self.line(2, LEAVE);
        self.line(2, "yield i");
        self.line(1, ENTER);
        self.end_statement(&mut body);
        let leaving = self.next();
        self.line(1, LEAVE);
        self.end_function(id, first, leaving);
    }

    /// What a thread starts with: it takes its place among the records, and gives it up after some rounds.
    pub(crate) fn worker(&mut self) -> usize {
        self.line(0, "");
        let id = self.declare("worker", (0, 0));
        let first = self.next();
        self.line(0, "def worker(slot, rounds, word):");
        for line in [
            "s = RECORDS[slot]; k = 0",
            "s[3] = _thread.get_ident(); s[4] = SYSCALL(GETTID)",
            "s[8] = word; s[0] = 1; s[1] = 1; s[5] = 1",
        ] {
            self.line(1, line);
        }
        self.line(1, "while rounds > 0:");
        self.line(2, "rounds -= 1");
        self.rounds(id);
        let leaving = self.next();
        self.line(1, "s[5] = 0");
        self.end_function(id, first, leaving);
        // Before and after its record counts, it has no callee.
        self.functions[id].leaving = (first, self.next() - 1);
        id
    }

    fn rounds(&mut self, id: usize) {
        let mut body = self.body(id, 2);
        for _ in 0..2 + self.random.below(4) {
            let planned = self.one_of(&[Kind::Plain, Kind::Method, Kind::Constructor, Kind::Item, Kind::Deep]);
            let (callee, call) = self.invocation(&planned, &FUEL.to_string());
            self.call(&mut body, callee, &call);
            self.end_statement(&mut body);
        }
        self.statement_with_fuel(&mut body, &FUEL.to_string());
        self.end_statement(&mut body);
    }

    /// The main thread starts threads, anew where one has ended, and works itself.
    pub(crate) fn main(&mut self, worker: usize) -> usize {
        self.line(0, "");
        let id = self.declare("main", (0, 0));
        let first = self.next();
        self.line(0, "def main(workers, module, word):");
        for line in [
            "s = RECORDS[0]; k = 1",
            "_thread.stack_size(256 << 20); sys.setrecursionlimit(100000)",
            "getattr(sys, 'setswitchinterval', lambda seconds: sys.setcheckinterval(7))(0.0003)",
            "s[3] = _thread.get_ident(); s[4] = os.getpid()",
            "s[8] = module; s[9] = word; s[0] = 2; s[1] = 2; s[5] = 1",
        ] {
            self.line(1, line);
        }
        self.line(1, "while True:");
        let mut body = self.body(id, 2);
        self.line(2, "for slot in range(1, workers + 1):");
        self.line(3, "if RECORDS[slot][5] == 0:");
        self.line(4, "RECORDS[slot][5] = 2");
        let rounds = 3 + self.random.below(40);
        self.line(4, &format!("_thread.start_new_thread(worker, (slot, {rounds}, A{worker}))"));
        self.end_statement(&mut body);
        self.rounds(id);
        let last = self.next() - 1;
        self.functions[id].lines = (first, last);
        self.functions[id].leaving = (first, last);
        id
    }
}
