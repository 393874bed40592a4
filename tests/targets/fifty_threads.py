"""Fifty threads, five to nine frames each."""

import threading
import time

import account


def descend(depth):
    if depth:
        descend(depth - 1)
    else:
        time.sleep(account.FOREVER)


for number in range(49):
    threading.Thread(target=descend, args=(number % 5,), name=f"worker-{number}", daemon=True).start()
account.settle(49)
account.tell(); time.sleep(account.FOREVER)
