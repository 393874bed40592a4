use super::*;
use crate::fake::{Fake, tables};
use crate::layout::{Names, Objects, Table};
use crate::walk;
use pyst_memory::Recorder;
use pyst_snapshot::Text;

const BYTES: u64 = 1 << 27;
const TEXT: u64 = 1 << 28;
const TUPLE: u64 = 1 << 26;
const EXCEPTION: u64 = 1 << 30;
const TYPE: u64 = 1 << 31;
const HEAP: u64 = 1 << 9;

/// Where the functions that make an exception's text lie, which nothing here reads.
const SAYS_ARGUMENTS: u64 = 0x1000;
const SAYS_KEY: u64 = 0x2000;
const SAYS_OWN: u64 = 0x3000;

/// A thread in a function `outer`, and what exceptions are made of.
struct Made {
    fake: Fake,
    objects: Objects,
    state: Address,
    root: Address,
    text: Address,
    tuple: Address,
    base: Address,
    traceback: Address,
}

impl Made {
    fn new(table: &'static Table) -> Made {
        let objects = table.layout(table.patches[0]).objects.unwrap();
        let mut fake = Fake::new(table);
        let interpreter = fake.interpreter(0);
        let code = fake.code("outer");
        let shim = fake.code("<shim>");
        let shim = fake.shim(shim, Address(0));
        let frame = fake.frame(code, 2, shim);
        let state = fake.state(interpreter, 1, &[frame]);
        let [root, text, tuple, base, traceback] = [Address(0); 5];
        let mut made = Made { fake, objects, state, root, text, tuple, base, traceback };
        made.root = made.new_type("type", TYPE, 0, Address(0), 0);
        made.fake.put(made.root, table.offsets.object_type, made.root.0);
        let header = objects.object_size.get().unwrap();
        let text_size = table.offsets.text_ascii_data.get();
        made.text = match table.semantics.names {
            Names::Bytes => made.new_type("str", BYTES, table.offsets.bytes_data.get().unwrap(), Address(0), 0),
            Names::Text => made.new_type("str", TEXT, text_size.unwrap(), Address(0), 0),
        };
        made.tuple = made.new_type("tuple", TUPLE, header + 8, Address(0), 0);
        let size = objects.exception_size.get().unwrap();
        let name = if made.is_python_2() { "exceptions.BaseException" } else { "BaseException" };
        made.base = made.new_type(name, EXCEPTION, size, Address(0), SAYS_ARGUMENTS);
        made.traceback = made.new_type("traceback", 0, header, Address(0), 0);
        made
    }

    fn is_python_2(&self) -> bool {
        self.fake.table.semantics.names == Names::Bytes
    }

    fn new_type(&mut self, name: &str, flags: u64, size: u64, base: Address, says: u64) -> Address {
        let objects = self.objects;
        let whole = objects.type_size.get().unwrap().max(objects.type_heap_size.get().unwrap_or(0));
        let made = self.fake.allocate(whole);
        let text = self.fake.allocate(64);
        self.fake.put_bytes(text, Field(0), name.as_bytes());
        self.fake.put(made, self.fake.table.offsets.type_name, text.0);
        self.fake.put(made, self.fake.table.offsets.object_type, self.root.0);
        self.fake.put(made, objects.type_flags, flags);
        self.fake.put(made, objects.type_basic_size, size);
        self.fake.put(made, objects.type_base, base.0);
        self.fake.put(made, objects.type_str, says);
        made
    }

    fn object(&mut self, its_type: Address, size: u64) -> Address {
        let object = self.fake.allocate(size);
        self.fake.put(object, self.fake.table.offsets.object_type, its_type.0);
        object
    }

    fn string(&mut self, text: &str) -> Address {
        let made = self.fake.text(text);
        self.fake.put(made, self.fake.table.offsets.object_type, self.text.0);
        made
    }

    fn none(&mut self) -> Address {
        let header = self.objects.object_size.get().unwrap();
        let its_type = self.new_type("NoneType", 0, header, Address(0), 0);
        self.object(its_type, header)
    }

    /// An exception with these arguments.
    fn exception(&mut self, its_type: Address, arguments: &[Address]) -> Address {
        let items = self.objects.tuple_items.get().unwrap();
        let tuple = self.object(self.tuple, items + 8 * arguments.len() as u64);
        self.fake.put(tuple, self.objects.object_items, arguments.len() as u64);
        for (index, argument) in (0..).zip(arguments) {
            self.fake.put(tuple, Field(u32::try_from(items).unwrap() + 8 * index), argument.0);
        }
        let exception = self.object(its_type, self.objects.exception_size.get().unwrap() + 40);
        self.fake.put(exception, self.objects.exception_args, tuple.0);
        exception
    }

