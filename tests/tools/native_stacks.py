"""Run by gdb: writes the physical native frames of every thread to $PYST_GDB_OUT as JSON, innermost first.

The oracle of the native side. Inlined calls and the tail calls that gdb makes up have no frame of their own and are left out.
"""

import json
import os

import gdb

PHYSICAL = (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME, gdb.ARCH_FRAME)
stacks = {}
for inferior in gdb.inferiors():
    for thread in inferior.threads():
        thread.switch()
        frames = []
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.type() in PHYSICAL:
                frames.append({"pc": frame.pc(), "name": frame.name(), "module": gdb.solib_name(frame.pc())})
            frame = frame.older()
        stacks[thread.ptid[1] or thread.ptid[0]] = frames
with open(os.environ["PYST_GDB_OUT"], "w") as out:
    json.dump(stacks, out)
