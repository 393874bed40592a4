"""Fifty threads, or as many as are asked for, five to nine frames each."""

import sys
import time

import account


def descend(depth):
    if depth:
        descend(depth - 1)
    else:
        time.sleep(account.FOREVER)


workers = int(sys.argv[1]) - 1 if len(sys.argv) > 1 else 49
for number in range(workers):
    account.start(descend, (number % 5,), "worker-%d" % number)
account.settle(workers)
account.tell(); time.sleep(account.FOREVER)
