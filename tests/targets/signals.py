"""Counts the SIGUSR2 it gets: one byte in the file `signals` for each."""

import os
import signal
import time

import account

counter = os.open(os.path.join(account.WORK, "signals"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
signal.signal(signal.SIGUSR2, lambda *_: os.write(counter, b"."))
account.tell(); time.sleep(account.FOREVER)
