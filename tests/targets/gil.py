"""Threads named by what they do with the GIL. One sleeps in C code that does not give it away, for ever; one waits for it; others
sleep without it."""

import ctypes
import os
import threading
import time

import account

turn = threading.Event()


def wants_it():
    turn.set()
    while True:
        pass


def sleeps():
    time.sleep(account.FOREVER)


def reads(end):
    os.read(end, 1)


# Called without giving the GIL away.
sleep_with_it = ctypes.PyDLL(None).sleep
ends = os.pipe()
account.start(sleeps, name="none sleeping")
account.start(reads, (ends[0],), name="none reading")
threading.current_thread().name = "holding"
account.settle(2)
account.start(wants_it, name="waiting")
turn.wait()
account.tell(); sleep_with_it(1000)
