# coding: utf-8
"""C code that calls back into Python in as many ways as the interpreter has, each inside of the one before, in an order that the
argument decides; on the main thread, and at the same time in two others. With `no-throwing` no exception is thrown through a
generator into another one."""

import ctypes
import functools
import gc
import json
import random
import re
import signal
import sys
import threading
import time
import weakref
import os

import account

try:
    import cPickle as pickle
except ImportError:
    import pickle

WAYS = {}
MAIN_ONLY = []


def way(function):
    WAYS[function.__name__] = function
    return function


def since(*version):
    return way if sys.version_info >= version else lambda function: None


def main_only(function):
    MAIN_ONLY.append(function.__name__)
    return way(function)


COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@way
def quick_sort(down):
    def compare(one, other):
        down()
        return 0

    numbers = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), COMPARE(compare))


@way
def sort_by_key(down):
    def key(one):
        down()
        return one

    sorted([1], key=key)


@way
def substitute(down):
    re.sub("a", lambda match: down() or "b", "cat")


@way
def deallocate(down):
    class Thing(object):
        def __del__(self):
            down()

    things = [Thing()]
    del things[:]


@way
def weak_reference(down):
    class Thing(object):
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: down())
    del thing
    return reference


@main_only
def collect_weak_reference(down):
    class Thing(object):
        pass

    thing = Thing()
    thing.itself = thing
    reference = weakref.ref(thing, lambda _: down())
    del thing
    gc.collect()
    return reference


@main_only
def collect_destructor(down):
    if sys.version_info < (3, 4):
        return down()

    class Thing(object):
        def __del__(self):
            down()

    thing = Thing()
    thing.itself = thing
    del thing
    gc.collect()


@way
def closed_generator(down):
    def generate():
        try:
            yield 1
        finally:
            down()

    generator = generate()
    next(generator)
    generator.close()


@way
def dropped_generator(down):
    def generate():
        try:
            yield 1
        finally:
            down()

    generator = generate()
    next(generator)
    del generator


@way
def thrown_into_generator(down):
    def generate():
        try:
            yield 1
        except KeyError:
            down()

    generator = generate()
    next(generator)
    try:
        generator.throw(KeyError())
    except StopIteration:
        pass


@way
def summed_generator(down):
    def generate():
        for number in range(60):
            if number == 59:
                down()
            yield number

    sum(generate())


@way
def looped_generator(down):
    def inner():
        for number in range(60):
            if number == 59:
                down()
            yield number

    def generate():
        for number in inner():
            yield number

    for _ in generate():
        pass


@way
def iterator_class(down):
    class Iterator(object):
        count = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.count += 1
            if self.count == 40:
                down()
            if self.count == 41:
                raise StopIteration
            return self.count

        next = __next__

    for _ in Iterator():
        pass


@way
def attributes(down):
    class Thing(object):
        armed = False

        @property
        def by_property(self):
            return down() if self.armed else None

        def __getattr__(self, name):
            return self.by_property

    thing = Thing()
    for turn in range(40):
        Thing.armed = turn == 39
        thing.missing


@way
def all_attributes(down):
    class Thing(object):
        def __getattribute__(self, name):
            return down() if name == "last" else 1

    thing = Thing()
    for name in ["first"] * 40 + ["last"]:
        getattr(thing, name)
    for _ in range(40):
        thing.first


@way
def items(down):
    class Thing(object):
        def __getitem__(self, item):
            return down() if item == 39 else item

    thing = Thing()
    for item in range(40):
        thing[item]


@way
def made(down):
    class Thing(object):
        def __new__(cls, number):
            return object.__new__(cls)

        def __init__(self, number):
            if number == 39:
                down()

    for number in range(40):
        Thing(number)


@way
def initialized(down):
    class Thing(object):
        def __init__(self, number):
            if number == 39:
                down()

    for number in range(40):
        Thing(number)


@way
def subclass_initialized(down):
    class Base(object):
        def __init__(self, number):
            if number == 39:
                down()

    class Thing(Base):
        def __init__(self, number):
            super(Thing, self).__init__(number)

    for number in range(40):
        Thing(number)


@way
def compared(down):
    class Thing(object):
        def __eq__(self, other):
            down()
            return True

        __hash__ = None

    [Thing()].index(1)


@way
def hashed(down):
    class Thing(object):
        def __hash__(self):
            down()
            return 1

    {Thing(): 1}


@way
def added(down):
    class Thing(object):
        def __add__(self, other):
            down()
            return self

    for _ in range(2):
        Thing() + 1
        break


@way
def formatted(down):
    class Thing(object):
        def __format__(self, how):
            down()
            return ""

    "{0}".format(Thing())


@way
def converted(down):
    class Text(object):
        def __str__(self):
            down()
            return "x"

    str(Text())


@way
def pickled(down):
    class Thing(object):
        def __reduce__(self):
            down()
            return int, ()

    pickle.dumps(Thing(), 2)


@way
def read_json(down):
    json.loads("{\"a\": 1}", object_hook=lambda found: down())


@way
def written_json(down):
    json.dumps(object(), default=lambda thing: down())


