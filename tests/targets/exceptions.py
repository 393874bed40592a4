# coding: utf-8
"""Threads that sleep while they handle exceptions of all kinds, or none. Each says of itself what sys.exc_info() gives it there, in
exceptions.json: type, str(), repr() and the last entry of the traceback, by the name of the thread."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import account
from telling import WORK, printable, write

PYTHON_2 = sys.version_info < (3,)
told = {}
# Of these only code of a class, or of an argument's class, knows what str() gives.
UNKNOWN = set()
cases = []


def case(function):
    cases.append(function)
    return function


def unknown(function):
    UNKNOWN.add(function.__name__)
    return case(function)


def text(value):
    if not PYTHON_2:
        return printable(str(value))
    try:
        return str(value).decode("utf-8")
    except UnicodeError:
        return unicode(value)


def describe(kind, value, trace):
    if kind is None:
        return None
    module = kind.__module__
    name = getattr(kind, "__qualname__", kind.__name__)
    found = {"type": name if module in ("builtins", "exceptions") else module + "." + name}
    found["known"] = threading.current_thread().name not in UNKNOWN
    found["message"], found["repr"] = text(value), printable(repr(value)) if not PYTHON_2 else repr(value)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        code = trace.tb_frame.f_code
        found["file"], found["line"], found["function"] = code.co_filename, trace.tb_lineno, code.co_name
    return found


def rest():
    told[threading.current_thread().name] = describe(*sys.exc_info())
    time.sleep(account.FOREVER)


def fails(what):
    raise what


def handles(what):
    """Rests while it handles what is raised, or what calling it raises."""
    try:
        if isinstance(what, BaseException):
            fails(what)
        what()
    except BaseException:
        rest()


class Plain(Exception):
    pass


class Derived(KeyError):
    class Inner(ValueError):
        pass


class Speaks(Exception):
    def __str__(self):
        return "what only its class knows"


class SpeaksToo(Speaks):
    pass


class SpeaksAsBase(KeyError):
    __str__ = Exception.__str__


class Slots(Exception):
    __slots__ = ("one", "other")


class Both(ValueError, KeyError):
    pass


class Text(str):
    def __str__(self):
        return "another"


class Context(object):
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        rest()


@case
def nothing():
    rest()


@case
def plain():
    handles(ValueError("bad value"))


@case
def no_argument():
    try:
        raise ValueError
    except ValueError:
        rest()


@case
def several_arguments():
    handles(ValueError("it's", 1, None, 2.5, True, b"x", u"\u0444", -(10 ** 30)))


@unknown
def a_list():
    handles(ValueError(["x"]))


@unknown
def a_text_of_its_own():
    handles(ValueError(Text("one")))


@case
def one_number():
    handles(ValueError(10 ** 25))


@case
def a_class_of_its_own():
    handles(Plain("plain"))


@case
def an_inner_class():
    handles(Derived.Inner("inner"))


@case
def a_key():
    handles(lambda: {}["spam"])


@case
def a_key_that_is_a_number():
    handles(lambda: {}[7])


@case
def a_key_of_a_derived_class():
    handles(Derived("eggs"))


@case
def as_its_base():
    handles(SpeaksAsBase("eggs"))


@unknown
def of_two_bases():
    handles(Both("eggs"))


@case
def with_slots():
    handles(Slots("slots"))


@unknown
def speaks():
    handles(Speaks("arguments", 1))


@unknown
def speaks_too():
    handles(SpeaksToo("arguments", 1))


@unknown
def a_process():
    handles(subprocess.CalledProcessError(3, "false"))


@case
def a_file():
    handles(lambda: open("/no/such/file"))


@case
def two_files():
    handles(lambda: os.rename("/no/such/file", "/other"))


@case
def an_error_number():
    handles(OSError(5, "Input/output error"))


@case
def an_error_without_number():
    handles(OSError("just text"))


@case
def decoding():
    handles(lambda: b"abc\xff".decode("ascii"))


@case
def decoding_more():
    handles(lambda: b"\xf0\x9f".decode("utf-8"))


@case
def encoding():
    handles(lambda: u"ab\xe9".encode("ascii"))


@case
def encoding_wide():
    handles(lambda: u"ab\u0444".encode("ascii"))


@case
def encoding_more():
    handles(lambda: u"\u0444\u0445".encode("latin-1"))


@case
def importing():
    handles(lambda: __import__("no_such_module"))


@case
def syntax():
    handles(lambda: compile("x = 1\nx = = 2\n", "some/where.py", "exec"))


@case
def an_exit():
    handles(lambda: sys.exit(3))


@case
def an_interrupt():
    handles(KeyboardInterrupt())


@case
def another_inside():
    handles(ValueError(TypeError("inside")))


@case
def long_text():
    handles(ValueError(u"\u0444" * 3000))


@case
def controls():
    handles(ValueError("a\nb\x1b[31m\x00"))


@case
def division():
    handles(lambda: 1 // 0)


@case
def compressing():
    handles(lambda: zlib.decompress(b"none"))


@case
def packing():
    handles(lambda: struct.unpack("i", b""))


@case
def parsing():
    handles(lambda: json.loads("{"))


@case
def recursion():
    def deeper():
        deeper()

    handles(deeper)


@case
def another_while_handling():
    try:
        fails(ValueError("first"))
    except ValueError:
        try:
            fails(TypeError("second"))
        except TypeError:
            rest()


@case
def the_first_again():
    try:
        fails(ValueError("first"))
    except ValueError:
        try:
            fails(TypeError("second"))
        except TypeError:
            pass
        rest()


@case
def left():
    try:
        fails(ValueError("left"))
    except ValueError:
        pass
    rest()


@case
def left_by_return():
    def inner():
        try:
            fails(ValueError("left"))
        except ValueError:
            return 1

    inner()
    rest()


@case
def callee():
    try:
        fails(ValueError("of the caller"))
    except ValueError:
        list(map(lambda _: rest(), [1]))


@case
def at_last():
    try:
        fails(ValueError("not caught"))
    finally:
        rest()


@case
def leaving_with():
    with Context():
        fails(ValueError("in a block"))


@case
def thrown_into_generator():
    def generator():
        try:
            yield 1
        except ValueError:
            rest()

    running = generator()
    next(running)
    running.throw(ValueError("thrown"))


@case
def generator_inside():
    def generator():
        rest()
        yield 1

    try:
        fails(ValueError("outside"))
    except ValueError:
        next(generator())


@case
def generator_that_handles():
    def generator():
        try:
            fails(ValueError("in the generator"))
        except ValueError:
            yield 1
            rest()

    running = generator()
    next(running)
    next(running)


@case
def left_in_generator():
    def generator():
        try:
            fails(ValueError("in the generator"))
        except ValueError:
            yield 1

    running = generator()
    next(running)
    rest()


if PYTHON_2:

    class Old:
        pass

    @unknown
    def old_style():
        try:
            raise Old()
        except Old:
            rest()

else:

    @case
    def surrogates():
        handles(ValueError("a\udcffb"))

    @case
    def astral():
        handles(lambda: "ab\U0001f980".encode("ascii"))

    exec(
        """
@case
def caused():
    try:
        fails(ValueError("cause"))
    except ValueError as cause:
        try:
            raise TypeError("effect") from cause
        except TypeError:
            rest()
"""
    )

if sys.version_info >= (3, 11):

    @case
    def group():
        handles(ExceptionGroup("several", [ValueError(1), TypeError("two")]))

    @case
    def small_group():
        handles(BaseExceptionGroup("one", [KeyboardInterrupt()]))


for function in cases:
    account.start(function, name=function.__name__)
while len(told) < len(cases):
    time.sleep(0.01)
account.settle(len(cases))
write("exceptions.json", json.dumps(told))
account.tell(); time.sleep(account.FOREVER)
