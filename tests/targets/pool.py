"""A process with children: workers, one of them started by another thread; a tool that is no Python, if there is one; and one that has exited, and
that nobody waited for. The argument says how workers are started. Each worker gives an account of its own."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time

import account


def account_of(pid):
    return "account-%d.json" % pid


def work():
    account.tell(account_of(os.getpid())); time.sleep(account.FOREVER)


def start_and_wait(worker):
    worker.start()
    worker.join()


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    # Waits until it has exited, and leaves it as it is.
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    # Not every root has one.
    tool = shutil.which("sleep") and subprocess.Popen(["sleep", "100000"])
    workers = [context.Process(target=work, daemon=True) for _ in range(2)]
    workers[0].start()
    account.start(start_and_wait, (workers[1],))
    while not all(worker.pid and os.path.exists(account_of(worker.pid)) for worker in workers):
        time.sleep(0.01)
    account.settle(1)
    account.tell(); time.sleep(account.FOREVER)
