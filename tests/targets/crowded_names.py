"""Three threads, in a process that has imported more modules and started more threads than most."""

import sys
import threading
import time

import account

CROWD = 3000

# As if threading had been imported last.
this = sys.modules.pop("threading")
for number in range(CROWD):
    sys.modules["crowd_%d" % number] = None
sys.modules["threading"] = this

# No idents of threads.
for number in range(CROWD):
    threading._active[number + 1] = threading.current_thread()

for number in range(2):
    account.start(time.sleep, (account.FOREVER,), "worker-%d" % number)
# The main thread, too, is behind them.
threading._active[threading.current_thread().ident] = threading._active.pop(threading.current_thread().ident)
account.settle(2)
account.tell(); time.sleep(account.FOREVER)
