"""Python functions that are called through trampolines in anonymous memory, which `-X perf` makes, three deep and asleep."""

import sys
import time

import account


def outer(key):
    return sorted([1], key=key)


def key(number):
    return innermost()


def innermost():
    account.tell(); time.sleep(account.FOREVER)


sys.activate_stack_trampoline("perf")
outer(key)
