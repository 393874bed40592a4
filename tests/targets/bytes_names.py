# coding: utf-8
"""Names of Python 2, which are bytes: of UTF-8, of Latin-1, and of nothing in particular."""

import time
import types

import account


def renamed(function, name):
    code = function.__code__
    parts = [getattr(code, "co_" + part) for part in "argcount nlocals stacksize flags code consts names varnames".split()]
    file = "/tmp/файл-\xe9.py"
    return types.FunctionType(types.CodeType(*(parts + [file, name, 7, code.co_lnotab])), globals())


def wait():
    account.tell(); time.sleep(account.FOREVER)


def cyrillic():
    latin()


def latin():
    broken()


def broken():
    wait()


broken = renamed(broken, "\xff\xe2\x82")
latin = renamed(latin, "caf\xe9")
renamed(cyrillic, "функция_🦀")()
