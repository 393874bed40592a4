//! Debug information of the interpreters of this machine, read by gdb, against the tables. Both are absent on most
//! machines; then nothing is compared.

use super::{Field, Offsets, candidates};
use crate::fake::pythons;
use std::process::Command;

/// What gdb is asked, and the field it must be.
type Question = (&'static str, fn(&Offsets) -> Field);

const QUESTIONS: &[Question] = &[
    ("&((_PyRuntimeState*)0)->initialized", |o| o.runtime_initialized),
    ("&((_PyRuntimeState*)0)->interpreters.head", |o| o.runtime_interpreters_head),
    ("&((PyInterpreterState*)0)->threads.head", |o| o.interpreter_threads_head),
    ("&((PyInterpreterState*)0)->gc", |o| o.interpreter_gc),
    ("&((PyThreadState*)0)->thread_id", |o| o.thread_ident),
    ("&((PyThreadState*)0)->native_thread_id", |o| o.thread_native_id),
    ("&((PyThreadState*)0)->datastack_top", |o| o.thread_chunk_top),
    ("&((PyThreadState*)0)->cframe", |o| o.thread_cframe),
    ("&((PyThreadState*)0)->current_frame", |o| o.thread_current_frame),
    ("&((PyInterpreterState*)0)->tstate_head", |o| o.interpreter_threads_head),
    ("&((PyThreadState*)0)->frame", |o| o.thread_frame),
    ("&((PyFrameObject*)0)->f_code", |o| o.frame_code),
    ("&((PyFrameObject*)0)->f_lasti", |o| o.frame_instruction),
    ("&((PyFrameObject*)0)->f_localsplus", |o| o.frame_locals),
    ("&((PyCodeObject*)0)->co_code", |o| o.code_bytes),
    ("&((PyCodeObject*)0)->co_lnotab", |o| o.code_line_table),
    ("&((PyTypeObject*)0)->tp_name", |o| o.type_name),
    ("&((PyStringObject*)0)->ob_sval", |o| o.bytes_data),
    ("&((struct _PyInterpreterFrame*)0)->previous", |o| o.frame_previous),
    ("&((struct _PyInterpreterFrame*)0)->prev_instr", |o| o.frame_instruction),
    ("&((struct _PyInterpreterFrame*)0)->instr_ptr", |o| o.frame_instruction),
    ("&((struct _PyInterpreterFrame*)0)->owner", |o| o.frame_owner),
    ("&((struct _PyInterpreterFrame*)0)->localsplus", |o| o.frame_locals),
    ("&((PyCodeObject*)0)->co_linetable", |o| o.code_line_table),
    ("&((PyCodeObject*)0)->_co_firsttraceable", |o| o.code_first_traceable),
    ("&((PyCodeObject*)0)->co_code_adaptive", |o| o.code_instructions),
    ("sizeof(PyASCIIObject)", |o| o.text_ascii_data),
    ("sizeof(PyCompactUnicodeObject)", |o| o.text_compact_data),
    ("sizeof(struct _gil_runtime_state)", |o| o.gil_size),
];

/// gdb's answers by question; none for a field that the version does not have.
fn ask(library: &str) -> Vec<Option<u64>> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", library]);
    for (index, (question, _)) in QUESTIONS.iter().enumerate() {
        gdb.args(["-ex", &format!("printf \"%d=%lu\\n\", {index}, (unsigned long)({question})")]);
    }
    let output = gdb.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let answer = |index: usize| {
        let prefix = format!("{index}=");
        output.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    };
    (0..QUESTIONS.len()).map(answer).collect()
}

#[test]
fn tables_agree_with_the_debug_information_of_this_machines_interpreters() {
    for python in pythons() {
        let Some(table) = candidates(python.hex, false).into_iter().next() else { continue };
        let [major, minor, ..] = python.hex.to_be_bytes();
        let Some(root) = python.path.parent().and_then(|bin| bin.parent()) else { continue };
        // 3.6 and 3.7 say in the name that they have pymalloc.
        let names = ["", "m"].map(|abi| root.join(format!("lib/libpython{major}.{minor}{abi}.so.1.0")));
        let library = names.into_iter().find(|name| name.exists()).unwrap_or_default();
        let answers = if library.exists() { ask(&library.to_string_lossy()) } else { Vec::new() };
        let known = answers.iter().flatten().count();
        if known == 0 {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("skipped: no gdb, or no debug information for {}\n", python.path.display()),
            );
            continue;
        }
        for ((question, field), answer) in QUESTIONS.iter().zip(answers) {
            if let Some(answer) = answer {
                assert_eq!(field(table.offsets).get(), Some(answer), "{}: {question}", library.display());
            }
        }
        println!("{}: {known} fields agree", library.display());
    }
}
