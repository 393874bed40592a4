"""A thread that Python knows nothing of: made by C code, and blocked in C code."""

import ctypes
import time

import account

libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(thread), None, libc.pause, None) == 0
account.tell(); time.sleep(account.FOREVER)
