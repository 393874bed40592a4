"""Becomes another program when it gets SIGUSR2."""

import os
import signal
import time

import account

signal.signal(signal.SIGUSR2, lambda *_: os.execv("/bin/sleep", ["sleep", "900"]))
account.tell(); time.sleep(account.FOREVER)
