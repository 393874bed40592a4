"""Threads that alternate two chains of calls as fast as they can: drive, a1 to a8, leaf, and drive, b1 to b8, leaf.

At any moment the functions on the stack of such a thread, outermost first, are the first of one of the two chains. A stack that
has some of both never was. With "generators" the second chain is g1 to g8, generators, whose frames are objects of their own. The first
argument is how many threads there are.
"""

import sys
import time

import account


def leaf(n):
    return n


def a1(n):
    return a2(n) + 1


def a2(n):
    return a3(n) + 1


def a3(n):
    return a4(n) + 1


def a4(n):
    return a5(n) + 1


def a5(n):
    return a6(n) + 1


def a6(n):
    return a7(n) + 1


def a7(n):
    return a8(n) + 1


def a8(n):
    return leaf(n) + 1


def b1(n):
    return b2(n) + 1


def b2(n):
    return b3(n) + 1


def b3(n):
    return b4(n) + 1


def b4(n):
    return b5(n) + 1


def b5(n):
    return b6(n) + 1


def b6(n):
    return b7(n) + 1


def b7(n):
    return b8(n) + 1


def b8(n):
    return leaf(n) + 1


def drive():
    while True:
        a1(0)
        b1(0)


def g1(n):
    yield next(b2(n)) + 1


def g2(n):
    yield next(b3(n)) + 1


def g3(n):
    yield next(b4(n)) + 1


def g4(n):
    yield next(b5(n)) + 1


def g5(n):
    yield next(b6(n)) + 1


def g6(n):
    yield next(b7(n)) + 1


def g7(n):
    yield next(b8(n)) + 1


def g8(n):
    yield leaf(n) + 1


def drive_generators():
    while True:
        a1(0)
        next(b1(0))


if "generators" in sys.argv:
    for number in range(1, 9):
        generator = globals()["g%d" % number]
        globals()["b%d" % number] = generator
    drive = drive_generators

for _ in range(int(sys.argv[1])):
    account.start(drive, name="busy")
account.write("account.json", "{}")
time.sleep(account.FOREVER)
