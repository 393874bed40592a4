"""Functions in functions: a decorator with and without functools.wraps, closures, lambdas as defaults and in tables, a partial, a
bound method, a static one, a metaclass, and a descriptor."""

import functools
import time

import account


def traced(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


def counting(times):
    def decorate(function):
        def counted(*arguments):
            for _ in range(times):
                function(*arguments)

        return counted

    return decorate


@traced
@counting(2)
def decorated(then):
    (lambda: then())()


TABLE = {"call": lambda then: [step for step in map(then, [1])]}


class Meta(type):
    def __call__(cls, *arguments):
        return super(Meta, cls).__call__(*arguments)


class Descriptor(object):
    def __get__(self, instance, owner):
        return functools.partial(Made.static, lambda _: wait())


class Made(Meta("Base", (object,), {})):
    attribute = Descriptor()

    def __init__(self):
        decorated(self.method)

    def method(self, default=lambda made: made.attribute()):
        default(self)

    @staticmethod
    def static(then):
        TABLE["call"](then)


def wait():
    account.tell(); time.sleep(account.FOREVER)


Made()
