"""Generators that run, without `yield from`: looped over, and driven from C; and one that is suspended and must not show."""

import time

import account


def deepest():
    yield 1
    account.tell(); time.sleep(account.FOREVER)
    yield 2


def looping():
    for value in deepest():
        yield value * 2


def driven_from_c():
    return sum(value for value in looping())


suspended = looping()
next(suspended)
driven_from_c()
