"""Threads that never block: each goes down the same road again and again, so that any moment shows a part of that road.

Frames outermost first are always a prefix of: <Thread bootstrap>, drive, first, second, third, fourth; fourth calls C code at times.
"""

import threading
import time

import account


def fourth(count):
    return sum(sorted(range(count), key=fifth))


def fifth(value):
    return -value


def third(count):
    return fourth(count) + 1


def second(count):
    return third(count) + 1


def first(count):
    return second(count) + 1


def drive():
    while True:
        first(30)


def come_and_go():
    while True:
        thread = threading.Thread(target=first, args=(10,))
        thread.start()
        thread.join()


for _ in range(4):
    account.start(drive, name="busy")
account.start(come_and_go, name="storm")
account.write("account.json", "{}")
while True:
    time.sleep(0.001)
