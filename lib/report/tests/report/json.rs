//! JSON output, and its schema.

use crate::build::{Sections, core, living};
use pyst_report::json::{self, Layout};
use pyst_report::schema;
use pyst_report::{Assembly, Report};
use pyst_snapshot::payload::*;
use pyst_snapshot::{Address, Bytes, Snapshot, Text, Tid};
use serde_json::{Value, json};

pub(crate) fn value(snapshot: &Snapshot) -> Value {
    let sections = pyst_report::Sections::of_snapshot(snapshot.clone());
    for layout in [Layout::Pretty, Layout::Line] {
        let (mut out, mut one_by_one) = (Vec::new(), Vec::new());
        json::write(&Report::of_snapshot(snapshot), layout, &mut out).unwrap();
        json::write_assembly(&Assembly::of_sections(&sections), layout, &mut one_by_one).unwrap();
        assert_eq!(out, one_by_one);
    }
    let mut out = Vec::new();
    json::write(&Report::of_snapshot(snapshot), Layout::Line, &mut out).unwrap();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&out).unwrap()
}

fn assert_valid(value: &Value) {
    let schema = jsonschema::validator_for(&schema::schema()).unwrap();
    let errors: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_report_has_the_documented_shape() {
    let report = value(&living().snapshot());
    assert_valid(&report);
    assert_eq!((&report["schema"], &report["version"]), (&json!("pyst.report"), &json!(1)));
    assert_eq!(
        report["snapshot"],
        json!({
            "source": "live", "arch": "x86_64", "captured_at": "2023-11-14T22:13:20.123456789Z", "blocking": "stopped",
            "stopped_ns": 87_654, "stopped_bytes": 20_480, "complete": true, "tool": "pyst-grab 0.1.0", "host": "build-7"
        })
    );
    assert_eq!(
        report["python"],
        json!({
            "version": "3.12.1", "implementation": "CPython", "free_threaded": false, "debug": false,
            "found_by": "section", "version_found_by": "symbol", "layout": "3.12.1", "layout_source": "table",
            "finalizing": false, "interpreters": [{ "id": 0, "gil_holder_tid": 112, "gc_collecting": true, "world_stopped": null }]
        })
    );
    assert_eq!(report["process"]["cmdline"], json!(["/usr/bin/python3.12", "/t/t1.py"]));
    assert_eq!(report["process"]["started_at"], json!("2023-11-14T22:13:19.000000000Z"));
    assert_eq!(report["diagnostics"], json!([]));
}

#[test]
fn a_thread_has_the_exception_that_it_handles() {
    let mut sections = living();
    let exception = PythonException {
        type_name: "app.Bad".to_owned(),
        message: Some(Text(b"a\xed\xb3\xbfb\n".to_vec())),
        repr: Some("Bad(1)".to_owned()),
        truncated: true,
        raised: Some(Raised { code: 2, line: Some(4) }),
    };
    sections.state(113).exception = Some(exception.clone());
    let told = |sections: &Sections| {
        let report = value(&sections.snapshot());
        let thread = &report["threads"][1];
        assert_eq!(thread["exception"], thread["python_states"][0]["exception"]);
        thread["exception"].clone()
    };
    assert_eq!(
        told(&sections),
        json!({
            "type": "app.Bad", "message": "a\\udcffb\n", "repr": "Bad(1)", "truncated": true,
            "file": "/t/t1.py", "line": 4, "function": "key"
        })
    );
    // Code that is not there says nothing of the line either.
    let raised = Some(Raised { code: 9, line: Some(4) });
    sections.state(113).exception = Some(PythonException { raised, message: None, ..exception });
    assert_eq!(
        told(&sections),
        json!({
            "type": "app.Bad", "message": null, "repr": "Bad(1)", "truncated": true,
            "file": null, "line": null, "function": null
        })
    );
}

#[test]
fn a_thread_has_its_frames_outermost_first() {
    let report = value(&living().snapshot());
    let tids: Vec<&Value> = report["threads"].as_array().unwrap().iter().map(|thread| &thread["tid"]).collect();
    assert_eq!(tids, [&json!(112), &json!(113), &json!(114)]);
    let main = &report["threads"][0];
    // 0x7f00123456789000 + 112: past 2^53.
    assert_eq!(main["ident"], json!("9151334458815189104"));
    assert_eq!(
        (&main["stack_end"], &main["os_name"], &main["state"]),
        (&json!("complete"), &json!("python3"), &json!("S"))
    );
    assert_eq!(
        main["python_states"],
        json!([{
            "interpreter_id": 0, "ident": "9151334458815189104", "verified": true, "retries": 0, "frames_end": "complete", "gil": "holding",
            "gc_collecting": true, "attachment": "attached", "exception": null
        }])
    );
    let frames = main["frames"].as_array().unwrap();
    let names: Vec<String> = frames
        .iter()
        .map(|frame| {
            format!(
                "{}{}",
                frame["function"].as_str().unwrap_or("?"),
                if frame["internal"] == json!(true) { "*" } else { "" }
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "_start",
            "?",
            "pymain_main",
            "_PyEval_EvalFrameDefault*",
            "<module>",
            "main",
            "list_sort_impl",
            "_PyEval_Vector*",
            "_PyEval_EvalFrameDefault*",
            "key",
            "time_sleep",
            "pysleep",
            "clock_nanosleep"
        ]
    );
    assert_eq!(
        frames[9],
        json!({
            "kind": "python", "interpreter_id": 0, "function": "key", "qualname": "main.<locals>.key",
            "file": "/t/t1.py", "line": 4, "end_line": 4, "column": 4, "end_column": 20,
            "source": "    time.sleep(1000)", "source_newer": false, "entry": true, "placed_by": "shim-frame",
            "arguments": null, "locals": null, "variables_left_out": null, "variables_lost": false
        })
    );
    assert_eq!((&frames[4]["entry"], &frames[5]["entry"]), (&json!(true), &json!(false)));
    assert_eq!(
        frames[11],
        json!({
            "kind": "native", "function": "pysleep", "raw_symbol": "pysleep", "file": null, "line": null,
            "inlined": true, "internal": false, "module": "/usr/bin/python3.12", "build_id": "00ab0f",
            "address": "0x401100", "found_by": "cfi"
        })
    );
    assert_eq!((&frames[10]["inlined"], &frames[10]["address"]), (&json!(false), &json!("0x401100")));
}

#[test]
fn a_function_of_the_same_name_outside_the_interpreter_is_not_internal() {
    let mut sections = living();
    sections.place(112, 3).module = Some(1);
    let report = value(&sections.snapshot());
    let frame = &report["threads"][0]["frames"][7];
    assert_eq!((&frame["function"], &frame["internal"]), (&json!("_PyEval_Vector"), &json!(false)));
}

/// A library that embeds Python, in a program that does so too: one runtime is found.
#[test]
fn a_second_python_is_said_to_be_missing() {
    let mut sections = living();
    let before = value(&sections.snapshot());
    assert!(before["diagnostics"].as_array().unwrap().iter().all(|one| one["code"] != "other-python"));
    sections.place(112, 5).module = Some(1);
    let report = value(&sections.snapshot());
    assert_valid(&report);
    let of_code = |one: &&Value| one["code"] == "other-python";
    let said: Vec<&Value> = report["diagnostics"].as_array().unwrap().iter().filter(of_code).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0]["message"].as_str().unwrap().contains("libc.so.6"), "{}", said[0]);
}

