"""A thread made by C code that calls into Python, as libraries do that report from threads of their own: Python learns of it
when it does, and `threading` never."""

import ctypes
import os
import time

import account

try:
    from threading import get_ident
except ImportError:
    from thread import get_ident  # Python 2.7

try:
    from threading import get_native_id
except ImportError:

    def get_native_id():  # Before 3.8.
        return int(os.readlink("/proc/thread-self").split("/")[-1])


libc = ctypes.CDLL(None)


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def start(argument):
    account.tids[get_ident()] = get_native_id()
    return len(sorted([1, 2], key=called))


def called(value):
    time.sleep(account.FOREVER)


thread = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(thread), None, start, None) == 0
account.settle(1)
account.tell(); time.sleep(account.FOREVER)
