"""Eight threads, each at a depth of its own, each blocked in another way."""

import os
import sys
import threading
import time

import account

try:
    from queue import Queue
except ImportError:
    from Queue import Queue  # Python 2.7

MAIN = threading.current_thread()


def by_sleep():
    time.sleep(account.FOREVER)


def by_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def by_event():
    threading.Event().wait()


def by_event_with_timeout():
    # 2.7 would poll, and never sleep.
    threading.Event().wait(account.FOREVER if sys.version_info >= (3,) else None)


def by_pipe():
    reader, writer = os.pipe()
    os.read(reader, 1)


def by_queue():
    Queue().get()


def by_join():
    MAIN.join()


def descend(depth, block):
    if depth:
        return descend(depth - 1, block)
    block()


WAYS = [by_sleep, by_lock, by_event, by_event_with_timeout, by_pipe, by_queue, by_join]
for depth, way in enumerate(WAYS):
    account.start(descend, (depth, way), "worker-" + way.__name__)
account.settle(len(WAYS))
account.tell(); time.sleep(account.FOREVER)
