# coding: utf-8
"""Lone surrogates in names: a file whose name is no UTF-8, and, where code can be rebuilt, a function's and its class's."""

import os
import time

import account


def wait():
    account.tell(); time.sleep(account.FOREVER)


def renamed(then):
    then()


NAMES = {"co_name": "name_\udcff_\ud800", "co_qualname": "Class\udfff.name_\udcff_\ud800", "co_filename": "/tmp/\udc80é漢.py"}
if hasattr(renamed.__code__, "replace"):
    known = {key: value for key, value in NAMES.items() if hasattr(renamed.__code__, key)}
    renamed.__code__ = renamed.__code__.replace(**known)
names = {"renamed": renamed, "wait": wait}
exec(compile("def f():\n    renamed(wait)\nf()", os.fsdecode(b"caf\xe9/\xff\xed\xb2\x80.py"), "exec"), names)
