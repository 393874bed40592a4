"""Fifty threads that compute, and check what they computed and what the system told them. The file `health` has two numbers: how
often something was checked, and how often it was wrong.

Whoever looks at a stack of it can check that, too: the line of every caller names the function that it calls.
"""

import mmap
import os
import struct
import sys
import threading
import time

THREADS = 50
health = open("health", "r+b")
memory = mmap.mmap(health.fileno(), 16)
# All have had their turn soon, so that it is soon known whether all go on.
sys.setswitchinterval(0.0005)
checked = [0] * THREADS
wrong = [0] * THREADS


def leaf(n):
    return n


def a1(n):
    return a2(n) + 1


def a2(n):
    return a3(n) + 1


def a3(n):
    return a4(n) + 1


def a4(n):
    return leaf(n) + 1


def b1(n):
    return b2(n) - 1


def b2(n):
    return b3(n) - 1


def b3(n):
    return b4(n) - 1


def b4(n):
    return leaf(n) - 1


def ask(me, pipe):
    os.write(pipe[1], b"x")
    right = os.read(pipe[0], 2) == b"x"
    began = time.monotonic()
    time.sleep(0.002)
    return right and time.monotonic() - began >= 0.002


def drive(me):
    pipe = os.pipe()
    n = me
    while True:
        n = (n * 1103515245 + 12345) & 0x7FFFFFFF
        right = a1(n) == n + 4
        right = b1(n) == n - 4 and right
        # Seldom: whoever asks lets others run, and most would be seen here and nowhere else.
        if checked[me] % 30000 == 0:
            try:
                right = ask(me, pipe) and right
            except OSError:
                right = False
        checked[me] += 1
        wrong[me] += not right


for number in range(THREADS):
    threading.Thread(target=drive, args=(number,), daemon=True).start()
while True:
    # Only threads that all go on count.
    memory[:] = struct.pack("=QQ", min(checked), sum(wrong))
    time.sleep(0.005)
