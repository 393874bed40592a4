"""An extension module in C++ that calls back into Python, thrice over, and sleeps."""

import account
import extension


def begin():
    return extension.by_int(from_int)


def from_int(value):
    return extension.by_double(from_double)


def from_double(value):
    return extension.by_method(from_method)


def from_method(text):
    account.tell(); extension.sleeping()


begin()
