"""A thread at its end: in the destructor of a thread-local value, which runs when Python has left the last frame of the thread."""

import threading
import time

import account

LOCAL = threading.local()
DONE = threading.Event()


class Last(object):
    def __del__(self, sleep=time.sleep, forever=account.FOREVER):
        DONE.set()
        sleep(forever)


def leave():
    # By then it is no longer among threading's threads.
    account.tids[threading.current_thread().ident] = threading.current_thread().native_id
    LOCAL.last = Last()


account.start(leave)
DONE.wait()
account.settle(1)
account.tell(); time.sleep(account.FOREVER)
