"""Foreign code that calls back into Python: ctypes callbacks, three levels deep."""

import ctypes
import time

import account

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


@CALLBACK
def level(depth):
    return enter(depth - 1)


def enter(depth):
    if depth == 0:
        account.tell(); time.sleep(account.FOREVER)
    return level(depth)


enter(3)
