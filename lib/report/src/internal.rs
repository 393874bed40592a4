//! Which native functions are the interpreter's own way of calling Python code: flagged in JSON, hidden in text.
//!
//! The symbols decide over what is shown as noise only, and over places where no anchor does; an evaluation loop that an
//! anchor lies in is known without them.

/// Function names, and beginnings of them where a `*` ends them.
const CALLING: &[&str] = &[
    "_PyEval_*",
    "PyEval_*",
    "_TAIL_CALL_*",
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
    "_PyStack_*",
    "cfunction_call*",
    "cfunction_vectorcall_*",
    "method_vectorcall*",
    "object_vacall",
    "vectorcall_*",
];

/// The evaluation loop itself, in all versions since 3.6.
const LOOP: &str = "_PyEval_EvalFrameDefault";

/// Whether a symbol names an evaluation loop.
pub(crate) fn is_loop(symbol: &[u8]) -> bool {
    base(symbol) == LOOP.as_bytes()
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
            assert!(is_loop(symbol.as_bytes()) && is_calling(symbol.as_bytes()));
        }
        assert!(!is_loop(b"_PyEval_EvalFrameDefault_mine") && !is_loop(b""));
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
