#!/usr/bin/env python3
"""Writes src/layout/tables.rs: where CPython's structures have the fields that the walk names.

    layouts/generate.py LAYOUTS.json.xz layouts/*.json > src/layout/tables.rs && cargo fmt

Each input is a list of {version, flavour, source, structs: {name: {size, fields: {path: {offset, size, [bit_offset]}}}}};
an entry that equals an earlier one has `same_as` in the place of `structs`. To add a version:

 1. layouts/extract.py 3.16.0 release "DWARF of …" libpython3.16.so.1.0 > layouts/3.16.0.json
 2. Add it to VERSIONS, and give it semantics in src/layout/semantics.rs: those of the version before, if nothing that
    the walk uses changed its meaning. Compare the structures of both versions' headers before saying so.
 3. Run this with all inputs, and add the version's tests.
"""
import json
import lzma
import re
import sys

# Minor version -> the name of its semantics in src/layout/semantics.rs.
VERSIONS = {
    (2, 7): "PYTHON_2_7",
    (3, 6): "PYTHON_3_6",
    (3, 7): "PYTHON_3_6",
    (3, 8): "PYTHON_3_6",
    (3, 9): "PYTHON_3_9",
    (3, 10): "PYTHON_3_10",
    (3, 11): "PYTHON_3_11",
    (3, 12): "PYTHON_3_12",
    (3, 13): "PYTHON_3_13",
    (3, 14): "PYTHON_3_14",
    (3, 15): "PYTHON_3_15",
}

# The flavours of an entry: how the build was configured, and whether it has no GIL. Flavours whose fields are the same
# share a table; the first that it has names it.
FLAVOURS = {
    "release": ("Release", False),
    "release-shared": ("Release", False),
    "release-jit": ("Jit", False),
    "debug": ("Debug", False),
    "free-threaded": ("Release", True),
    "free-threaded-debug": ("Debug", True),
}
SUFFIXES = {"Release": "", "Jit": "-jit", "Debug": "-debug"}

