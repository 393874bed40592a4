//! Which native functions are the interpreter's own way of calling Python code: flagged in JSON, hidden in text.
//!
//! The symbols decide over what is shown as noise only, and over places where no anchor does; an evaluation loop that an
//! anchor lies in is known without them.

/// Function names, and beginnings of them where a `*` ends them.
const CALLING: &[&str] = &[
    "_PyEval_*",
    "PyEval_*",
    "_TAIL_CALL_*",
    "_PyFunction_FastCall*",
    "_PyFunction_Vectorcall*",
    "_PyObject_Vectorcall*",
    "PyObject_Vectorcall*",
    "_PyObject_FastCall*",
    "_PyObject_Call*",
    "PyObject_Call*",
    "_PyObject_MakeTpCall*",
    "_PyVectorcall_*",
    "PyVectorcall_*",
    "_PyMethodDef_RawFastCall*",
    "_PyCFunction_FastCall*",
    "_PyMethodDef_FastCall*",
    "PyCFunction_Call*",
    "_PyStack_*",
    "_PyCallMethodDescriptorFast*",
    "_PyJIT_Entry",
    "_Py_BuiltinCallFast*",
    "_Py_CallBuiltinClass_StackRef*",
    "_Py_VectorCallInstrumentation_StackRef*",
    "_Py_VectorCall_StackRef*",
    "call_function",
    "call_function_tail",
    "cfunction_call*",
    "do_call",
    "do_call_core",
    "ext_do_call",
    "fast_function",
    "function_call",
    "function_code_fastcall",
    "instancemethod_call",
    "method_call",
    "cfunction_vectorcall_*",
    "method_vectorcall*",
    "object_vacall",
    "py_trampoline_evaluator",
    "vectorcall_*",
];

/// What takes the GIL, and waits for it: the one within the other. What gives it away.
const TAKING: [&[u8]; 2] = [b"take_gil", b"PyEval_RestoreThread"];
const DROPPING: &[u8] = b"drop_gil";

/// What takes a lock.
const TAKING_LOCK: &[u8] = b"PyThread_acquire_lock";

/// What runs only while garbage is collected. Exact names: a user's `collect_rent` is none.
const COLLECTING: &[&[u8]] = &[
    b"collect",
    b"collect_generations",
    b"collect_with_callback",
    b"gc_collect_generations",
    b"gc_collect_internal",
    b"gc_collect_main",
    b"gc_collect_with_callback",
];

/// What a function of the interpreter says of the thread that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Taking the GIL.
    TakingGil,
    /// Giving it away.
    DroppingGil,
    /// Taking a lock. In 2.7 the GIL is one, which the evaluation loop itself takes.
    TakingLock,
    /// Collecting garbage, if any is being collected.
    Collecting,
}

/// What the function with this symbol does that a reader asks for.
pub(crate) fn doing(symbol: &[u8]) -> Option<Doing> {
    match base(symbol) {
        symbol if TAKING.contains(&symbol) => Some(Doing::TakingGil),
        DROPPING => Some(Doing::DroppingGil),
        TAKING_LOCK => Some(Doing::TakingLock),
        symbol if COLLECTING.contains(&symbol) => Some(Doing::Collecting),
        _ => None,
    }
}

/// The evaluation loop itself, in all versions since 3.6.
const LOOP: &[u8] = b"_PyEval_EvalFrameDefault";

/// In 2.7; later this function leads to the one above.
const LOOP_OF_2_7: &[u8] = b"PyEval_EvalFrameEx";

/// Whether a symbol names an evaluation loop, of Python 2 if that is what runs.
pub(crate) fn is_loop(symbol: &[u8], is_python_2: bool) -> bool {
    base(symbol) == if is_python_2 { LOOP_OF_2_7 } else { LOOP }
}

/// Whether a symbol names one of the functions that lead from C to Python code.
pub(crate) fn is_calling(symbol: &[u8]) -> bool {
    let symbol = base(symbol);
    CALLING.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => symbol.starts_with(beginning.as_bytes()),
        None => symbol == pattern.as_bytes(),
    })
}

/// The symbol without what compilers and linkers append to it: `.cold`, `.lto_priv.0`, `.part.3`, `@@VERSION`.
fn base(symbol: &[u8]) -> &[u8] {
    symbol.split(|byte| matches!(byte, b'.' | b'@')).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_linker_appends_does_not_hide_the_loop() {
        for symbol in
            ["_PyEval_EvalFrameDefault", "_PyEval_EvalFrameDefault.cold", "_PyEval_EvalFrameDefault.lto_priv.0"]
        {
            assert!(is_loop(symbol.as_bytes(), false) && is_calling(symbol.as_bytes()));
        }
        assert!(!is_loop(b"_PyEval_EvalFrameDefault_mine", false) && !is_loop(b"", false));
    }

    #[test]
    fn python_2_has_its_loop_in_what_is_a_wrapper_later() {
        assert!(is_loop(b"PyEval_EvalFrameEx", true) && !is_loop(b"PyEval_EvalFrameEx", false));
    }

    #[test]
    fn what_leads_from_the_loop_to_a_callee_is_internal_in_the_oldest_and_the_newest_python() {
        for symbol in [
            "do_call",
            "_Py_VectorCall_StackRefSteal",
            "_Py_VectorCallInstrumentation_StackRefSteal",
            "_Py_BuiltinCallFastWithKeywords_StackRef",
            "_Py_CallBuiltinClass_StackRef",
            "_PyCallMethodDescriptorFast_StackRef",
            "_PyJIT_Entry",
            "_TAIL_CALL_CALL_BUILTIN_FAST",
            "_TAIL_CALL_start_frame.llvm.1234",
        ] {
            assert!(is_calling(symbol.as_bytes()), "{symbol}");
        }
        assert!(!is_calling(b"do_call_me") && !is_calling(b"_Py_VectorCallMe"));
    }

    #[test]
    fn only_the_interpreters_own_names_say_what_it_does() {
        assert_eq!(doing(b"take_gil"), Some(Doing::TakingGil));
        assert_eq!(doing(b"drop_gil.isra.0"), Some(Doing::DroppingGil));
        assert_eq!(doing(b"gc_collect_main.constprop.0"), Some(Doing::Collecting));
        for symbol in ["collect_rent", "gc_collect", "garbage_collect", "my_take_gil", "PyGC_Collect", ""] {
            assert_eq!(doing(symbol.as_bytes()), None, "{symbol}");
        }
    }

    #[test]
    fn what_a_user_asks_for_is_never_internal() {
        for symbol in
            ["time_sleep", "pymain_main", "PyErr_CheckSignals", "list_sort_impl", "my_PyEval_thing", "object_vacall2"]
        {
            assert!(!is_calling(symbol.as_bytes()), "{symbol}");
        }
        assert!(is_calling(b"_PyEval_Vector") && is_calling(b"PyObject_CallOneArg") && is_calling(b"object_vacall"));
    }
}
