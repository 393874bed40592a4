"""Two threads, each in an interpreter of its own, named by what they do with the GIL. With `isolated` each has its own, and both hold
one; else they share it. What spins does so only when the other has taken it: before 3.12 nothing would make it give the GIL away to
another interpreter."""

import ctypes
import sys
import threading
import time

import account

try:
    import _interpreters as api

    make = api.create
    other = make("isolated" if "isolated" in sys.argv else "legacy")
except ImportError:
    import _xxsubinterpreters as api

    other = api.create(isolated="isolated" in sys.argv) if sys.version_info >= (3, 9) else api.create()

sleep_with_it = ctypes.PyDLL(None).sleep
threading.current_thread().name = "holding"
account.start(api.run_string, (other, "import threading, time; time.sleep(1)\nwhile True: pass"), name="holding" if "isolated" in sys.argv else "waiting")
time.sleep(0.2)
account.tell(); sleep_with_it(1000)
