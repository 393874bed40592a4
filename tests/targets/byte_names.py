# coding: utf-8
"""Names in Python 2.7 are bytes: files named in UTF-8, in Latin-1 and in what is neither, and a function whose name is no identifier."""

import time
import types

import account


def wait():
    account.tell(); time.sleep(account.FOREVER)


def renamed(then):
    then()


code = renamed.__code__
renamed.__code__ = types.CodeType(
    code.co_argcount, code.co_nlocals, code.co_stacksize, code.co_flags, code.co_code, code.co_consts, code.co_names,
    code.co_varnames, "/tmp/\xff\xfe\x80.py", "caf\xe9 \xd1\x84\xd1\x83\xd0\xbd\xd0\xba", code.co_firstlineno, code.co_lnotab,
)  # fmt: skip
names = {"wait": wait, "renamed": renamed}
exec(compile("def f():\n    renamed(wait)\n", "/tmp/关数/файл_🦀.py", "exec"), names)
exec(compile("f()", "/tmp/caf\xe9.py", "exec"), names)
