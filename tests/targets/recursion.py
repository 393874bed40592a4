"""A function that calls itself 200 times."""

import time

import account


def again(left):
    if left == 0:
        account.tell(); time.sleep(account.FOREVER)
    return again(left - 1) + 1


again(200)
