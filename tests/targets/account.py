# coding: utf-8
"""What a target says of itself: the oracle of the frame tests. Runs on every Python from 2.7 and 3.6 on.

A target imports this module, brings its threads where it wants them, and calls tell() *on the very line* on which it then
blocks, so that the account is also right about the frame that gives it. The account is sys._current_frames(), written
to account.json in PYST_TARGET_DIR. After that, SIGUSR1 makes faulthandler write a second one, without running any Python.
"""

import json
import os
import signal
import sys
import threading
import time

from telling import WORK, frames_from, printable, write

try:
    import faulthandler
except ImportError:
    faulthandler = None  # Python 2.7

FOREVER = 1000000.0

# So that a core that the kernel writes lies there.
os.chdir(WORK)

# Whatever becomes of the test that started it, no target outlives this many seconds.
signal.alarm(900)

if faulthandler:
    _dump = open(os.path.join(WORK, "faulthandler.txt"), "w")
    faulthandler.register(signal.SIGUSR1, file=_dump, all_threads=True)

# Before 3.8 no Thread knows its tid. This is the moment at which newer ones ask for it.
if sys.version_info < (3, 8):

    def _note_tid(thread, set_ident=threading.Thread._set_ident):
        set_ident(thread)
        thread.native_id = int(os.readlink("/proc/thread-self").split("/")[-1])

    threading.current_thread().native_id = os.getpid()
    threading.Thread._set_ident = _note_tid


# Of threads that threading has forgotten.
tids = {}


def start(function, arguments=(), name=None):
    """Starts a daemon thread."""
    thread = threading.Thread(target=function, args=arguments, name=name)
    thread.daemon = True
    thread.start()
    return thread


def _snapshot():
    """{ident: (frame, instruction)} of all threads but this one."""
    me = threading.current_thread().ident
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


def tell(name="account.json"):
    """Writes the account, by default the one that the test waits for. The caller must block on the line that calls this."""
    me = threading.current_thread().ident
    natives = {thread.ident: thread for thread in threading.enumerate()}
    threads = []
    for ident, frame in sys._current_frames().items():
        speaker = sys._getframe(1) if ident == me else None
        thread = natives.get(ident)
        threads.append(
            {
                "ident": ident,
                "tid": thread.native_id if thread else tids.get(ident),
                "name": printable(thread.name) if thread else "",
                "daemon": thread.daemon if thread else None,
                "frames": frames_from(speaker or frame, speaker),
            }
        )
    write(name, json.dumps({"pid": os.getpid(), "version": sys.version.split()[0], "threads": threads}))