    /// One of a class of Python's own, derived from the base.
    fn value_error(&mut self, text: &str) -> Address {
        let size = self.objects.exception_size.get().unwrap();
        let its_type = self.new_type("ValueError", EXCEPTION, size, self.base, SAYS_ARGUMENTS);
        let text = self.string(text);
        self.exception(its_type, &[text])
    }

    /// An entry of a traceback, of a function that is at a unit of its code.
    fn entry(&mut self, function: &str, unit: u64, next: Address) -> Address {
        let code = self.fake.code(function);
        let mut frame = self.fake.frame(code, 0, Address(0));
        if let Some(place) = self.objects.frame_object_frame.get() {
            let object = self.fake.allocate(place + 8);
            self.fake.put_type(object, "frame");
            self.fake.put(object, self.objects.frame_object_frame, frame.0);
            frame = object;
        }
        let entry = self.object(self.traceback, self.objects.trace_line.get().unwrap() + 4);
        self.fake.put(entry, self.objects.trace_next, next.0);
        self.fake.put(entry, self.objects.trace_frame, frame.0);
        self.fake.put32(entry, self.objects.trace_instruction, 2 * u32::try_from(unit).unwrap());
        self.fake.put32(entry, self.objects.trace_line, u32::MAX);
        entry
    }

    /// Makes the thread handle an exception with this traceback; what it handled before, it handles outside.
    fn handle(&mut self, exception: Address, traceback: Address) -> Option<Address> {
        let (offsets, objects) = (self.fake.table.offsets, self.objects);
        let class = if exception.is_null() { Address(0) } else { self.base };
        // From 3 on an exception has it itself.
        if !traceback.is_null() {
            self.fake.put(exception, objects.exception_trace, traceback.0);
        }
        let Some(place) = offsets.thread_handled.of(self.state) else {
            self.fake.put(self.state, offsets.thread_handled_type, class.0);
            self.fake.put(self.state, offsets.thread_handled_value, exception.0);
            self.fake.put(self.state, offsets.thread_handled_trace, traceback.0);
            return None;
        };
        let outside = self.fake.image().read_address(place).unwrap();
        let item = self.fake.allocate(objects.handled_previous.get().unwrap() + 8);
        self.fake.put(item, objects.handled_type, class.0);
        self.fake.put(item, objects.handled_value, exception.0);
        self.fake.put(item, objects.handled_trace, traceback.0);
        self.fake.put(item, objects.handled_previous, outside.0);
        self.fake.put(self.state, offsets.thread_handled, item.0);
        Some(item)
    }

    fn found(&self) -> (Option<PythonException>, Python, Vec<Diagnostic>) {
        let image = self.fake.image();
        let walked = walk(&self.fake.found(), &[], &image);
        assert_eq!((walked.diagnostics, walked.unsettled), (vec![], false), "{}", self.fake.table.name);
        let mut python = walked.python;
        let diagnostics = exceptions(&self.fake.found(), &python, &image).add_to(&mut python);
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::INFO));
        (python.states[0].exception.clone(), python, diagnostics)
    }

    fn message(&self) -> Option<Text> {
        self.found().0.unwrap().message
    }

    fn codes(&self) -> Vec<String> {
        self.found().2.into_iter().map(|diagnostic| diagnostic.code).collect()
    }
}

fn all() -> impl Iterator<Item = Made> {
    tables().into_iter().map(Made::new)
}

#[test]
fn an_exception_has_its_type_its_message_and_where_it_was_raised() {
    assert!(all().count() >= 11);
    for mut made in all() {
        let exception = made.value_error("bad");
        let inner = made.entry("inner", 3, Address(0));
        let outer = made.entry("outer", 1, inner);
        made.handle(exception, outer);
        let (found, python, diagnostics) = made.found();
        let found = found.unwrap();
        assert_eq!(diagnostics, [], "{}", made.fake.table.name);
        assert_eq!((found.type_name.as_str(), found.message), ("ValueError", Some(Text::from("bad"))));
        let comma = if made.fake.table.semantics.spelling.bare { "," } else { "" };
        assert_eq!((found.repr, found.truncated), (Some(format!("ValueError('bad'{comma})")), false));
        let raised = found.raised.unwrap();
        assert_eq!(python.codes[raised.code as usize].function, Text::from("inner"));
        assert_eq!(raised.line, Some(14));
    }
}

#[test]
fn a_line_that_the_traceback_states_counts() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let entry = made.entry("inner", 3, Address(0));
        made.fake.put32(entry, made.objects.trace_line, 77);
        made.handle(exception, entry);
        assert_eq!(made.found().0.unwrap().raised.unwrap().line, Some(77));
    }
}

