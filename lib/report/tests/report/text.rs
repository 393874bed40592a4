//! Text output, against what PyStack's format asks for.

use crate::build::{Sections, core, ident, living};
use pyst_report::text::{self, Options};
use pyst_report::{Assembly, Report};
use pyst_snapshot::payload::*;
use pyst_snapshot::{Address, Ident, Text, Tid};

fn show(sections: &Sections, options: &Options) -> String {
    let (mut out, mut one_by_one) = (Vec::new(), Vec::new());
    text::write(&Report::of_snapshot(&sections.snapshot()), options, &mut out).unwrap();
    let decoded = pyst_report::Sections::of_snapshot(sections.snapshot());
    text::write_assembly(&Assembly::of_sections(&decoded), options, &mut one_by_one).unwrap();
    assert_eq!(out, one_by_one);
    String::from_utf8(out).unwrap()
}

fn plain(sections: &Sections) -> String {
    show(sections, &Options::default())
}

/// The part of the text about one thread.
fn of_thread(text: &str, tid: u32) -> &str {
    let start = text.find(&format!("thread {tid} ")).unwrap();
    let rest = &text[start..];
    &rest[..rest.find("\n\n").map_or(rest.len(), |end| end + 1)]
}

#[test]
fn a_living_process_reads_as_pystack_would_print_it() {
    let expected = r#"Traceback for thread 112 (MainThread) [Has the GIL,Garbage collecting] (most recent call last):
    (C) File "???", line 0, in _start (/usr/bin/python3.12)
    (C) File "???", line 0, in ??? (/usr/bin/python3.12)
    (C) File "Modules/main.c", line 710, in pymain_main (/usr/bin/python3.12)
    (Python) File "/t/t1.py", line 9, in <module>
        main()
    (Python) File "/t/t1.py", line 6, in main
    (C) File "???", line 0, in list_sort_impl (/usr/bin/python3.12)
    (Python) File "/t/t1.py", line 4, in key
        time.sleep(1000)
    (C) File "???", line 0, in time_sleep (/usr/bin/python3.12)
    (C) File "???", line 0, in pysleep (inlined) (/usr/bin/python3.12)
    (C) File "???", line 0, in clock_nanosleep (/lib/libc.so.6)

Traceback for thread 113 (Thread-1 (work)) [Waiting for the GIL] (most recent call last):
    (C) … stack ends here: no-cfi
    (Python) File "/t/work.py", line 7, in run
        queue.get() [file changed since the process started]
    (C) File "???", line 0, in poll (/lib/libc.so.6)
"#;
    assert_eq!(plain(&living()), expected);
}

#[test]
fn without_native_frames_there_are_python_frames_only() {
    let mut sections = living();
    sections.native = None;
    let expected = r#"Traceback for thread 112 (MainThread) [Has the GIL,Garbage collecting] (most recent call last):
    (Python) File "/t/t1.py", line 9, in <module>
        main()
    (Python) File "/t/t1.py", line 6, in main
    (Python) File "/t/t1.py", line 4, in key
        time.sleep(1000)

Traceback for thread 113 (Thread-1 (work)) [Waiting for the GIL] (most recent call last):
    (Python) File "/t/work.py", line 7, in run
        queue.get() [file changed since the process started]
"#;
    assert_eq!(plain(&sections), expected);
}

#[test]
fn the_other_threads_come_with_all_threads_and_the_interpreters_frames_on_request() {
    let all = show(&living(), &Options { all_threads: true, ..Options::default() });
    let expected = "thread 114 (io) [] (most recent call last):
    (C) … stack ends here: no-module
    (C) File \"???\", line 0, in ??? (???)
    (C) File \"???\", line 0, in poll (/lib/libc.so.6)
";
    assert_eq!(of_thread(&all, 114), expected);
    let internals = show(&living(), &Options { native_internals: true, ..Options::default() });
    let expected = r#"    (C) File "???", line 0, in _PyEval_EvalFrameDefault (/usr/bin/python3.12)
    (Python) File "/t/t1.py", line 9, in <module>
        main()
    (Python) File "/t/t1.py", line 6, in main
    (C) File "???", line 0, in list_sort_impl (/usr/bin/python3.12)
    (C) File "???", line 0, in _PyEval_Vector (/usr/bin/python3.12)
    (C) File "???", line 0, in _PyEval_EvalFrameDefault (/usr/bin/python3.12)
    (Python) File "/t/t1.py", line 4, in key
"#;
    assert!(internals.contains(expected), "{internals}");
}

