"""A thread collects garbage and sleeps in a finalizer, with the GIL or without it, as the argument says; others do not. One calls a C
function that looks as if it did: the second argument is a library with such functions."""

import ctypes
import gc
import sys
import threading
import time

import account

WITH_GIL, LIBRARY = sys.argv[1] == "holding", sys.argv[2]
library = ctypes.CDLL(LIBRARY)
sleep_with_it = ctypes.PyDLL(None).sleep


class Garbage(object):
    def __del__(self):
        reached.set()
        if WITH_GIL:
            told.wait()
            sleep_with_it(1000)
        time.sleep(account.FOREVER)


def collects():
    garbage = Garbage()
    garbage.itself = garbage
    del garbage
    gc.collect()


gc.disable()
reached, told = threading.Event(), threading.Event()
account.start(library.collect, name="looks as if")
account.start(library.collect_rent, name="looks as if, too")
account.start(time.sleep, (account.FOREVER,), name="sleeps")
account.start(collects, name="collects")
reached.wait()
account.tell(); told.set(); time.sleep(account.FOREVER)
