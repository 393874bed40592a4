"""Dies of a segmentation fault at address 0x1234 when SIGUSR2 comes."""

import ctypes
import signal
import time

import account


def crash(*_):
    ctypes.string_at(0x1234)


signal.signal(signal.SIGUSR2, crash)
account.tell(); time.sleep(account.FOREVER)
