"""The five frames of five_frames.py over a heap: `heap.py bytes N` holds one bytearray, `heap.py objects N` N lists."""

import sys
import time

import account


def middle():
    inner()


def inner():
    innermost()


def innermost():
    account.tell(); time.sleep(account.FOREVER)


def outer():
    middle()


kind, count = sys.argv[1], int(sys.argv[2])
if kind == "bytes":
    held = bytearray(count)
    held[:: 1 << 20] = b"x" * len(range(0, count, 1 << 20))
else:
    held = [[number, str(number)] for number in range(count)]
outer()
