"""Fifty threads, five to nine frames each."""

import time

import account


def descend(depth):
    if depth:
        descend(depth - 1)
    else:
        time.sleep(account.FOREVER)


for number in range(49):
    account.start(descend, (number % 5,), "worker-%d" % number)
account.settle(49)
account.tell(); time.sleep(account.FOREVER)
