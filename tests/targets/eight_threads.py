"""Eight threads, each at a depth of its own, each blocked in another way."""

import os
import queue
import threading
import time

import account


def by_sleep():
    time.sleep(account.FOREVER)


def by_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def by_event():
    threading.Event().wait()


def by_event_with_timeout():
    threading.Event().wait(account.FOREVER)


def by_pipe():
    reader, writer = os.pipe()
    os.read(reader, 1)


def by_queue():
    queue.Queue().get()


def by_join():
    threading.main_thread().join()


def descend(depth, block):
    if depth:
        return descend(depth - 1, block)
    block()


WAYS = [by_sleep, by_lock, by_event, by_event_with_timeout, by_pipe, by_queue, by_join]
for depth, way in enumerate(WAYS):
    threading.Thread(target=descend, args=(depth, way), name=f"worker-{way.__name__}", daemon=True).start()
account.settle(len(WAYS))
account.tell(); time.sleep(account.FOREVER)