# The field's name in `Offsets`; where it is, the first of several that exists; where `_Py_DebugOffsets` states it.
# `.` is a field's offset, `#` a field's or (alone) a structure's size, `:` a bit field's first bit in the word that it is
# part of: free-threaded builds have a whole byte before the others. `=` is a number for releases that have none
# of the places before it.
RUNTIME, INTERPRETER, THREAD = "_PyRuntimeState", "PyInterpreterState", "PyThreadState"
THREAD_IMPL, CFRAME, FRAME = "_PyThreadStateImpl", "_PyCFrame", "_PyInterpreterFrame"
GIL = "_gil_runtime_state"
CODE, TEXT, CHUNK = "PyCodeObject", "PyASCIIObject", "_PyStackChunk"
# The frames of 3.10 and older. Later a frame object only stands for a frame.
OBJECT = "PyFrameObject"
FIELDS = [
    # 3.6 and older have no such structure: there the variable `interp_head` is what is found.
    ("runtime_size", [f"{RUNTIME}#", "=8"], "runtime_state.size"),
    ("runtime_core_initialized", [f"{RUNTIME}.core_initialized"], None),
    ("runtime_initialized", [f"{RUNTIME}.initialized"], None),
    ("runtime_finalizing", [f"{RUNTIME}._finalizing", f"{RUNTIME}.finalizing"], "runtime_state.finalizing"),
    ("runtime_interpreters_head", [f"{RUNTIME}.interpreters.head", "=0"], "runtime_state.interpreters_head"),
    ("runtime_interpreters_main", [f"{RUNTIME}.interpreters.main"], None),
    ("runtime_main_thread", [f"{RUNTIME}.main_thread"], None),
    ("runtime_gil", [f"{RUNTIME}.ceval.gil"], None),
    # From 3.9 on each interpreter has its own.
    ("runtime_gc", [f"{RUNTIME}.gc"], None),
    ("interpreter_size", [f"{INTERPRETER}#"], "interpreter_state.size"),
    ("interpreter_next", [f"{INTERPRETER}.next"], "interpreter_state.next"),
    ("interpreter_id", [f"{INTERPRETER}.id"], "interpreter_state.id"),
    ("interpreter_threads_head", [f"{INTERPRETER}.threads.head", f"{INTERPRETER}.tstate_head"], "interpreter_state.threads_head"),
    ("interpreter_threads_main", [f"{INTERPRETER}.threads.main"], None),
    ("interpreter_finalizing", [f"{INTERPRETER}._finalizing"], None),
    ("interpreter_gil", [f"{INTERPRETER}.ceval.gil"], "interpreter_state.ceval_gil"),
    ("interpreter_gil_drop_request", [f"{INTERPRETER}.ceval.gil_drop_request"], None),
    ("interpreter_gc", [f"{INTERPRETER}.gc"], "interpreter_state.gc"),
    ("interpreter_stop", [f"{INTERPRETER}.stoptheworld"], None),
    ("stop_of_world", ["_stoptheworld_state.world_stopped"], None),
    ("gc_size", ["_gc_runtime_state#"], "gc.size"),
    ("gc_collecting", ["_gc_runtime_state.collecting"], "gc.collecting"),
    ("gc_frame", ["_gc_runtime_state.frame"], "gc.frame"),
    ("gil_size", [f"{GIL}#"], None),
    ("gil_enabled", [f"{GIL}.enabled"], None),
    ("gil_holder", [f"{GIL}.last_holder"], None),
    ("gil_locked", [f"{GIL}.locked"], None),
    ("gil_condition", [f"{GIL}.cond"], None),
    ("gil_mutex", [f"{GIL}.mutex.__data.__lock"], None),
    ("gil_mutex_owner", [f"{GIL}.mutex.__data.__owner"], None),
    ("gil_switch_condition", [f"{GIL}.switch_cond"], None),
    ("thread_size", [f"{THREAD_IMPL}#", f"{THREAD}#"], None),
    ("thread_next", [f"{THREAD}.next"], "thread_state.next"),
    ("thread_interpreter", [f"{THREAD}.interp"], "thread_state.interp"),
    ("thread_ident", [f"{THREAD}.thread_id"], "thread_state.thread_id"),
    ("thread_native_id", [f"{THREAD}.native_thread_id"], "thread_state.native_thread_id"),
    ("thread_attachment", [f"{THREAD}.state"], None),
    ("thread_holds_gil", [f"{THREAD}.holds_gil"], "thread_state.holds_gil"),
    ("thread_gil_requested", [f"{THREAD}.gil_requested"], "thread_state.gil_requested"),
    ("thread_frame", [f"{THREAD}.frame"], None),
    ("thread_cframe", [f"{THREAD}.cframe"], None),
    ("thread_root_cframe", [f"{THREAD}.root_cframe"], None),
    ("thread_current_frame", [f"{THREAD}.current_frame"], "thread_state.current_frame"),
    ("thread_executor", [f"{THREAD}.current_executor"], None),
    ("thread_base_frame", [f"{THREAD}.base_frame"], "thread_state.base_frame"),
    ("thread_chunk", [f"{THREAD}.datastack_chunk"], "thread_state.datastack_chunk"),
    ("thread_chunk_top", [f"{THREAD}.datastack_top"], None),
    ("chunk_previous", [f"{CHUNK}.previous"], None),
    ("chunk_size", [f"{CHUNK}.size"], None),
    ("chunk_top", [f"{CHUNK}.top"], None),
    ("chunk_data", [f"{CHUNK}.data"], None),
    ("cframe_size", [f"{CFRAME}#"], None),
    ("cframe_current_frame", [f"{CFRAME}.current_frame"], None),
    ("cframe_previous", [f"{CFRAME}.previous"], None),
    ("frame_previous", [f"{FRAME}.previous", f"{OBJECT}.f_back"], "interpreter_frame.previous"),
    ("frame_code", [f"{FRAME}.f_executable", f"{FRAME}.f_code", f"{OBJECT}.f_code"], "interpreter_frame.executable"),
    ("frame_instruction", [f"{FRAME}.instr_ptr", f"{FRAME}.prev_instr", f"{OBJECT}.f_lasti"], "interpreter_frame.instr_ptr"),
    ("frame_stack_top", [f"{FRAME}.stacktop"], None),
    ("frame_stack_pointer", [f"{FRAME}.stackpointer"], "interpreter_frame.stackpointer"),
    ("frame_code_copy", [f"{FRAME}.tlbc_index"], "interpreter_frame.tlbc_index"),
    ("frame_owner", [f"{FRAME}.owner"], "interpreter_frame.owner"),
    ("frame_locals", [f"{FRAME}.localsplus", f"{OBJECT}.f_localsplus"], "interpreter_frame.localsplus"),
    ("frame_words", [f"{OBJECT}.ob_base.ob_size", f"{OBJECT}.ob_size"], None),
    ("frame_trace", [f"{OBJECT}.f_trace"], None),
    ("frame_line", [f"{OBJECT}.f_lineno"], None),
    ("code_size", [f"{CODE}#"], None),
    ("code_flags", [f"{CODE}.co_flags"], None),
    ("code_bytes", [f"{CODE}.co_code"], None),
    ("code_units", [f"{CODE}.ob_base.ob_size"], None),
    ("code_name", [f"{CODE}.co_name"], "code_object.name"),
    ("code_qualname", [f"{CODE}.co_qualname"], "code_object.qualname"),
    ("code_file", [f"{CODE}.co_filename"], "code_object.filename"),
    ("code_first_line", [f"{CODE}.co_firstlineno"], "code_object.firstlineno"),
    ("code_line_table", [f"{CODE}.co_linetable", f"{CODE}.co_lnotab"], "code_object.linetable"),
    ("code_locals", [f"{CODE}.co_nlocalsplus"], None),
    ("code_local_names", [f"{CODE}.co_localsplusnames"], "code_object.localsplusnames"),
    ("code_local_kinds", [f"{CODE}.co_localspluskinds"], "code_object.localspluskinds"),
    ("code_first_traceable", [f"{CODE}._co_firsttraceable"], None),
    ("code_instructions", [f"{CODE}.co_code_adaptive"], "code_object.co_code_adaptive"),
    ("code_copies", [f"{CODE}.co_tlbc"], "code_object.co_tlbc"),
    ("code_copies_count", ["_PyCodeArray.size"], None),
    ("code_copies_first", ["_PyCodeArray.entries"], None),
    ("object_type", ["PyObject.ob_type"], "pyobject.ob_type"),
    ("bytes_length", ["PyBytesObject.ob_base.ob_size", "PyStringObject.ob_size"], "bytes_object.ob_size"),
    ("bytes_data", ["PyBytesObject.ob_sval", "PyStringObject.ob_sval"], "bytes_object.ob_sval"),
    ("text_length", [f"{TEXT}.length"], "unicode_object.length"),
    ("text_state", [f"{TEXT}.state"], "unicode_object.state"),
    ("text_kind_bit", [f"{TEXT}:state.kind"], None),
    ("text_compact_bit", [f"{TEXT}:state.compact"], None),
    ("text_ascii_bit", [f"{TEXT}:state.ascii"], None),
    ("text_ascii_data", [f"{TEXT}#"], "unicode_object.asciiobject_size"),
    ("text_compact_data", ["PyCompactUnicodeObject#"], None),
    ("text_separate_data", ["PyUnicodeObject.data"], None),
    ("text_wide_data", [f"{TEXT}.wstr"], None),
    ("text_wide_length", ["PyCompactUnicodeObject.wstr_length"], None),
    ("type_name", ["PyTypeObject.tp_name"], "type_object.tp_name"),
]
PLACE = re.compile(r"(\w+)([.#:])(.*)")


