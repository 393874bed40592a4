"""One thread, five frames deep, asleep."""

import time

import account


def middle():
    inner()


def inner():
    innermost()


def innermost():
    account.tell(); time.sleep(account.FOREVER)


def outer():
    middle()


outer()
