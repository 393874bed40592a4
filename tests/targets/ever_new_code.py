"""Threads that make code, run it for a millisecond, in which they sleep, and throw it away; and some that never rest. The arguments
are how many there are of each. The functions of one moment have the same number at the end of their names.
"""

import sys
import time

import account

SOURCE = """
def outer__%d():
    def inner__%d():
        time.sleep(0.001)
    inner__%d()
outer__%d()
"""


def make(me):
    number = me
    while True:
        number += 100
        exec(compile(SOURCE % ((number,) * 4), "<made %d>" % number, "exec"), {"time": time})


def rest_never():
    while True:
        sum(range(1000))


makers, restless = [int(argument) for argument in sys.argv[1:]]
for number in range(makers):
    account.start(make, (number,))
for _ in range(restless):
    account.start(rest_never)
account.write("account.json", "{}")
time.sleep(account.FOREVER)
