"""C code that calls back into Python: sorted(key=...)."""

import time

import account


def key(value):
    return slow_key(value)


def slow_key(value):
    account.tell(); time.sleep(account.FOREVER)
    return value


def order(values):
    return sorted(values, key=key)


order([3, 1, 2])