def value(structs, place):
    if place.startswith("="):
        return int(place[1:])
    name, mark, path = PLACE.fullmatch(place).groups()
    structure = structs.get(name)
    if structure is None:
        return None
    if mark == "#" and not path:
        return structure["size"]
    field = structure["fields"].get(path)
    if field is None:
        return None
    if mark == ":":
        word = structure["fields"][path.rpartition(".")[0]]
        return (field["offset"] - word["offset"]) * 8 + field["bit_offset"]
    return {".": field["offset"], "#": field["size"]}[mark]


def offsets(structs):
    """The offsets, or None where the entry lacks one that its siblings have: too little to walk by."""
    found = []
    for name, places, _ in FIELDS:
        values = [value(structs, place) for place in places]
        found.append(next((v for v in values if v is not None), None))
    return tuple(found)


def stated(structs):
    """Where `_Py_DebugOffsets` states each of them; None for a version without it."""
    if "_Py_DebugOffsets" not in structs:
        return None
    return tuple(path and value(structs, f"_Py_DebugOffsets.{path}") for _, _, path in FIELDS)


def rank(source):
    """What a compiler wrote about a real build comes before what a probe found in headers."""
    return 1 if source == "header probe" else 0


def read(path):
    with lzma.open(path) if path.endswith(".xz") else open(path) as file:
        return json.load(file)


