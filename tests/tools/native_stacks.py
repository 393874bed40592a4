"""Run by gdb: writes the physical native frames of every thread to $PYST_GDB_OUT as JSON, innermost first.

With $PYST_GDB_PYTHON, a version of Python, it adds to each frame the runs of Python functions that are tied to its part of the
stack (python_runs.py). With $PYST_GDB_CORE it also writes a core there. The oracle of the native side. The tail calls that gdb makes up have no frame and are left out; inlined calls are told with the
frame they are in.
"""

import json
import os
import sys

import gdb

sys.path.insert(0, os.path.dirname(__file__))
import python_runs

PHYSICAL = (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME, gdb.ARCH_FRAME)
version = tuple(int(number) for number in os.environ.get("PYST_GDB_PYTHON", "0").split("."))
stacks = {}


def runs_in(frame, runs):
    """Of the runs, those that are kept in this frame's part of the stack: from its stack pointer to that of its caller."""
    outer = frame.older()
    if outer is None:
        return []
    start, end = (int(one.read_register("sp").cast(gdb.lookup_type("unsigned long"))) for one in (frame, outer))
    return [names for anchor, names in runs if start <= anchor < end]


for inferior in gdb.inferiors():
    runs = python_runs.of_process(version)
    for thread in inferior.threads():
        thread.switch()
        frames, calls = [], []
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.type() in PHYSICAL or frame.type() == gdb.INLINE_FRAME:
                place = frame.find_sal()
                file = place.symtab.filename if place.symtab else None
                calls.append({"name": frame.name(), "file": file, "line": place.line or None})
            if frame.type() in PHYSICAL:
                module = gdb.solib_name(frame.pc())
                one = {"pc": frame.pc(), "name": frame.name(), "module": module, "calls": calls}
                if runs is not None:
                    one["runs"] = runs_in(frame, runs)
                frames.append(one)
                calls = []
            frame = frame.older()
        if frames:
            innermost = gdb.newest_frame()
            names = ("rsp", "rbp") if "x86-64" in innermost.architecture().name() else ("sp", "x29")
            frames[0]["pointers"] = [int(innermost.read_register(name)) % 2**64 for name in names]
        stacks[thread.ptid[1] or thread.ptid[0]] = frames
if "PYST_GDB_CORE" in os.environ:
    gdb.execute("gcore " + os.environ["PYST_GDB_CORE"], to_string=True)
with open(os.environ["PYST_GDB_OUT"], "w") as out:
    json.dump(stacks, out)
