"""A function that calls itself 100,000 times, on a thread whose stack is large enough for that."""

import sys
import threading
import time

import account

DEPTH = int(sys.argv[1]) if len(sys.argv) > 1 else 100000


def again(left):
    if left == 0:
        time.sleep(account.FOREVER)
    return again(left - 1) + 1


sys.setrecursionlimit(DEPTH + 100)
threading.stack_size(1 << 30)
thread = threading.Thread(target=again, args=(DEPTH,), name="deep")
thread.daemon = True
thread.start()
account.settle(1)
account.tell(); time.sleep(account.FOREVER)
