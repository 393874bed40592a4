# coding: utf-8
"""Values made by chance as arguments and locals, and what pyst must show of each: repr() by the target itself, or, for what
repr() says less of or differently, the short form of the manual page, put together here anew.

    values.py SEED
"""

import collections
import datetime
import decimal
import json
import random
import sys
import threading
import weakref

import account
from telling import write

PYTHON_2 = sys.version_info < (3,)
try:
    import enum
    import pathlib
    import queue
except ImportError:
    import Queue as queue

    enum = pathlib = None
try:
    import dataclasses
except ImportError:
    dataclasses = None

if PYTHON_2:
    text, char, Int, Range = unicode, unichr, (int, long), xrange
else:
    text, char, Int, Range = str, chr, int, range


def named(name, source, **names):
    """Something that only some versions can say."""
    names["__name__"] = __name__
    exec(source, names)
    return names[name]


class Plain(object):
    pass


class Slotted(object):
    __slots__ = ("first", "second")


class SlottedAndPlain(Slotted):
    pass


class DeepSlots(Slotted):
    __slots__ = ("third",)


class Shadowing(SlottedAndPlain):
    __slots__ = ("first",)


class Old:
    """Of Python 2 a class of the old kind."""


class deque(object):
    """A deque by its name alone."""


class Lock(object):
    pass


class MyInt(int):
    def __repr__(self):
        return "no number"


class MyFloat(float):
    pass


class MyText(text):
    pass


class MyBytes(bytes):
    pass


class MyList(list):
    def __repr__(self):
        return "no list"


class MyTuple(tuple):
    pass


class MyDict(dict):
    pass


class MySet(set):
    pass


class MyError(Exception):
    def __str__(self):
        raise RuntimeError


class Meta(type):
    pass


Made = Meta("Made", (object,), {})
Point = collections.namedtuple("Point", "x y")


class Point3(Point):
    pass


if enum:
    Color = enum.Enum("Color", "RED GREEN BLUE")
    Number = enum.IntEnum("Number", "ONE TWO")

    class Word(text, enum.Enum):
        HELLO = "hello"

if dataclasses:

    Data = dataclasses.make_dataclass("Data", [("a", object), ("b", object)])
    Frozen = dataclasses.make_dataclass("Frozen", [("c", object)], frozen=True)
    Data.__module__ = Frozen.__module__ = __name__


def a_function(x, *y):
    pass


def a_generator():
    yield 1


def address(value):
    return "0x%x" % id(value)


def type_name(kind):
    """The type's name as pyst has it: with its module, unless that is builtins."""
    if kind.__module__ in ("builtins", "__builtin__", "exceptions"):
        return getattr(kind, "__qualname__", kind.__name__)
    return kind.__module__ + "." + getattr(kind, "__qualname__", kind.__name__)


def joined(values):
    return ", ".join([spell(value) for value in values])


def pairs(values):
    return ", ".join([spell(key) + ": " + spell(value) for key, value in values])


def derived(value, own, form):
    return form if type(value) is own else "%s(%s)" % (type_name(type(value)), form)


def attributes(values):
    return ", ".join(["%s=%s" % (name, spell(value)) for name, value in values])


