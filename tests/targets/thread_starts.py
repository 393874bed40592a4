"""Two threads that Python has a state of, and that have never run a frame, for they wait for the GIL: one that Python started, one of C
code that calls into Python. The main thread holds the GIL in C code."""

import ctypes
import sys
import threading

import account

try:
    from _thread import start_new_thread
except ImportError:
    from thread import start_new_thread  # Python 2.7

# Nobody is asked for the GIL, which what runs here drops in no other way.
sys.setcheckinterval(1 << 30) if sys.version_info < (3,) else sys.setswitchinterval(1000)
python = ctypes.PyDLL(None)
thread = ctypes.c_ulong()
# Locked twice, and never interrupted by a signal.
mutex = ctypes.create_string_buffer(256)
python.pthread_mutex_lock(mutex)


def begin():
    start_new_thread(pow, (2, 3))
    python.pthread_create(ctypes.byref(thread), None, python.PyGILState_Ensure, None)


account.tell(); begin(); python.pthread_mutex_lock(mutex)
