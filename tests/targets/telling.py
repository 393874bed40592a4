# coding: utf-8
"""How a target's account is written. For code in a sub-interpreter too, which cannot import `account`: what that sets up (signals, a
working directory) is there once a process.

A process with several interpreters gives its account in parts: each piece of code that blocks, or calls what runs in another
interpreter, writes its own frames by part(), on that very line, and the last one puts the parts together by together().
"""

import json
import os
import sys
import threading
import time

WORK = os.environ["PYST_TARGET_DIR"]


def printable(text):
    """A text as the tools write it: lone surrogates escaped, as which 3 has bytes that are no UTF-8; those of 2.7 look the same."""
    if isinstance(text, bytes):
        import codecs

        def escape(error):
            bad = bytearray(error.object[error.start : error.end])
            return u"".join(u"\\udc%02x" % one for one in bad), error.end

        codecs.register_error("escape-bytes", escape)
        return text.decode("utf-8", "escape-bytes")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _position(frame):
    for index, position in enumerate(frame.f_code.co_positions()):
        if index == frame.f_lasti // 2:
            return position
    return (None, None, None, None)


def frames_from(frame, speaker):
    """The frames from `frame` outwards, outermost first. The speaker's own instruction moves on, so only its line counts."""
    frames = []
    while frame is not None:
        code = frame.f_code
        one = {"function": printable(code.co_name), "file": printable(code.co_filename), "line": frame.f_lineno}
        if sys.version_info >= (3, 11):
            one["qualname"] = printable(code.co_qualname)
            if frame is not speaker:
                _, one["end_line"], one["column"], one["end_column"] = _position(frame)
        frames.append(one)
        frame = frame.f_back
    frames.reverse()
    return frames


def write(name, text):
    """Creates a file in the target's folder, whole or not at all."""
    path = os.path.join(WORK, name)
    with open(path + ".part", "w") as out:
        out.write(text)
    os.rename(path + ".part", path)


def part(level, interpreter):
    """Writes the caller's frames: those of the interpreter with this id, the `level`-th on its thread. Not before 3.8."""
    me = sys._getframe(1)
    frames = frames_from(me, me)
    for frame in frames:
        frame["interpreter_id"] = interpreter
    tid = threading.get_native_id()
    one = {"ident": threading.get_ident(), "tid": tid, "level": level, "frames": frames}
    write("part-%d-%d.json" % (tid, level), json.dumps(one))


def together(count):
    """Waits until there are `count` parts, and makes the account of them."""
    while True:
        names = [name for name in os.listdir(WORK) if name.startswith("part-") and name.endswith(".json")]
        if len(names) == count:
            break
        time.sleep(0.05)
    threads = {}
    for one in sorted((json.load(open(os.path.join(WORK, name))) for name in names), key=lambda one: one["level"]):
        thread = threads.setdefault(one["tid"], {"ident": one["ident"], "tid": one["tid"], "name": "", "frames": []})
        thread["frames"] += one["frames"]
    write("account.json", json.dumps({"pid": os.getpid(), "version": sys.version.split()[0], "threads": list(threads.values())}))