#[test]
fn every_kind_of_snapshot_validates() {
    let mut crashed = core();
    crashed.process.as_mut().unwrap().signal = Some(Signal {
        number: 6,
        code: -6,
        tid: Tid(113),
        sender_pid: Some(112),
        sender_uid: Some(0),
        ..Signal::default()
    });
    crashed.threads.as_mut().unwrap().threads[1].crashed = true;
    crashed.stack(112).frames.truncate(4);
    crashed.stack(112).end = StackEnd(99);
    crashed.state(113).tid = None;
    let report = value(&crashed.snapshot());
    assert_valid(&report);
    assert_eq!(report["threads"][0]["tid"], json!(113));
    assert_eq!(report["threads"][1]["stack_end"], json!("code-99"));
    assert_eq!(report["threads"][3]["tid"], json!(null));
    assert_eq!(report["process"]["signal"]["name"], json!("SIGABRT"));
    let mut bare = living();
    bare.python = None;
    bare.runtime = Some(Runtime::default());
    bare.process.as_mut().unwrap().cmdline = vec![Bytes(b"\xff\x1b".to_vec())];
    let report = value(&bare.snapshot());
    assert_valid(&report);
    assert_eq!((&report["python"], &report["process"]["cmdline"]), (&json!(null), &json!(["\\xff\u{1b}"])));
    assert_valid(&value(&Snapshot::default()));
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let schema = jsonschema::validator_for(&schema::schema()).unwrap();
    let mut report = value(&living().snapshot());
    report["threads"][0]["frames"][0]["added_later"] = json!([1]);
    report["snapshot"]["arch"] = json!("riscv64");
    assert!(schema.is_valid(&report));
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/schema", json!("other")),
        ("/threads/0/ident", json!(5)),
        ("/threads/0/frames/0/address", json!("1234")),
        ("/threads/0/frames/0/kind", json!("python")),
        ("/threads/0/frames", json!(null)),
    ] {
        let mut report = value(&living().snapshot());
        *report.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&report), "{pointer}");
    }
}