#[test]
fn code_that_a_frame_runs_is_named_once() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let entry = made.entry("outer", 3, Address(0));
        // The frame of the walk, and the entry's, run the same code.
        let frame = made.found().1.states[0].frames[0].address;
        let object = match made.objects.frame_object_frame.get() {
            Some(place) => {
                let object = made.fake.allocate(place + 8);
                made.fake.put_type(object, "frame");
                made.fake.put(object, made.objects.frame_object_frame, frame.0);
                object
            }
            None => frame,
        };
        made.fake.put(entry, made.objects.trace_frame, object.0);
        made.handle(exception, entry);
        let (found, python, _) = made.found();
        assert_eq!(found.unwrap().raised.unwrap().code, python.states[0].frames[0].code);
        assert_eq!(python.codes.len(), 1);
    }
}

#[test]
fn what_handles_none_of_its_own_handles_what_is_outside() {
    for mut made in all().filter(|made| made.fake.table.offsets.thread_handled.get().is_some()) {
        let exception = made.value_error("outside");
        made.handle(exception, Address(0));
        made.handle(Address(0), Address(0));
        let none = made.none();
        let item = made.handle(none, Address(0)).unwrap();
        made.fake.put(item, made.objects.handled_type, none.0);
        assert_eq!(made.message(), Some(Text::from("outside")), "{}", made.fake.table.name);
    }
}

#[test]
fn a_thread_that_handles_nothing_has_no_exception() {
    for mut made in all() {
        assert_eq!((made.found().0, made.codes()), (None, vec![]));
        made.handle(Address(0), Address(0));
        assert_eq!((made.found().0, made.codes()), (None, vec![]));
    }
}

#[test]
fn who_makes_the_text_of_an_exception_is_known_by_its_slot_and_not_by_its_name() {
    for mut made in all() {
        let size = made.objects.exception_size.get().unwrap();
        let key = made.new_type("KeyError", EXCEPTION, size, made.base, SAYS_KEY);
        let derived = made.new_type("ext.Missing", EXCEPTION, size, key, SAYS_KEY);
        let own = made.new_type("ext.Own", EXCEPTION, size, key, SAYS_OWN);
        let called = made.new_type("KeyError", EXCEPTION | HEAP, size, made.base, SAYS_KEY);
        let of_called = made.new_type("ext.Called", EXCEPTION, size, called, SAYS_KEY);
        let larger = made.new_type("KeyError", EXCEPTION, size + 8, made.base, SAYS_KEY);
        let text = made.string("spam");
        for (its_type, expected) in
            [(key, Some("'spam'")), (derived, Some("'spam'")), (own, None), (larger, None), (of_called, None)]
        {
            let exception = made.exception(its_type, &[text]);
            made.handle(exception, Address(0));
            assert_eq!(made.message(), expected.map(Text::from), "{}", made.fake.table.name);
        }
        // The module of a class is in its namespace, which this one has not.
        let exception = made.exception(called, &[text]);
        made.handle(exception, Address(0));
        assert_eq!((made.found().0, made.codes()), (None, vec!["exception-lost".to_owned()]));
    }
}

#[test]
fn arguments_say_what_str_would() {
    for mut made in all() {
        let (text, other) = (made.string("it's"), made.string("b"));
        let (base, none) = (made.base, made.none());
        let inner = made.exception(base, &[text]);
        for (arguments, expected) in [
            (vec![], Some("")),
            (vec![inner], Some("it's")),
            (vec![none], Some("None")),
            (vec![text, other, none], Some("(\"it's\", 'b', None)")),
            (vec![text, inner], None),
            (vec![text; 17], None),
        ] {
            let exception = made.exception(base, &arguments);
            made.handle(exception, Address(0));
            assert_eq!(made.message(), expected.map(Text::from), "{}", made.fake.table.name);
        }
    }
}

#[test]
fn what_is_long_is_cut_and_said_to_be() {
    for mut made in all() {
        let exception = made.value_error(&"x".repeat(5000));
        made.handle(exception, Address(0));
        let found = made.found().0.unwrap();
        assert_eq!((found.message.unwrap().0.len(), found.truncated), (1000, true));
        assert!(found.repr.unwrap().len() < 300);
    }
}

#[test]
fn chains_that_do_not_end_cost_what_they_lead_to_only() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let inner = made.entry("inner", 3, Address(0));
        let outer = made.entry("outer", 1, inner);
        made.fake.put(inner, made.objects.trace_next, outer.0);
        let item = made.handle(exception, outer);
        let found = made.found().0.unwrap();
        assert_eq!((found.message, found.raised), (Some(Text::from("bad")), None));
        assert_eq!(made.codes(), ["exception-place-unknown"]);
        if let Some(item) = item {
            made.fake.put(item, made.objects.handled_type, 0);
            made.fake.put(item, made.objects.handled_value, 0);
            made.fake.put(item, made.objects.handled_previous, item.0);
            assert_eq!((made.found().0, made.codes()), (None, vec!["exception-lost".to_owned()]));
        }
    }
}

