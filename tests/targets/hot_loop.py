"""Loops so hot that a JIT compiles them, each in the other, through C code; at last they sleep."""

import time

import account

TURNS = 20000


def inner(turn):
    total = 0
    for step in range(TURNS):
        total += step & 3
        if step == TURNS - 1 and turn == TURNS - 1:
            sleep(step)
    return total


def sleep(step):
    account.tell(); time.sleep(account.FOREVER)


def key(turn):
    return inner(turn) if turn == TURNS - 1 or turn < 40 else turn


def outer():
    for turn in range(TURNS):
        found = min([turn], key=key)
    return found


outer()
