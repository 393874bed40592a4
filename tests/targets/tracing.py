"""Blocks in a function that sys.settrace() set, called for a line of a traced function, and in one of sys.setprofile() on a second
thread, called for the return of one. Frames under a debugger, a profiler, or coverage."""

import sys
import threading
import time

import account


def traced():
    nothing = None
    return nothing


def on_line(frame, event, argument):
    if event == "line" and frame.f_code is traced.__code__:
        # So that what is called here is not traced in its turn: the interpreter sees to that.
        pause()
    return on_line


def pause():
    account.settle(1)
    account.tell(); time.sleep(account.FOREVER)


def profiled():
    return traced()


def on_return(frame, event, argument):
    if event == "return" and frame.f_code is traced.__code__:
        time.sleep(account.FOREVER)


def profile():
    sys.setprofile(on_return)
    profiled()


account.start(profile)
sys.settrace(on_line)
traced()
