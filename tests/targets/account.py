"""What a target says of itself: the oracle of the frame tests.

A target imports this module, brings its threads where it wants them, and calls tell() *on the very line* on which it then
blocks, so that the account is also right about the frame that gives it. The account is sys._current_frames(), written
to account.json in PYST_TARGET_DIR. After that, SIGUSR1 makes faulthandler write a second one, without running any Python.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time

WORK = os.environ["PYST_TARGET_DIR"]
FOREVER = 1_000_000.0

# So that a core that the kernel writes lies there.
os.chdir(WORK)

# Whatever becomes of the test that started it, no target outlives this many seconds.
signal.alarm(900)

_dump = open(os.path.join(WORK, "faulthandler.txt"), "w")
faulthandler.register(signal.SIGUSR1, file=_dump, all_threads=True)


def _printable(text):
    """A str as the tools write it: lone surrogates escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _position(frame):
    for index, position in enumerate(frame.f_code.co_positions()):
        if index == frame.f_lasti // 2:
            return position
    return (None, None, None, None)


def _frames(frame, speaker):
    """The frames from `frame` outwards, outermost first. The speaker's own instruction moves on, so only its line counts."""
    frames = []
    while frame is not None:
        code = frame.f_code
        one = {
            "function": _printable(code.co_name),
            "qualname": _printable(code.co_qualname),
            "file": _printable(code.co_filename),
            "line": frame.f_lineno,
        }
        if frame is not speaker:
            _, one["end_line"], one["column"], one["end_column"] = _position(frame)
        frames.append(one)
        frame = frame.f_back
    frames.reverse()
    return frames


def _snapshot():
    """{ident: (frame, instruction)} of all threads but this one."""
    me = threading.get_ident()
    return {ident: (frame, frame.f_lasti) for ident, frame in sys._current_frames().items() if ident != me}


def settle(others):
    """Waits until `others` threads besides this one have a frame and none of them moves."""
    before = None
    while True:
        now = _snapshot()
        if len(now) == others and now == before:
            return
        before = now
        del now
        time.sleep(0.1)


def tell():
    """Writes the account. The caller must block on the line that calls this."""
    me = threading.get_ident()
    natives = {thread.ident: thread for thread in threading.enumerate()}
    threads = []
    for ident, frame in sys._current_frames().items():
        speaker = sys._getframe(1) if ident == me else None
        thread = natives.get(ident)
        threads.append(
            {
                "ident": ident,
                "tid": thread.native_id if thread else None,
                "name": _printable(thread.name) if thread else None,
                "frames": _frames(speaker or frame, speaker),
            }
        )
    write("account.json", json.dumps({"pid": os.getpid(), "version": sys.version.split()[0], "threads": threads}))


def write(name, text):
    """Creates a file in the target's folder, whole or not at all."""
    path = os.path.join(WORK, name)
    with open(path + ".part", "w") as out:
        out.write(text)
    os.rename(path + ".part", path)