def main():
    entries = [entry for path in sys.argv[1:] for entry in read(path)]
    by_key = {(e["version"], e["flavour"], e["source"]): e for e in entries if "structs" in e}
    tables = {}
    for entry in sorted(entries, key=lambda e: rank(e["source"])):
        version = tuple(map(int, entry["version"].split(".")))
        if version[:2] not in VERSIONS or entry["flavour"] not in FLAVOURS:
            continue
        flavour, free_threaded = FLAVOURS[entry["flavour"]]
        same = entry.get("same_as")
        structs = entry["structs"] if same is None else by_key[same["version"], same["flavour"], same["source"]]["structs"]
        key = (version[:2], free_threaded, offsets(structs), stated(structs))
        table = tables.setdefault(key, {"builds": set(), "origins": {}})
        table["builds"].add((flavour, version[2]))
        table["origins"].setdefault(entry["source"], set()).add(version[2])

    # Equal offsets are written once.
    pool = {}

    def pooled(values):
        if values is None:
            return "None"
        number = pool.setdefault(values, len(pool))
        return f"&OFFSETS_{number}"

    def flavours(table):
        present = {flavour for flavour, _ in table["builds"]}
        return [flavour for flavour in SUFFIXES if flavour in present]

    rows = []
    names = set()

    def order(item):
        (minor, free_threaded, *_), table = item
        return minor, free_threaded, list(SUFFIXES).index(flavours(table)[0]), min(p for _, p in table["builds"])

    for (minor, free_threaded, offset_values, stated_values), table in sorted(tables.items(), key=order):
        patches = sorted({patch for _, patch in table["builds"]})
        base = f"{minor[0]}.{minor[1]}.{patches[0]}{'-free-threaded' * free_threaded}{SUFFIXES[flavours(table)[0]]}"
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.add(name)
        origin = "; ".join(f"{s} ({', '.join(str(p) for p in sorted(v))})" for s, v in sorted(table["origins"].items()))
        stated_text = "None" if stated_values is None else f"Some({pooled(stated_values)})"
        rows.append((name, f"""Table {{
            name: "{name}",
            origin: "{origin}",
            minor: ({minor[0]}, {minor[1]}),
            patches: &{patches},
            free_threaded: {str(free_threaded).lower()},
            flavours: &[{", ".join(f"Flavour::{flavour}" for flavour in flavours(table))}],
            semantics: &{VERSIONS[minor]},
            offsets: {pooled(offset_values)},
            stated: {stated_text},
        }},"""))

    print("//! Written by `layouts/generate.py`, not by hand: where CPython's structures have the fields that the walk names.")
    print()
    print("use super::offsets::{Field, Offsets};")
    print(f"use super::semantics::{{{', '.join(sorted(set(VERSIONS.values())))}}};")
    print("use super::{Flavour, Table};")
    print()
    print("/// Every table, by ascending version.")
    print("pub(super) static TABLES: &[Table] = &[")
    for _, text in rows:
        print("    " + text)
    print("];")
    for values, number in sorted(pool.items(), key=lambda item: item[1]):
        print()
        print(f"static OFFSETS_{number}: Offsets = Offsets {{")
        for (name, _, _), number in zip(FIELDS, values):
            print(f"    {name}: {'Field::ABSENT' if number is None else f'Field({number})'},")
        print("};")


if __name__ == "__main__":
    main()