#[test]
fn a_traceback_has_a_limit() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let mut entry = made.entry("inner", 3, Address(0));
        let frame = made.fake.image().read_address(made.objects.trace_frame.of(entry).unwrap()).unwrap();
        for _ in 0..=ENTRIES {
            let outer = made.object(made.traceback, made.objects.trace_line.get().unwrap() + 4);
            made.fake.put(outer, made.objects.trace_next, entry.0);
            made.fake.put(outer, made.objects.trace_frame, frame.0);
            entry = outer;
        }
        made.handle(exception, entry);
        assert_eq!((made.found().0.unwrap().raised, made.codes()), (None, vec!["exception-place-unknown".to_owned()]));
    }
}

#[test]
fn what_is_no_exception_is_not_shown_as_one() {
    for mut made in all() {
        let text = made.string("no exception");
        made.handle(text, Address(0));
        let found = made.found();
        if made.objects.handled_type.get().is_none() && made.fake.table.offsets.thread_handled.get().is_some() {
            assert_eq!((found.0, made.codes()), (None, vec!["exception-lost".to_owned()]), "{}", made.fake.table.name);
        } else {
            // It would be made of that.
            let found = found.0.unwrap();
            assert_eq!((found.type_name.as_str(), found.message), ("BaseException", None));
            assert_eq!(found.repr.as_deref(), Some("'no exception'"), "{}", made.fake.table.name);
        }
        made.handle(Address(0x6660), Address(0));
        assert_eq!(made.found().0, None);
        assert_eq!(made.codes(), ["exception-lost"]);
    }
}

#[test]
fn counts_that_can_not_be_cost_the_message_only() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let tuple = made.fake.image().read_address(made.objects.exception_args.of(exception).unwrap()).unwrap();
        made.handle(exception, Address(0));
        for count in [1 << 20, 1 << 40, u64::MAX] {
            made.fake.put(tuple, made.objects.object_items, count);
            assert_eq!(made.message(), None);
            assert_eq!(made.found().0.unwrap().type_name, "ValueError");
        }
    }
}

#[test]
fn a_recorder_has_all_that_an_exception_needs() {
    for mut made in all() {
        let exception = made.value_error("bad");
        let entry = made.entry("inner", 3, Address(0));
        made.handle(exception, entry);
        let expected = made.found().0;
        let python = walk(&made.fake.found(), &[], &made.fake.image()).python;
        let recorder = Recorder::new(made.fake.image());
        let _ = exceptions(&made.fake.found(), &python, &recorder);
        // The descriptions of layouts and the like are read by the walk.
        let image = recorder.into_image();
        let mut again = python.clone();
        assert_eq!(exceptions(&made.fake.found(), &python, &image).add_to(&mut again), []);
        assert_eq!(again.states[0].exception, expected);
    }
}

#[test]
fn damaged_bytes_are_survived() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    };
    for mut made in all() {
        let size = made.objects.exception_size.get().unwrap();
        let text = made.string("text");
        let system = made.new_type("OSError", EXCEPTION, size + 40, made.base, SAYS_OWN);
        let codec = made.new_type("UnicodeDecodeError", EXCEPTION, size + 40, made.base, SAYS_KEY);
        let entry = made.entry("inner", 3, Address(0));
        let python = made.found().1;
        let mut shown = 0;
        for (its_type, rounds) in [(system, 150), (codec, 150)] {
            let exception = made.exception(its_type, &[text, text]);
            for place in 0..5 {
                made.fake.put(exception, Field(u32::try_from(size).unwrap() + 8 * place), text.0);
            }
            made.handle(exception, entry);
            let sound = made.fake.parts.clone();
            let starts: Vec<u64> = sound.keys().copied().collect();
            for _ in 0..rounds {
                for _ in 0..=next() % 4 {
                    let part = starts[next() as usize % starts.len()];
                    let bytes = made.fake.parts.get_mut(&part).unwrap();
                    let at = next() as usize % bytes.len().min(128);
                    let value = [0, 1, 8, 0x7f, 0xff, next() as u8][next() as usize % 6];
                    bytes[at] = value;
                    let pointer = starts[next() as usize % starts.len()].to_le_bytes();
                    if next() % 2 == 0
                        && let Some(word) = bytes.get_mut(at / 8 * 8..at / 8 * 8 + 8)
                    {
                        word.copy_from_slice(&pointer);
                    }
                }
                let mut python = python.clone();
                let said = exceptions(&made.fake.found(), &python, &made.fake.image()).add_to(&mut python);
                shown += usize::from(python.states[0].exception.is_some());
                assert!(said.len() <= 2);
                made.fake.parts = sound.clone();
            }
        }
        assert!(shown > 100, "{}: {shown}", made.fake.table.name);
    }
}
