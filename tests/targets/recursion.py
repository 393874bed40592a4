"""A function that calls itself as often as the argument says, 200 times without, on a thread with room enough."""

import sys
import threading
import time

import account

DEPTH = int(sys.argv[1]) if len(sys.argv) > 1 else 200


def again(left):
    if left == 0:
        account.settle(others)
        account.tell(); time.sleep(account.FOREVER)
    return again(left - 1) + 1


if DEPTH < 500:
    others = 0
    again(DEPTH)
else:
    # Up to 3.10 each call takes C stack: half a kilobyte, in debug builds two.
    sys.setrecursionlimit(DEPTH + 100)
    threading.stack_size((16 << 20) + DEPTH * 5000)
    others = 1
    account.start(again, (DEPTH,)).join()