def spell(value, open=()):
    """What pyst must show."""
    kind = type(value)
    if PYTHON_2 and isinstance(value, Old):
        form = "<%s.Old instance at %s>" % (__name__, address(value))
        return form + ("(%s)" % attributes(value.__dict__.items()) if value.__dict__ else "")
    if enum and isinstance(value, enum.Enum):
        return "<%s.%s: %s>" % (kind.__name__, value.name, spell(value.value))
    if value is None or value is Ellipsis or value is NotImplemented or kind in (bool, complex):
        return repr(value)
    if isinstance(value, Int):
        base = long if PYTHON_2 and isinstance(value, long) else int
        return derived(value, base, base.__repr__(value))
    for base in (float, text, bytes):
        if isinstance(value, base):
            return derived(value, base, base.__repr__(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "%s(%s)" % (kind.__name__, attributes(zip(value._fields, value)))
    if isinstance(value, tuple):
        return derived(value, tuple, "(%s%s)" % (joined(value), "," if len(value) == 1 else ""))
    if isinstance(value, list):
        return derived(value, list, "[%s]" % joined(list.__iter__(value)))
    if kind is collections.defaultdict:
        return "defaultdict(%s, {%s})" % (spell(value.default_factory), pairs(value.items()))
    if kind is collections.OrderedDict and not PYTHON_2:
        if not value:
            return "OrderedDict()"
        if sys.version_info >= (3, 12):
            return "OrderedDict({%s})" % pairs(value.items())
        return "OrderedDict([%s])" % ", ".join(["(%s, %s)" % (spell(k), spell(v)) for k, v in value.items()])
    if isinstance(value, dict):
        return derived(value, dict, "{%s}" % pairs(dict.items(value)))
    if isinstance(value, (set, frozenset)):
        if PYTHON_2:
            return "%s([%s])" % (type_name(kind), joined(value))
        if not value:
            return "%s()" % type_name(kind)
        form = "{%s}" % joined(value)
        return form if kind is set else "%s(%s)" % (type_name(kind), form)
    if kind is collections.deque:
        form = "" if value.maxlen is None else ", maxlen=%d" % value.maxlen
        return "deque([%s]%s)" % (joined(value), form)
    if isinstance(value, BaseException):
        comma = "," if len(value.args) == 1 and sys.version_info < (3, 7) and not PYTHON_2 else ""
        comma = "," if len(value.args) == 1 and PYTHON_2 else comma
        return "%s(%s%s)" % (kind.__name__, joined(value.args), comma)
    if kind is slice:
        return "slice(%s, %s, %s)" % (spell(value.start), spell(value.stop), spell(value.step))
    if kind is type(sys):
        return "<module '%s'>" % value.__name__
    if kind is weakref.ref:
        target = value()
        if target is None:
            return "<weakref at %s; dead>" % address(value)
        return "<weakref at %s; to '%s' at %s>" % (address(value), type_name(type(target)), address(target))
    if kind is bytearray:
        # Some versions escape a quote that needs none.
        return "bytearray(%s%r)" % ("b" if PYTHON_2 else "", bytes(value))
    if kind.__name__ == "classobj":
        return "<class %s.%s at %s>" % (__name__, value.__name__, address(value))
    if kind.__name__ == "function":
        return "<function %s at %s>" % (getattr(value, "__qualname__", value.__name__), address(value))
    if kind is type(threading.Event()) and isinstance(value, type(threading.Event())):
        return "<%s at %s: %s>" % (type_name(kind), address(value), "set" if value.is_set() else "unset")
    if isinstance(value, threading.Thread):
        return "<%s at %s: %s>" % (type_name(kind), address(value), value.name)
    if kind.__name__ == "method" or kind.__name__ == "instancemethod":
        name = getattr(value.__func__, "__qualname__", value.__func__.__name__)
        owner = value.__self__
        if owner is None:
            return "<unbound method %s>" % name
        return "<bound method %s of <%s at %s>>" % (name, type_name(type(owner)), address(owner))
    if isinstance(value, threading.Condition if isinstance(threading.Condition, type) else ()):
        return "<%s at %s: 0 waiting, %s>" % (type_name(kind), address(value), spell(value._lock))
    if isinstance(value, queue.Queue) and not PYTHON_2:
        parts = [("maxsize", value.maxsize), ("queue", value.queue), ("unfinished_tasks", value.unfinished_tasks)]
        return "<%s at %s>(%s)" % (type_name(kind), address(value), attributes(parts))
    if dataclasses and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "%s(%s)" % (kind.__qualname__, attributes(vars(value).items()))
    if kind.__module__ == __name__ and not isinstance(value, type):
        found = []
        for base in reversed(kind.__mro__):
            slots = base.__dict__.get("__slots__", ())
            slots = (slots,) if isinstance(slots, str) else slots
            # A slot that a derived class has again hides that of its base.
            found = [one for one in found if one[0] not in slots]
            found += [(name, getattr(value, name)) for name in slots if hasattr(value, name)]
        found += list(getattr(value, "__dict__", {}).items())
        form = "<%s at %s>" % (type_name(kind), address(value))
        return form + ("(%s)" % attributes(found) if found else "")
    if isinstance(value, type):
        is_heap_type = value.__flags__ & 1 << 9
        word = "class" if is_heap_type or not PYTHON_2 else "type"
        return "<%s '%s'>" % (word, type_name(value))
    if kind.__name__ in REPRS or kind.__module__ == "datetime" or (pathlib and isinstance(value, pathlib.PurePath)):
        return repr(value)
    return "<%s at %s>" % (type_name(kind), address(value))


# What repr() is taken of as it is.
REPRS = "int float range xrange generator builtin_function_or_method lock RLock coroutine".split()


class Maker(object):
    """Makes values by chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.kept = []

    def integer(self):
        bits = self.random.choice([0, 1, 7, 15, 16, 29, 30, 31, 32, 59, 60, 61, 62, 63, 64, 90, 200, 3000])
        value = self.random.getrandbits(bits) if bits else 0
        return self.random.choice([value, -value, value + 1, 1 << bits, -(1 << bits), (1 << bits) - 1])

    def real(self):
        exponent = self.random.choice([0, 1, -4, -5, 15, 16, 17, 300, -300, 308, -320])
        special = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1e16, 1e-4, 9999999999999998.0]
        value = self.random.choice([self.random.random(), self.random.randrange(-99, 99)]) * 10.0**exponent
        return float(self.random.choice([value, value, value, self.random.choice(special)]))

    def characters(self):
        alphabets = [
            u"abc XYZ 0129 _-",
            u"'\"\\\n\r\t\0\x1b\x7f",
            u"äöüßéñ\xa0\xad\x85\xff",
            u"фывапролд関数",
            u"\u200b\u2028\ud800\udcff\ue000",
            u"\U0001f980\U0001f600\U0010ffff",
        ]
        alphabet = self.random.choice(alphabets) + (self.random.choice(alphabets) if self.random.random() < 0.5 else u"")
        length = self.random.choice([0, 1, 2, 7, 50, 199])
        made = u"".join([self.random.choice(alphabet) for _ in range(length)])
        return made[:199]

    def octets(self):
        length = self.random.choice([0, 1, 8, 31, 200])
        return bytes(bytearray([self.random.choice([0, 9, 10, 34, 39, 65, 92, 127, 128, 255]) for _ in range(length)]))

    def leaf(self):
        rolls = [
            lambda: None,
            lambda: self.random.random() < 0.5,
            self.integer,
            self.real,
            lambda: complex(self.real(), self.real()),
            self.characters,
            self.octets,
            lambda: bytearray(self.octets()),
            lambda: Range(self.random.randrange(-5, 5), self.random.randrange(99), self.random.choice([1, 2, 7])),
            lambda: Ellipsis,
            lambda: NotImplemented,
            self.moment,
            lambda: self.random.choice([int, Plain, Made, collections.deque, ValueError, datetime.date, type, Point]),
            lambda: self.random.choice([a_function, spell, len, sys.exit, [].append, Maker.leaf if not PYTHON_2 else len]),
            lambda: self.random.choice([sys, json, collections]),
            lambda: self.keep(a_generator()),
            self.lock,
            lambda: object(),
            lambda: iter([]),
            lambda: decimal.Decimal("1.5") if PYTHON_2 is None else object(),
            lambda: self.random.choice([MyInt(7), MyInt(-(1 << (40 if PYTHON_2 else 70))), MyFloat(1.5), MyText(u"té"), MyBytes(b"by"), deque(), Lock()]),
        ]
        if enum:
            rolls.append(lambda: self.random.choice([Color.RED, Number.TWO, Word.HELLO]))
        if pathlib:
            rolls.append(lambda: self.random.choice([pathlib.Path("/a//b/./c"), pathlib.Path("/b/\udcff\n"), pathlib.PureWindowsPath("c:\\a"), pathlib.PurePosixPath("x", "y"), pathlib.Path("/"), pathlib.Path(".")]))
        return self.random.choice(rolls)()

    def keep(self, value):
        self.kept.append(value)
        return value

    def lock(self):
        kind = self.random.randrange(6)
        if PYTHON_2:
            return self.random.choice([threading.Lock, threading.Event, queue.Queue])() if kind != 9 and False else threading.Event()
        if kind == 0:
            lock = threading.Lock()
        elif kind == 1:
            lock = threading.RLock()
        elif kind == 2:
            lock = threading.Event()
            if self.random.random() < 0.5:
                lock.set()
            return lock
        elif kind == 3:
            return threading.Condition(self.random.choice([threading.Lock, threading.RLock])())
        elif kind == 4:
            lock = queue.Queue(self.random.randrange(3, 9))
            for number in range(self.random.randrange(3)):
                lock.put(number)
            return lock
        else:
            lock = threading.RLock()
            lock.acquire()
        if self.random.random() < 0.5:
            lock.acquire()
        return lock

    def moment(self):
        day = datetime.date(self.random.randrange(1, 10000), self.random.randrange(1, 13), self.random.randrange(1, 29))
        time = datetime.time(*[self.random.choice([0, self.random.randrange(n)]) for n in (24, 60, 60, 1000000)])
        delta = datetime.timedelta(self.random.choice([0, -1, 1, 999]), self.random.choice([0, 86399]), self.random.choice([0, 1, 999999]))
        rolls = [day, time, datetime.datetime.combine(day, time), delta]
        if not PYTHON_2:
            zone = datetime.timezone(datetime.timedelta(hours=self.random.randrange(-12, 13)))
            named = datetime.timezone(datetime.timedelta(hours=2), u"Zoné")
            zone = self.random.choice([zone, named, datetime.timezone.utc])
            rolls += [zone, time.replace(tzinfo=zone), datetime.datetime.combine(day, time).replace(tzinfo=zone, fold=1)]
        return self.random.choice(rolls)

    def key(self):
        return self.random.choice([self.integer, self.characters, lambda: (self.integer(), self.octets()), self.real, lambda: None])()

    def mapping(self, depth):
        made = {}
        style = self.random.randrange(3)
        for _ in range(self.random.choice([0, 1, 2, 5, 9])):
            made[self.characters()[:12] if style else self.key()] = self.value(depth + 1)
        if self.random.random() < 0.3:
            # Entries that are no more.
            for number in range(self.random.choice([1, 5, 30])):
                made[number + 0.5] = None
            for number in range(40):
                made.pop(number + 0.5, None)
        return made

    def members(self):
        made = set([self.key() for _ in range(self.random.choice([0, 1, 3, 6, 12]))])
        if self.random.random() < 0.5:
            made |= set(range(100, 130))
            made -= set(range(100, 130))
        return made

    def instance(self, depth):
        kinds = [Plain, Slotted, SlottedAndPlain, DeepSlots, Shadowing, Old]
        made = self.random.choice(kinds)()
        for name in ("first", "second", "third", "fourth"):
            if self.random.random() < 0.7:
                try:
                    setattr(made, name, self.value(depth + 1))
                except AttributeError:
                    pass
        if hasattr(made, "__dict__") and self.random.random() < 0.3:
            made.__dict__["fifth"] = 5
            made.__dict__.pop("first", None)
        return made

    def several(self, depth):
        return [self.value(depth + 1) for _ in range(self.random.choice([0, 1, 2, 3, 7]))]

    def value(self, depth=0):
        if depth > 2 or self.random.random() < 0.5:
            return self.keep(self.leaf())
        rolls = [
            lambda: self.several(depth),
            lambda: tuple(self.several(depth)),
            lambda: self.mapping(depth),
            lambda: self.members(),
            lambda: frozenset(self.members()),
            lambda: collections.deque(self.several(depth), self.random.choice([None, 10])),
            lambda: collections.defaultdict(self.random.choice([int, list, None]), self.mapping(depth)),
            lambda: collections.OrderedDict(self.mapping(depth)),
            lambda: self.instance(depth),
            lambda: MyList(self.several(depth)),
            lambda: MyTuple(self.several(depth)),
            lambda: MyDict(self.mapping(depth)),
            lambda: MySet(self.members()),
            lambda: Point(self.value(depth + 1), self.value(depth + 1)),
            lambda: Point3(1, self.value(depth + 1)),
            lambda: self.random.choice([ValueError, KeyError, MyError, Exception])(*self.several(depth)),
            lambda: slice(*[self.leaf() for _ in range(3)]),
            lambda: weakref.ref(self.keep(Plain())),
            lambda: weakref.ref(Plain()),
            lambda: self.keep(self.instance(depth)).__class__,
            lambda: threading.Event().wait,
            lambda: self.random.choice([threading.current_thread(), threading.Thread(name="a name")]),
        ]
        if dataclasses:
            rolls.append(lambda: Data(self.value(depth + 1), self.value(depth + 1)))
            rolls.append(lambda: Frozen(self.value(depth + 1)))
        return self.keep(self.random.choice(rolls)())


# What is shown of a value is no longer than this; what is, is made anew.
LONGEST = 2300
# How many items of a container are shown.
ITEMS = 48


def fits(form):
    return len(form.encode("utf-8", "surrogatepass") if not PYTHON_2 else form.encode("utf-8") if isinstance(form, text) else form) <= LONGEST


def specials():
    """Values that no chance makes: name, value, form, whether there is more of it."""
    ring, table, deep = [1], {}, [1]
    ring.append(ring)
    table["self"] = table
    for _ in range(7):
        deep = [deep]
    shown = ", ".join([str(number) for number in range(ITEMS)])
    long = "L" if PYTHON_2 else ""
    found = [
        ("long_list", list(range(100)), "[%s, \\u2026 52 more]" % shown, True),
        ("long_tuple", tuple(range(48)), "(%s)" % shown, False),
        ("long_bytes", b"x" * 1000, "%s'%s'\\u2026 800 more" % ("" if PYTHON_2 else "b", "x" * 200), True),
        ("huge", -(1 << 20000), "<negative int of 20001 bits>", True),
        ("large", 1 << 3000, "%d%s" % (1 << 3000, long), False),
        ("ring", ring, "[1, [...]]", False),
        ("table", table, "{'self': {...}}", False),
        ("deep", deep, "[[[[[[[\\u2026]]]]]]]", True),
    ]
    if not PYTHON_2:
        coroutine = named("coroutine", "async def coroutine(): pass")()
        stream = named("stream", "async def stream(): yield")()
        proxy = named("proxy", "import types; proxy = types.MappingProxyType({'a': 1})")
        found += [
            ("coroutine", coroutine, repr(coroutine), False),
            ("stream", stream, repr(stream), False),
            ("proxy", proxy, "mappingproxy({'a': 1})", False),
        ]
    return found


def main():
    maker = Maker(int(sys.argv[1]))
    names, values, expected = [], {}, []
    while len(names) < 60:
        value = maker.value()
        if not fits(spell(value)):
            continue
        name = "v%02d" % len(names)
        names.append(name)
        values[name] = value
    given = {}
    for name, value, form, more in specials():
        names.append(name)
        values[name] = value
        given[name] = (form.encode("ascii").decode("unicode-escape"), more)
    arguments = ["first", "second=2"] + ([] if PYTHON_2 else ["*rest, only='k'"]) + ["**others"]
    if PYTHON_2:
        arguments.insert(2, "*rest")
    body = "".join(["    %s = values[%r]\n" % (name, name) for name in names])
    used = maker.random.sample(names, 5)
    source = "def holder(%s):\n    values = others.pop('values')\n%s    def inner():\n        return first, %s\n" % (
        ", ".join(arguments),
        body,
        ", ".join(used),
    )
    source += "    del values\n    return block()\n"
    names_of_source = {"block": None}
    if PYTHON_2:
        expected_arguments = [("first", 1), ("second", 2), ("rest", ()), ("others", {})]
    else:
        expected_arguments = [("first", 1), ("second", 2), ("rest", ()), ("only", "k"), ("others", {})]
    plain = [name for name in names if name not in used]
    order = plain + ["inner"]
    found = {}

    def block():
        frame = sys._getframe(1)
        found.update(frame.f_locals)
        expected.extend({"name": n, "kind": "argument", "value": v} for n, v in expected_arguments)
        expected.extend({"name": n, "kind": "local", "value": found[n]} for n in order)
        cells = [n for n in frame.f_code.co_cellvars if n != "first"]
        expected.extend({"name": n, "kind": "cell", "value": found[n]} for n in cells)
        for one in expected:
            value = one.pop("value")
            form, one["truncated"] = given.get(one["name"]) or (spell(value), False)
            one["repr"] = form if isinstance(form, text) else form.decode("ascii")
            kind = type(value)
            one["type"] = "instance" if PYTHON_2 and isinstance(value, Old) else type_name(kind)
        write("values.json", json.dumps(expected))
        account.tell(); account.time.sleep(account.FOREVER)

    names_of_source["block"] = block
    exec(compile(source, "<holder>", "exec"), names_of_source)
    names_of_source["holder"](1, values=values)


main()
