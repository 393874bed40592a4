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
    (3, 7): "PYTHON_3_7",
    (3, 8): "PYTHON_3_7",
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
# of the places before it, `+` after a place a number to add.
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
    ("thread_exception", [f"{THREAD}.exc_info"], None),
    ("thread_chunk", [f"{THREAD}.datastack_chunk"], "thread_state.datastack_chunk"),
    ("thread_chunk_top", [f"{THREAD}.datastack_top"], None),
    # From 3.7 on a list; before that the thread state itself has it.
    ("thread_handled", [f"{THREAD}.exc_info"], None),
    ("thread_handled_type", [f"{THREAD}.exc_type"], None),
    ("thread_handled_value", [f"{THREAD}.exc_value"], None),
    ("thread_handled_trace", [f"{THREAD}.exc_traceback"], None),
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
    ("exception_previous", ["_PyErr_StackItem.previous_item"], None),
    ("generator_frame", ["PyGenObject.gi_iframe"], "gen_object.gi_iframe"),
    ("generator_exception", ["PyGenObject.gi_exc_state"], None),
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

# The same for what values are shown by: fields that are where they are in every release of a minor version. What is
# `PyObject#+N` lies N bytes behind an object's header by a structure of CPython's C files, of which no header or
# debug information tells in every build; each of those is checked against the size that the type itself states.
TYPE, HEAP_TYPE, KEYS = "PyTypeObject", "PyHeapTypeObject", "PyDictKeysObject"
OBJECT_FIELDS = [
    ("object_size", ["PyObject#"], "pyobject.size"),
    ("object_items", ["PyVarObject.ob_size"], None),
    ("type_size", [f"{TYPE}#"], None),
    ("type_basic_size", [f"{TYPE}.tp_basicsize"], None),
    ("type_item_size", [f"{TYPE}.tp_itemsize"], None),
    ("type_flags", [f"{TYPE}.tp_flags"], "type_object.tp_flags"),
    ("type_str", [f"{TYPE}.tp_str"], None),
    ("type_members", [f"{TYPE}.tp_members"], None),
    ("type_base", [f"{TYPE}.tp_base"], None),
    ("type_dict", [f"{TYPE}.tp_dict"], None),
    ("type_dict_offset", [f"{TYPE}.tp_dictoffset"], None),
    ("type_qualname", [f"{HEAP_TYPE}.ht_qualname"], None),
    ("type_cached_keys", [f"{HEAP_TYPE}.ht_cached_keys"], "heap_type_object.ht_cached_keys"),
    ("type_module", [f"{HEAP_TYPE}.ht_module"], None),
    ("type_heap_size", [f"{HEAP_TYPE}#"], None),
    ("int_machine", ["PyIntObject.ob_ival"], None),
    ("int_tag", ["_longobject.long_value.lv_tag"], "long_object.lv_tag"),
    ("int_digits", ["_longobject.long_value.ob_digit", "_longobject.ob_digit"], "long_object.ob_digit"),
    ("float_value", ["PyFloatObject.ob_fval"], "float_object.ob_fval"),
    ("complex_value", ["PyComplexObject.cval"], None),
    ("bytearray_start", ["PyByteArrayObject.ob_start", "PyByteArrayObject.ob_bytes"], None),
    # unicode of Python 2; `sys` says how wide its characters are.
    ("interpreter_sys", [f"{INTERPRETER}.sysdict"], "interpreter_state.sysdict"),
    ("unicode_length", ["PyUnicodeObject.length"], None),
    ("unicode_data", ["PyUnicodeObject.str"], None),
    ("list_items", ["PyListObject.ob_item"], "list_object.ob_item"),
    ("tuple_items", ["PyTupleObject.ob_item"], "tuple_object.ob_item"),
    ("dict_used", ["PyDictObject.ma_used"], None),
    ("dict_fill", ["PyDictObject.ma_fill"], None),
    ("dict_mask", ["PyDictObject.ma_mask"], None),
    ("dict_table", ["PyDictObject.ma_table"], None),
    ("dict_keys", ["PyDictObject.ma_keys"], "dict_object.ma_keys"),
    ("dict_values", ["PyDictObject.ma_values"], "dict_object.ma_values"),
    ("keys_size", [f"{KEYS}.dk_size"], None),
    ("keys_log2_size", [f"{KEYS}.dk_log2_size"], None),
    ("keys_log2_index_bytes", [f"{KEYS}.dk_log2_index_bytes"], None),
    ("keys_kind", [f"{KEYS}.dk_kind"], None),
    ("keys_entries", [f"{KEYS}.dk_nentries"], None),
    ("keys_indices", [f"{KEYS}.dk_indices"], None),
    ("values_capacity", ["PyDictValues.capacity"], None),
    ("values_size", ["PyDictValues.size"], None),
    ("values_valid", ["PyDictValues.valid"], None),
    ("values_first", ["PyDictValues.values"], None),
    ("set_fill", ["PySetObject.fill"], None),
    ("set_used", ["PySetObject.used"], "set_object.used"),
    ("set_mask", ["PySetObject.mask"], "set_object.mask"),
    ("set_table", ["PySetObject.table"], "set_object.table"),
    ("cell_value", ["PyCellObject.ob_ref"], None),
    ("slice_start", ["PySliceObject.start"], None),
    ("slice_stop", ["PySliceObject.stop"], None),
    ("slice_step", ["PySliceObject.step"], None),
    # rangeobject: start, stop, step, length.
    ("range_start", ["PyObject#+0"], None),
    ("exception_args", ["PyBaseExceptionObject.args"], None),
    ("exception_trace", ["PyBaseExceptionObject.traceback"], None),
    # Where exceptions that have fields of their own have them.
    ("exception_size", ["PyBaseExceptionObject#"], None),
    ("handled_type", ["_PyErr_StackItem.exc_type"], None),
    ("handled_value", ["_PyErr_StackItem.exc_value"], "err_stackitem.exc_value"),
    ("handled_trace", ["_PyErr_StackItem.exc_traceback"], None),
    ("handled_previous", ["_PyErr_StackItem.previous_item"], None),
    ("trace_next", ["PyTracebackObject.tb_next"], None),
    ("trace_frame", ["PyTracebackObject.tb_frame"], None),
    ("trace_instruction", ["PyTracebackObject.tb_lasti"], None),
    ("trace_line", ["PyTracebackObject.tb_lineno"], None),
    # What a frame object stands for, from 3.11 on.
    ("frame_object_frame", ["PyFrameObject.f_frame"], None),
    ("module_dict", ["PyModuleObject.md_dict"], None),
    ("module_name", ["PyModuleObject.md_name"], None),
    ("function_name", ["PyFunctionObject.func_qualname", "PyFunctionObject.func_name"], None),
    ("method_function", ["PyMethodObject.im_func"], None),
    ("method_self", ["PyMethodObject.im_self"], None),
    ("builtin_definition", ["PyCFunctionObject.m_ml"], None),
    ("builtin_self", ["PyCFunctionObject.m_self"], None),
    ("generator_name", ["PyGenObject.gi_qualname"], None),
    ("generator_code", ["PyGenObject.gi_code"], None),
    ("weakref_object", ["PyWeakReference.wr_object"], None),
    ("proxy_mapping", ["mappingproxyobject.mapping"], None),
    ("deque_left_block", ["dequeobject.leftblock"], None),
    ("deque_left_index", ["dequeobject.leftindex"], None),
    ("deque_length", ["dequeobject.len", "dequeobject.ob_base.ob_size"], None),
    ("deque_max_length", ["dequeobject.maxlen"], None),
    # Blocks of items: Python 3 has the link to the left first, then 64 items.
    ("deque_block_items", ["BLOCK.data", "=8"], None),
    ("deque_block_size", ["BLOCK#data", "=512"], None),
    ("deque_block_right", ["BLOCK.rightlink", "=520"], None),
    ("deque_size", ["dequeobject#"], None),
    ("defaultdict_factory", ["defdictobject.default_factory"], None),
    ("defaultdict_size", ["defdictobject#"], None),
    ("ordered_first", ["PyODictObject.od_first"], None),
    ("ordered_size", ["PyODictObject#"], None),
    # Up to 3.13.0; then a mutex of one byte.
    ("lock_locked", ["lockobject.locked"], None),
    ("lock_mutex", ["lockobject.lock"], None),
    ("rlock_owner", ["rlockobject.rlock_owner"], None),
    ("rlock_count", ["rlockobject.rlock_count"], None),
    ("rlock_mutex", ["rlockobject.lock"], None),
    ("rlock_thread", ["rlockobject.lock.thread"], None),
    ("rlock_level", ["rlockobject.lock.level"], None),
    # PyDateTime_*: a hash, then whether there is a time zone, then bytes; timedelta has three numbers after the hash.
    ("date_zoned", ["PyObject#+8"], None),
    ("date_data", ["PyObject#+9"], None),
    ("delta_days", ["PyObject#+8"], None),
    ("timezone_offset", ["PyObject#+0"], None),
    ("timezone_name", ["PyObject#+8"], None),
    # Instances of classes that do not derive from `object`, Python 2.
    ("instance_class", ["PyInstanceObject.in_class"], None),
    ("instance_dict", ["PyInstanceObject.in_dict"], None),
    ("class_dict", ["PyClassObject.cl_dict"], None),
    ("class_name", ["PyClassObject.cl_name"], None),
    ("code_arguments", [f"{CODE}.co_argcount"], None),
    ("code_keyword_arguments", [f"{CODE}.co_kwonlyargcount"], None),
    ("code_fast_locals", [f"{CODE}.co_nlocals"], None),
    ("code_local_variables", [f"{CODE}.co_varnames"], None),
    ("code_cell_variables", [f"{CODE}.co_cellvars"], None),
    ("code_free_variables", [f"{CODE}.co_freevars"], None),
    ("frame_namespace", [f"{FRAME}.f_locals", f"{OBJECT}.f_locals"], None),
    ("frame_globals", [f"{FRAME}.f_globals", f"{OBJECT}.f_globals"], None),
]
PLACE = re.compile(r"(\w+)([.#:])([^+]*)(?:\+(\d+))?")


