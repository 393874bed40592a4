"""Blocks inside comprehensions in one another: a list in a dict in a set in a generator expression. From 3.12 on all but the last
are inlined, and in 2.7 the list is."""

import time

import account


def block(number):
    account.tell(); time.sleep(account.FOREVER)
    return number


def comprehend(numbers):
    return next(
        {
            len({key: [block(value) for value in numbers if value] for key in numbers})
            for _ in numbers
        }
        for _ in numbers
    )


class Body:
    held = [comprehend([number]) for number in range(1, 3)]
