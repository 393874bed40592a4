"""Blocked in an atexit handler, when the interpreter shuts down but has not begun to finalize; or, given `finalizing`, in a destructor
that runs after it has."""

import atexit
import os
import sys
import time

import account

PART = os.path.join(account.WORK, "account.json.part")
DONE = os.path.join(account.WORK, "account.json")


def at_exit():
    account.tell(); time.sleep(account.FOREVER)


class Last:
    # By then modules are emptied: all that is needed is bound here.
    def __del__(self, rename=os.rename, sleep=time.sleep, forever=account.FOREVER, paths=(PART, DONE)):
        rename(*paths); sleep(forever)


if sys.argv[1] == "finalizing":
    open(PART, "w").write("{}")
    sys.last = Last()
else:
    atexit.register(at_exit)
