"""C code that calls back into Python, twice over: functools.reduce inside map inside functools.reduce."""

import functools
import time

import account


def inner_step(total, value):
    account.tell(); time.sleep(account.FOREVER)
    return total + value


def fold(values):
    return functools.reduce(inner_step, values)


def outer_step(total, value):
    return total + sum(map(fold, [[1, 2], [3, 4]]))


def begin():
    functools.reduce(outer_step, [1, 2, 3])


begin()
