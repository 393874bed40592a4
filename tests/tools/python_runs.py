"""Run by gdb: which Python functions each evaluation loop of a thread runs, and where on the C stack the interpreter keeps something of
that run. By the structures of the process alone, without a symbol but `_PyRuntime`: 3.13 and later say themselves where what
is (`_Py_DebugOffsets`); for 3.11 and 3.12 the places are those of their headers. Before 3.11 nothing is kept there.
"""

import struct

import gdb

# Where _Py_DebugOffsets has what is wanted.
STATED = {
    (3, 13): dict(head=40, next=64, threads=72, thread_next=168, current=184, previous=232, code=240, owner=264, file=280, name=288, length=552, text=560),
    (3, 14): dict(head=40, next=64, threads=72, thread_next=192, current=208, previous=256, code=264, owner=288, file=320, name=328, length=632, text=640),
    (3, 15): dict(head=40, next=64, threads=72, thread_next=192, current=208, previous=320, code=328, owner=352, file=384, name=392, length=728, text=736),
}
KNOWN = {
    (3, 11): dict(head=40, next=0, threads=16, thread_next=8, cframe=56, previous=48, code=32, owner=69, file=112, name=120, length=16, text=48),
    (3, 12): dict(head=40, next=0, threads=72, thread_next=8, cframe=56, previous=8, code=0, owner=70, file=112, name=120, length=16, text=40),
}
# FRAME_OWNED_BY_CSTACK, later FRAME_OWNED_BY_INTERPRETER.
SHIM = 3


def word(address, kind="Q"):
    memory = gdb.selected_inferior().read_memory(address, struct.calcsize(kind))
    return struct.unpack(kind, bytes(memory))[0]


class Python:
    def __init__(self, version):
        self.runtime = int(gdb.parse_and_eval("(unsigned long)&_PyRuntime"))
        self.at = KNOWN.get(version)
        if version in STATED:
            self.at = {name: word(self.runtime + place) for name, place in STATED[version].items()}
        self.version = version

    def threads(self):
        """The states of all interpreters."""
        interpreter = word(self.runtime + self.at["head"])
        while interpreter:
            thread = word(interpreter + self.at["threads"])
            while thread:
                yield thread
                thread = word(thread + self.at["thread_next"])
            interpreter = word(interpreter + self.at["next"])

    def name(self, frame):
        """None for what Python does not show: the frame that checks what __init__ returns, whose code has one text for all it is called."""
        code = word(frame + self.at["code"]) & ~3
        text = word(code + self.at["name"])
        if text == word(code + self.at["file"]):
            return None
        length = word(text + self.at["length"])
        return bytes(gdb.selected_inferior().read_memory(text + self.at["text"], length)).decode("latin-1")

    def frames(self, frame, end=0):
        """(address, whether it is a shim) from `frame` outwards."""
        while frame and frame != end:
            yield frame, word(frame + self.at["owner"], "B") == SHIM
            frame = word(frame + self.at["previous"])

    def runs(self, thread):
        """(anchor, names) of each run of a thread state, innermost first both."""
        if self.version == (3, 11):
            yield from self.runs_by_cframes(word(thread + self.at["cframe"]))
            return
        current = word(word(thread + self.at["cframe"])) if self.version == (3, 12) else word(thread + self.at["current"])
        names = []
        for frame, is_shim in self.frames(current):
            if is_shim:
                yield frame, names
                names = []
            else:
                names.append(self.name(frame))

    def runs_by_cframes(self, cframe):
        while word(cframe + 16):
            outer = word(cframe + 16)
            run = self.frames(word(cframe + 8), word(outer + 8))
            yield cframe, [self.name(frame) for frame, _ in run]
            cframe = outer


def of_process(version):
    """(anchor, names) of all runs; None for a version that keeps nothing on the C stack. Which thread runs one is for the anchor to
    tell: before 3.13 the state of a sub-interpreter may name another one."""
    if version not in STATED and version not in KNOWN:
        return None
    python = Python(version)
    return [run for thread in python.threads() for run in python.runs(thread)]
