"""Names that are not ASCII: one byte, two bytes and four bytes a character inside CPython; the tests run it as 関数_🦀.py."""

import os
import time

import account


def naïve_été():
    функция()


def функция():
    関数()


def 関数():
    Größe.Длина().𝔘𝔫𝔦()


class Größe:
    class Длина:
        def uni(self):
            bytes_that_are_no_utf8()

        def __getattr__(self, name):
            return self.uni


def bytes_that_are_no_utf8():
    source = "def café():\n    wait()\ncafé()"
    exec(compile(source, os.fsdecode(b"caf\xe9/\xff.py"), "exec"), {"wait": crab})


def crab():
    exec(compile("\n\nwait()", "/tmp/🦀🦀/файл.py", "exec"), {"wait": wait})


def wait():
    account.tell(); time.sleep(account.FOREVER)


naïve_été()
