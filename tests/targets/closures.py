"""Qualified names that are long and nested, and code without a file."""

import time

import account


class Outer:
    class Inner:
        def method(self):
            def local():
                class Local:
                    def __call__(self):
                        return (lambda: [block() for _ in range(1)])()

                return Local()()

            return local()

        @classmethod
        def made(cls):
            return cls().method()

        @property
        def computed(self):
            return self.made()


def block():
    exec(compile("def made_up():\n\n    wait()\nmade_up()", "<made up>", "exec"), {"wait": wait})


def wait():
    account.tell(); time.sleep(account.FOREVER)


Outer.Inner().computed
