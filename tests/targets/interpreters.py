"""Sub-interpreters, by what the argument says:

- nested: main's code runs code in a second interpreter, which runs code in a third, all on the main thread
- threads: each of two threads runs code in an interpreter that the main thread made, and so does the main thread
- several: one thread has run code in three interpreters and runs it in a fourth; another thread of main sleeps
- inner-thread: an interpreter that a thread runs code in has a thread of its own
- idle: three interpreters in which nothing runs

With `isolated` after that, each has a GIL of its own where that can be (3.12 and later).
"""

import sys
import threading
import time

import account
import telling

try:
    import _interpreters as api

    def create():
        return api.create("isolated" if ISOLATED else "legacy")

except ImportError:
    import _xxsubinterpreters as api

    def create():
        return api.create(isolated=ISOLATED) if sys.version_info >= (3, 9) else api.create()


KIND, ISOLATED = sys.argv[1], "isolated" in sys.argv

# For code in a sub-interpreter.
BEGIN = f"""
import sys, time
sys.path.insert(0, {telling.WORK!r})
import telling
def sleep(level, interpreter, then=lambda: None):
    telling.part(level, interpreter); then(); time.sleep({account.FOREVER})
"""


def number(interpreter):
    return int(interpreter)


def nested():
    second, third = create(), create()
    inner = f"""
import {api.__name__} as api
def call():
    telling.part(1, {number(second)}); api.run_string({number(third)}, {BEGIN + f"sleep(2, {number(third)}, lambda: telling.together(3))"!r})
call()
"""
    telling.part(0, 0); api.run_string(second, BEGIN + inner)


def sleeper(interpreter):
    telling.part(0, 0); api.run_string(interpreter, BEGIN + f"sleep(1, {number(interpreter)})")


def threads():
    made = [create() for _ in range(3)]
    account.start(sleeper, (made[0],))
    account.start(sleeper, (made[2],))
    telling.part(0, 0); api.run_string(made[1], BEGIN + f"sleep(1, {number(made[1])}, lambda: telling.together(6))")


def several_on_one():
    made = [create() for _ in range(4)]
    for interpreter in made[:3]:
        api.run_string(interpreter, BEGIN)
    telling.part(0, 0); api.run_string(made[3], BEGIN + f"sleep(1, {number(made[3])})")


def several():
    account.start(several_on_one)
    account.start(sleeper, (create(),))
    telling.part(0, 0); telling.together(5); time.sleep(account.FOREVER)


def inner_thread():
    made = create()
    code = f"""
import threading
threading.Thread(target=sleep, args=(0, {number(made)})).start()
sleep(1, {number(made)}, lambda: telling.together(3))
"""
    telling.part(0, 0); api.run_string(made, BEGIN + code)


def idle():
    made = [create() for _ in range(3)]
    api.run_string(made[1], BEGIN)
    telling.part(0, 0); telling.together(1); time.sleep(account.FOREVER)


{"nested": nested, "threads": threads, "several": several, "inner-thread": inner_thread, "idle": idle}[KIND]()
