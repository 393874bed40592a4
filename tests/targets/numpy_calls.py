"""numpy that calls back into Python: apply_along_axis, vectorize, and an operation on an array of Python objects."""

import time

import numpy

import account


class Number:
    def __add__(self, other):
        account.tell(); time.sleep(account.FOREVER)


def add(value):
    numbers = numpy.array([Number(), Number()], dtype=object)
    return numpy.add(numbers, numbers)


def row(values):
    return numpy.vectorize(add, otypes=[object])(values)


def begin():
    return numpy.apply_along_axis(row, 0, numpy.arange(6).reshape(2, 3))


begin()
