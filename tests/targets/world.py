"""A process without a GIL whose world stands still most of the time: one thread collects the garbage of a large heap over and over,
others are named by what they are when it does."""

import gc
import threading
import time

import account


def spins():
    while True:
        pass


def sleeps():
    time.sleep(account.FOREVER)


heap = [[number] for number in range(1000000)]
account.start(sleeps, name="suspended while it sleeps")
account.settle(1)
account.start(spins, name="suspended")
threading.current_thread().name = "attached"
account.tell()
while True:
    gc.collect()
