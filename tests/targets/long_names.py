# coding: utf-8
"""Names as long as somebody's generator makes them: a function, a qualified name and a file of hundreds of characters, in one to
four bytes a character where there is Unicode. None has more than the 4,096 bytes that a report shows of a name."""

import sys
import time

import account


def wait():
    account.tell(); time.sleep(account.FOREVER)


def call_through(number, letter, then):
    name = "n%d_" % number + letter * 600
    source = "class %s:\n  def %s(self):\n    then()\n%s().%s()" % (name, name, name, name)
    exec(compile(source, "/tmp/" + "/".join([letter * 90] * 10) + "/%d.py" % number, "exec"), {"then": then})


letters = ["a", "é", "漢", "𝒳"] if sys.version_info >= (3,) else ["a"]
then = wait
for number, letter in enumerate(letters):
    then = lambda number=number, letter=letter, then=then: call_through(number, letter, then)
then()
