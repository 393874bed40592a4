"""Run by gdb: writes the physical native frames of every thread to $PYST_GDB_OUT as JSON, innermost first.

With $PYST_GDB_CORE it also writes a core there. The oracle of the native side. The tail calls that gdb makes up have no frame and are left out; inlined calls are told with the
frame they are in.
"""

import json
import os

import gdb

PHYSICAL = (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME, gdb.ARCH_FRAME)
stacks = {}
for inferior in gdb.inferiors():
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
                frames.append({"pc": frame.pc(), "name": frame.name(), "module": module, "calls": calls})
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