#[test]
fn both_layouts_say_the_same() {
    let report = Report::of_snapshot(&living().snapshot());
    let mut pretty = Vec::new();
    json::write(&report, Layout::Pretty, &mut pretty).unwrap();
    assert!(pretty.starts_with(b"{\n  \"schema\": \"pyst.report\",\n  \"version\": 1,\n") && pretty.ends_with(b"}\n"));
    assert_eq!(serde_json::from_slice::<Value>(&pretty).unwrap(), value(&living().snapshot()));
}

#[test]
fn a_run_without_a_place_is_marked_and_noted() {
    let mut sections = living();
    sections.state(112).runs[0].anchor = Some(Address(0xdead_0000));
    let report = value(&sections.snapshot());
    assert_valid(&report);
    let frames = report["threads"][0]["frames"].as_array().unwrap();
    let unplaced: Vec<&Value> =
        frames.iter().filter(|frame| frame["placed_by"] == "unplaced").map(|f| &f["function"]).collect();
    assert_eq!(unplaced, [&json!("key")]);
    let diagnostic = &report["diagnostics"][0];
    assert_eq!(
        (&diagnostic["stage"], &diagnostic["severity"], &diagnostic["code"], &diagnostic["tid"]),
        (&json!("fmt"), &json!("warning"), &json!("run-unplaced"), &json!(112))
    );
    assert_eq!(report["snapshot"]["complete"], json!(true));
}

#[test]
fn a_name_that_is_cut_is_said_to_be() {
    let mut sections = living();
    let cut = |report: &Value| {
        let of_code = |diagnostic: &&Value| diagnostic["code"] == "text-cut";
        report["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .find(of_code)
            .map(|cut| cut["message"].as_str().unwrap().to_owned())
    };
    sections.python.as_mut().unwrap().codes[1].function = "n".repeat(4096).as_str().into();
    assert_eq!(cut(&value(&sections.snapshot())), None);
    sections.python.as_mut().unwrap().codes[1].function = "n".repeat(4097).as_str().into();
    let report = value(&sections.snapshot());
    assert_eq!(cut(&report).unwrap(), "names or lines longer than 4096 bytes are cut, and marked with …: 1");
    let names: Vec<&str> = report["threads"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|thread| thread["frames"].as_array().unwrap())
        .filter_map(|frame| frame["function"].as_str())
        .collect();
    assert!(names.iter().any(|name| name.len() == 4096 + "…".len() && name.ends_with('…')));
}