def value(structs, place):
    if place.startswith("="):
        return int(place[1:])
    name, mark, path, more = PLACE.fullmatch(place).groups()
    structure = structs.get(name)
    if structure is None:
        return None
    if mark == "#" and not path:
        return structure["size"] + int(more or 0)
    field = structure["fields"].get(path)
    if field is None:
        return None
    if mark == ":":
        word = structure["fields"][path.rpartition(".")[0]]
        return (field["offset"] - word["offset"]) * 8 + field["bit_offset"]
    return {".": field["offset"], "#": field["size"]}[mark]


def offsets(structs, fields=FIELDS):
    """The offsets, or None where the entry lacks one that its siblings have: too little to walk by."""
    found = []
    for name, places, _ in fields:
        values = [value(structs, place) for place in places]
        found.append(next((v for v in values if v is not None), None))
    return tuple(found)


def stated(structs, fields=FIELDS):
    """Where `_Py_DebugOffsets` states each of them; None for a version without it."""
    if "_Py_DebugOffsets" not in structs:
        return None
    return tuple(path and value(structs, f"_Py_DebugOffsets.{path}") for _, _, path in fields)


def united(one, other):
    """What two entries of a minor version know together of the fields that values are shown by. They must not differ."""
    if one is None:
        return other
    for (name, *_), a, b in zip(OBJECT_FIELDS, one, other):
        if None not in (a, b) and a != b:
            sys.exit(f"{name} is at {a} and at {b} in releases of one minor version")
    return tuple(b if a is None else a for a, b in zip(one, other))


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
    objects = {}
    objects_stated = {}
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
        kind = version[:2], free_threaded
        objects[kind] = united(objects.get(kind), offsets(structs, OBJECT_FIELDS))
        objects_stated.setdefault(kind, stated(structs, OBJECT_FIELDS))

    # Equal offsets are written once.
    pool = {}

    def pooled(values, pool=pool, name="OFFSETS"):
        if values is None:
            return "None"
        number = pool.setdefault(values, len(pool))
        return f"&{name}_{number}"

    object_pool = {}

    def objects_of(minor, free_threaded):
        stated_values = objects_stated[minor, free_threaded]
        stated_text = "None" if stated_values is None else f"Some({pooled(stated_values, object_pool, 'OBJECTS')})"
        return pooled(objects[minor, free_threaded], object_pool, "OBJECTS"), stated_text

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
        objects_text, objects_stated_text = objects_of(minor, free_threaded)
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
            objects: {objects_text},
            objects_stated: {objects_stated_text},
        }},"""))

    print("//! Written by `layouts/generate.py`, not by hand: where CPython's structures have the fields that the walk names.")
    print()
    print("use super::objects::Objects;")
    print("use super::offsets::{Field, Offsets};")
    print(f"use super::semantics::{{{', '.join(sorted(set(VERSIONS.values())))}}};")
    print("use super::{Flavour, Table};")
    print()
    print("/// Every table, by ascending version.")
    print("pub(super) static TABLES: &[Table] = &[")
    for _, text in rows:
        print("    " + text)
    print("];")
    for kind, fields, contents in (("Offsets", FIELDS, pool), ("Objects", OBJECT_FIELDS, object_pool)):
        for values, number in sorted(contents.items(), key=lambda item: item[1]):
            print()
            print(f"static {kind.upper()}_{number}: {kind} = {kind} {{")
            for (name, _, _), value_here in zip(fields, values):
                print(f"    {name}: {'Field::ABSENT' if value_here is None else f'Field({value_here})'},")
            print("};")


if __name__ == "__main__":
    main()
