"""A class that was called often enough to be called in a faster way: from 3.13 on with a frame of the interpreter's own below
`__init__`, at which faulthandler gives up."""

import time

import account


class Waiter:
    def __init__(self, waits):
        if waits:
            account.tell(); time.sleep(account.FOREVER)


def make(waits):
    return Waiter(waits)


for _ in range(10000):
    make(False)
make(True)
