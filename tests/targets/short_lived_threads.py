"""Threads that start others, which live for some milliseconds."""

import time

import account


def live():
    time.sleep(0.003)


def start():
    while True:
        account.start(live)
        time.sleep(0.001)


for _ in range(3):
    account.start(start)
account.write("account.json", "{}")
time.sleep(account.FOREVER)
