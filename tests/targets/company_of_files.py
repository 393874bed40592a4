# coding: utf-8
"""One thread, asleep, in a process that has more mapped than its interpreter: arguments `data:F` map the whole file F, `load:F`
loads it as a library with symbols of its own."""

import ctypes
import mmap
import sys
import time

import account

# Of <dlfcn.h>: its own symbols, not those of the interpreter that runs.
DEEPBIND = 8

kept = []
for argument in sys.argv[1:]:
    how, path = argument.split(":", 1)
    if how == "data":
        with open(path, "rb") as data:
            kept.append(mmap.mmap(data.fileno(), 0, prot=mmap.PROT_READ))
    else:
        kept.append(ctypes.CDLL(path, ctypes.DEFAULT_MODE | DEEPBIND))


def innermost():
    account.tell(); time.sleep(account.FOREVER)


innermost()