#[test]
fn only_the_native_frames_of_the_innermost_call_are_shown_on_request() {
    let all = show(&living(), &Options::default());
    let last = show(&living(), &Options { native_last: true, ..Options::default() });
    let native = |text: &str| {
        text.lines().filter(|line| line.starts_with("    (C) File")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(all.contains("in list_sort_impl") && !last.contains("in list_sort_impl"), "{last}");
    let python = |text: &str| {
        text.lines().filter(|line| !line.starts_with("    (C) File")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(python(&all), python(&last));
    // What the innermost Python frame called is all there still.
    assert!(!native(&last).is_empty() && native(&all).ends_with(&native(&last)), "{last}");
}

#[test]
fn a_process_without_an_interpreter_shows_all_its_threads() {
    let mut sections = living();
    sections.python = None;
    sections.runtime = Some(Runtime::default());
    let text = plain(&sections);
    assert!(
        text.starts_with("No Python interpreter was found in this process.\n\nTraceback for thread 112 "),
        "{text}"
    );
    assert_eq!(text.matches("Traceback for thread").count(), 3);
    // A runtime section that was lost is no proof that there is none.
    sections.runtime = None;
    assert!(plain(&sections).starts_with("Traceback for thread 112 "));
}

#[test]
fn a_snapshot_that_pyst_py_has_not_seen_says_so_and_shows_its_native_side() {
    let mut sections = living();
    sections.python = None;
    let text = plain(&sections);
    assert!(text.starts_with("This snapshot has no Python frames yet: pyst-py adds them.\n\nTraceback"), "{text}");
    assert_eq!(text.matches("Traceback for thread").count(), 3);
}

#[test]
fn an_empty_stack_has_a_line_of_its_own() {
    let mut sections = living();
    sections.native = None;
    sections.state(113).frames.clear();
    assert!(plain(&sections).ends_with("\n\nThe frame stack for thread 113 is empty\n"));
}

#[test]
fn frames_that_could_not_be_read_are_said_to_be_missing() {
    let mut sections = living();
    sections.native = None;
    sections.state(112).end = FrameChainEnd::UNREADABLE;
    sections.state(113).end = FrameChainEnd::NOT_RECORDED;
    sections.state(113).frames.clear();
    let text = plain(&sections);
    let first =
        "(most recent call last):\n    (Python) … frames end here: unreadable\n    (Python) File \"/t/t1.py\", line 9";
    assert!(text.contains(first), "{text}");
    let second = "thread 113 (Thread-1 (work)) [Waiting for the GIL] (most recent call last):\n    (Python) … frames end here: not-recorded\n";
    assert_eq!(of_thread(&text, 113), second);
}

#[test]
fn when_no_thread_runs_python_the_reader_is_told_where_to_look() {
    let mut sections = living();
    sections.python.as_mut().unwrap().states.clear();
    assert_eq!(plain(&sections), "No thread runs Python code; --all-threads shows those that do not.\n");
}

#[test]
fn a_core_file_taken_on_demand_did_not_die() {
    let mut sections = core();
    sections.process.as_mut().unwrap().exe_found = "in the core file".to_owned();
    sections.process.as_mut().unwrap().cmdline = vec!["/usr/bin/python3.12 /t/t1.py".into()];
    let expected = "Using executable found in the core file: /usr/bin/python3.12

Core file information:
state: S zombie: False niceness: 0
pid: 112 ppid: 100 sid: 90
uid: 0 gid: 0 pgrp: 112
executable: python3 arguments: /usr/bin/python3.12 /t/t1.py

The core file seems to have been generated on demand (the process did not crash)

Traceback for thread 112 (MainThread) [Has the GIL,Garbage collecting] (most recent call last):
";
    assert!(plain(&sections).starts_with(expected), "{}", plain(&sections));
}

#[test]
fn a_crash_names_its_signal_and_its_thread_comes_first() {
    let mut sections = core();
    sections.threads.as_mut().unwrap().threads[2].crashed = true;
    sections.process.as_mut().unwrap().exe = None;
    sections.process.as_mut().unwrap().sid = None;
    sections.process.as_mut().unwrap().signal =
        Some(Signal { number: 11, code: 1, tid: Tid(114), fault_address: Some(Address(0x1234)), ..Signal::default() });
    let text = plain(&sections);
    let expected = "
executable: python3 arguments: /usr/bin/python3.12 /t/t1.py

The process died due a segmentation fault accessing address: 0x1234

Traceback for thread 114 (io) [] (most recent call last):
";
    assert!(text.starts_with("Core file information:\n") && text.contains("ppid: 100 sid: unknown\n"), "{text}");
    assert!(text.contains(expected), "{text}");
}

#[test]
fn snapshots_of_a_stream_are_told_apart() {
    let second = show(&living(), &Options { snapshot: Some(1), ..Options::default() });
    assert!(second.starts_with("\nSnapshot 2: process 112 (python3)\n\nTraceback for thread 112 "), "{second}");
    assert!(show(&living(), &Options { snapshot: Some(0), ..Options::default() }).starts_with("Snapshot 1: "));
}

#[test]
fn frames_of_several_interpreters_say_whose_they_are() {
    let mut sections = living();
    let python = sections.python.as_mut().unwrap();
    python.interpreters.insert(0, InterpreterV1 { id: 3, address: Address(0x6100), ..InterpreterV1::default() });
    python.states[0].interpreter = 0;
    python.states[1].interpreter = 1;
    sections.native = None;
    let text = plain(&sections);
    let expected = "(most recent call last):\n  In the main interpreter [Has the GIL,Garbage collecting]\n    (Python) File \"/t/t1.py\", line 9";
    assert_eq!(text.matches("  In ").count(), 2, "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains(
            "(most recent call last):\n  In interpreter 3 [Waiting for the GIL]\n    (Python) File \"/t/work.py\""
        ),
        "{text}"
    );
}

#[test]
fn what_a_thread_does_stands_in_its_header() {
    let mut sections = living();
    let state = sections.state(113);
    state.gil = Some(GilState::DROPPING);
    state.attachment = Some(Attachment::SUSPENDED);
    assert!(plain(&sections).contains("thread 113 (Thread-1 (work)) [Dropping the GIL,Suspended] (most"));
    let state = sections.state(113);
    (state.gil, state.attachment) = (Some(GilState::NONE), Some(Attachment::ATTACHED));
    assert!(plain(&sections).contains("thread 113 (Thread-1 (work)) [] (most"));
}

#[test]
fn functions_of_the_interpreter_tell_what_its_structures_do_not() {
    let mut sections = living();
    sections.state(112).gc_collecting = None;
    sections.state(113).gc_collecting = None;
    sections.state(113).gil = None;
    assert!(plain(&sections).contains("thread 113 (Thread-1 (work)) [] (most"));
    assert!(plain(&sections).contains("thread 112 (MainThread) [Has the GIL] (most"));
    // `poll` becomes what takes the GIL, and `list_sort_impl` what collects.
    let rename = |sections: &mut Sections, from: &str, to: &str| {
        let functions = &mut sections.native.as_mut().unwrap().functions;
        let function = functions.iter_mut().find(|function| function.raw_symbol == from.into()).unwrap();
        (function.function, function.raw_symbol) = (to.into(), to.into());
    };
    rename(&mut sections, "poll", "take_gil");
    rename(&mut sections, "list_sort_impl", "gc_collect_main");
    let text = plain(&sections);
    assert!(text.contains("thread 112 (MainThread) [Has the GIL,Garbage collecting] (most"), "{text}");
    let in_libc = "a function of that name in the C library takes no GIL";
    assert!(text.contains("thread 113 (Thread-1 (work)) [] (most"), "{in_libc}: {text}");
    (0..2).for_each(|frame| sections.place(113, frame).module = Some(0));
    assert!(plain(&sections).contains("thread 113 (Thread-1 (work)) [Waiting for the GIL] (most"));
}

#[test]
fn a_frame_whose_variables_were_not_read_is_not_shown_as_one_that_has_none() {
    let mut sections = living();
    let variable = Variable { name: "order".into(), repr: Some("7".to_owned()), ..Variable::default() };
    let of = |frame, variables| FrameVariables { state: 1, frame, variables, more: 0 };
    sections.variables = Some(Variables { frames: vec![of(0, vec![variable]), of(1, Vec::new())] });
    let text = plain(&sections);
    assert_eq!(text.matches("order: 7").count(), 1, "{text}");
    // The outermost frame of that state, and the only one of the other.
    assert_eq!(text.matches("      [arguments and locals: not read]\n").count(), 2, "{text}");
    let json = serde_json::to_value(Report::of_snapshot(&sections.snapshot())).unwrap();
    let frames = json["threads"][0]["frames"].as_array().unwrap();
    let python: Vec<_> = frames.iter().filter(|frame| frame["kind"] == "python").collect();
    assert!(python[0]["arguments"].is_null() && python[0]["variables_lost"] == true);
    assert!(python[1]["arguments"] == serde_json::json!([]) && python[1]["variables_lost"] == false);
}

#[test]
fn the_interpreter_that_made_a_thread_names_it_and_it_waits_for_a_gil_once() {
    let mut sections = living();
    let mut outer = sections.state(113).clone();
    (outer.address, outer.frames, outer.runs) = (Address(0x9000), Vec::new(), Vec::new());
    (outer.name, outer.gil) = (Some(Text::from("host")), Some(GilState::WAITING));
    sections.python.as_mut().unwrap().states.push(outer);
    let json = serde_json::to_value(Report::of_snapshot(&sections.snapshot())).unwrap();
    let thread = json["threads"].as_array().unwrap().iter().find(|thread| thread["tid"] == 113).unwrap();
    assert_eq!((&thread["name"], &thread["gil"]), (&"host".into(), &"waiting".into()));
    assert_eq!(thread["python_states"][1]["gil"], "none");
}

#[test]
fn a_state_of_no_thread_is_shown_last() {
    let mut sections = living();
    sections.state(113).tid = None;
    let text = plain(&sections);
    let last = &text[text.rfind("Traceback").unwrap()..];
    assert!(
        last.starts_with(
            "Traceback for thread ??? (Thread-1 (work)) [Waiting for the GIL] (most recent call last):\n    (Python) File \"/t/work.py\""
        )
    );
}

#[test]
fn strings_of_the_target_cannot_drive_the_terminal_or_forge_a_line() {
    let mut sections = core();
    let hostile = "\x1b[2J\nTraceback for thread 1 (x) [] (most recent call last):\r\u{9b}5m\u{202e}\u{2028}\x07";
    sections.process.as_mut().unwrap().name = hostile.into();
    sections.process.as_mut().unwrap().exe = Some(hostile.into());
    sections.process.as_mut().unwrap().exe_found = hostile.to_owned();
    sections.process.as_mut().unwrap().cmdline = vec![hostile.into()];
    sections.process.as_mut().unwrap().state = Some(0x1b);
    sections.threads.as_mut().unwrap().threads[0].name = Some(hostile.into());
    sections.state(112).name = Some(hostile.into());
    sections.modules.as_mut().unwrap().modules[0].path = hostile.into();
    sections.native.as_mut().unwrap().functions[4].function = hostile.into();
    sections.python.as_mut().unwrap().codes[1].function = hostile.into();
    sections.python.as_mut().unwrap().codes[0].file = hostile.into();
    sections.source.as_mut().unwrap().files[1].lines[0].text = hostile.to_owned();
    let text = show(&sections, &Options { all_threads: true, snapshot: Some(0), ..Options::default() });
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{2028}')));
    assert_eq!(text.lines().filter(|line| line.starts_with("Traceback")).count(), 3);
    let shown = r"\x1b[2J\nTraceback for thread 1 (x) [] (most recent call last):\r\x9b5m\u202e\u2028\x07";
    assert!(text.contains(&format!(
        "Traceback for thread 112 ({shown}) [Has the GIL,Garbage collecting] (most recent call last):\n"
    )));
    assert!(text.contains(&format!("line 6, in {shown}\n")));
}

#[test]
fn colour_changes_nothing_but_colours() {
    let colored = show(&living(), &Options { color: true, ..Options::default() });
    assert!(colored.contains('\x1b'));
    let mut stripped = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain(&living()));
    assert!(!plain(&living()).contains('\x1b'));
}

#[test]
fn names_that_are_no_utf8_are_marked() {
    let mut sections = living();
    sections.python.as_mut().unwrap().codes[3].function = Text(b"na\xc3\xafve\xed\xb3\xbf".to_vec());
    sections.state(113).ident = Ident(ident(113));
    assert!(plain(&sections).contains("line 7, in naïve\\udcff\n"));
}

#[test]
fn an_exception_that_is_handled_has_a_line_after_the_innermost_frame() {
    let mut sections = living();
    sections.state(113).exception = Some(PythonException {
        type_name: "ValueError".to_owned(),
        message: Some(Text::from("no\nsuch \u{1b}[31mthing")),
        raised: Some(Raised { code: 2, line: Some(4) }),
        ..PythonException::default()
    });
    let line = "    Handling ValueError: no\\nsuch \\x1b[31mthing (raised at File \"/t/t1.py\", line 4, in key)\n";
    let text = plain(&sections);
    assert!(of_thread(&text, 113).ends_with(line), "{text}");
    assert_eq!(text.matches("Handling").count(), 1);
    // Where one of several interpreters has it, that is said.
    let python = sections.python.as_mut().unwrap();
    python.interpreters.push(InterpreterV1 { id: 3, ..InterpreterV1::default() });
    sections.state(113).interpreter = 1;
    let text = plain(&sections);
    assert!(text.contains("[31mthing in interpreter 3 (raised at"), "{text}");
}
