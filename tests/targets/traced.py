"""Frames under sys.settrace(): a trace function that sleeps while the line of a traced frame is reported, and callers which
are traced too. The lines of such frames are those that tracing has given them."""

import sys
import time

import account


def trace(frame, event, argument):
    if frame.f_code.co_name == "traced" and event == "line" and frame.f_locals.get("last"):
        block()
    return trace


def block():
    sys.settrace(None)
    account.tell(); time.sleep(account.FOREVER)


def traced():
    first = [
        number
        for number in range(3)
    ]
    last = (
        first
    )
    return last


def caller():
    for _ in range(2):
        middle(
            traced
        )


def middle(function):
    try:
        raise KeyError
    except KeyError:
        function()


def untraced():
    sys.settrace(trace)
    caller()


untraced()
