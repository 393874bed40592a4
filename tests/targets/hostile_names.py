"""Names that try to drive the terminal of whoever reads the report: title, colour, clear screen, C1 controls, newlines."""

import ctypes
import sys
import threading
import time

import account

EVIL = "\x1b]0;owned\x07\x1b[31m\x1b[2J\x9b31m\r\n"
ctypes.CDLL(None).prctl(15, b"\x1b[31m\x07\x9bbad", 0, 0, 0)
threading.current_thread().name = EVIL


def innocent():
    account.tell(); time.sleep(account.FOREVER)


innocent.__code__ = innocent.__code__.replace(co_name="f" + EVIL, co_qualname="q" + EVIL, co_filename="/tmp/" + EVIL)
innocent()