@way
def executed(down):
    exec("down()", {"down": down})


@way
def evaluated(down):
    eval("[down() for _ in '1']", {"down": down})


@way
def class_made(down):
    class Meta(type):
        def __new__(meta, name, bases, members):
            down()
            return type.__new__(meta, name, bases, members)

    Meta("Thing", (object,), {})


@way
def class_body(down):
    class Thing(object):
        down()


@way
def partial(down):
    functools.partial(functools.partial(lambda one, other: down(), 1), 2)()


@way
def mapped(down):
    list(map(lambda _: down(), [1]))


@way
def reduced(down):
    functools.reduce(lambda one, other: down(), [1, 2])


@way
def minimum(down):
    min([1, 2], key=lambda one: down() or one)


@way
def applied(down):
    def call(*positional, **named):
        return down(*positional)

    call(*(), **{})


@since(3, 2)
def cached(down):
    @functools.lru_cache(maxsize=None)
    def recurse(depth):
        return recurse(depth - 1) if depth else down()

    recurse(4)


@since(3, 3)
def delegated(down):
    namespace = {"down": down}
    exec(
        "def inner():\n for number in range(60):\n  if number == 59: down()\n  yield number\n"
        "def middle():\n yield from inner()\ndef outer():\n yield from middle()\n",
        namespace,
    )
    for _ in namespace["outer"]():
        pass


@since(3, 3)
def thrown_through(down):
    namespace = {"down": down}
    exec(
        "def inner():\n try:\n  yield 1\n except KeyError:\n  down()\n"
        "def middle():\n yield from inner()\ndef outer():\n yield from middle()\n",
        namespace,
    )
    generator = namespace["outer"]()
    next(generator)
    try:
        generator.throw(KeyError())
    except StopIteration:
        pass


@since(3, 5)
def sent_to_coroutine(down):
    namespace = {"down": down}
    exec("async def inner():\n down()\nasync def outer():\n await inner()\n", namespace)
    try:
        namespace["outer"]().send(None)
    except StopIteration:
        pass


@since(3, 7)
def in_context(down):
    import contextvars

    contextvars.copy_context().run(down)


@main_only
def warned(down):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *arguments, **named: down()
        warnings.warn("careful")


@way
def traced(down):
    def trace(frame, event, argument):
        if frame.f_code.co_name == "watched":
            sys.settrace(None)
            down()

    def watched():
        pass

    sys.settrace(trace)
    watched()
    sys.settrace(None)


@way
def profiled(down):
    def profile(frame, event, argument):
        if event == "c_call" and argument is len:
            sys.setprofile(None)
            down()

    sys.setprofile(profile)
    len("")
    sys.setprofile(None)


@since(3, 12)
def monitored(down):
    tool = next(number for number in range(3, 6) if sys.monitoring.get_tool(number) is None)
    sys.monitoring.use_tool_id(tool, "test")

    def watched():
        pass

    def started(code, offset):
        sys.monitoring.set_local_events(tool, watched.__code__, 0)
        down()

    sys.monitoring.register_callback(tool, sys.monitoring.events.PY_START, started)
    sys.monitoring.set_local_events(tool, watched.__code__, sys.monitoring.events.PY_START)
    watched()


@main_only
def signalled(down):
    armed = [True]

    def handle(number, frame):
        if armed:
            armed.pop()
            down()

    signal.signal(signal.SIGUSR2, handle)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2))
    timer.start()
    timer.join() if sys.version_info < (3,) else None
    time.sleep(5)


@way
def imported(down):
    import importlib

    number = threading.current_thread().ident
    name = "reentry_%d" % number
    sys.reentry = getattr(sys, "reentry", {})
    sys.reentry[name] = down
    with open(os.path.join(account.WORK, name + ".py"), "w") as out:
        out.write("import sys\nsys.reentry[__name__]()\n")
    sys.path.insert(0, account.WORK)
    __import__(name)


ready = []


def innermost():
    if threading.current_thread().name == "MainThread":
        while len(ready) < 2:
            time.sleep(0.05)
        time.sleep(0.3)
        account.tell(); time.sleep(account.FOREVER)
    else:
        ready.append(1)
        time.sleep(account.FOREVER)


def chain(names):
    if not names:
        return innermost()
    WAYS[names[0]](lambda: chain(names[1:]))
    sys.stderr.write(names[0] + " called nothing\n")
    os._exit(1)


def begin(seed, is_main):
    names = sorted(name for name in WAYS if is_main or name not in MAIN_ONLY)
    if "imported" in names and not is_main and sys.version_info < (3, 3):
        names.remove("imported")  # one lock for all imports
    order = random.Random(seed)
    order.shuffle(names)
    # Of these an interpreter runs none inside of another.
    for group in [("collect_weak_reference", "collect_destructor"), ("traced", "profiled", "monitored")]:
        among = [name for name in names if name in group]
        for name in among[1:]:
            names.remove(name)
    if "no-throwing" in sys.argv:
        names.remove("thrown_through")
    chain(names)


sys.setrecursionlimit(10000)
gc.disable()
seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
for number in (1, 2):
    account.start(begin, (seed + number, False))
begin(seed, True)
