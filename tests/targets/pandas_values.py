"""Tables, columns and indices of pandas as locals, and what pyst must show of each."""

import json

import account
import pandas
from telling import write


def spell(value):
    kind = type(value)
    return "<%s.%s at 0x%x: %s>" % (kind.__module__, kind.__qualname__, id(value), value.shape)


def holder():
    table = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    empty = pandas.DataFrame()
    column = table["a"]
    texts = table["b"]
    numbers = pandas.Index([1, 2, 5])
    days = pandas.date_range("2026-01-01", periods=4)
    by_day = pandas.DataFrame({"v": [0.5] * 4}, index=days)
    kinds = pandas.Index(["a", "b", "a"], dtype="category")
    rows = table.index
    large = pandas.Series(range(100000))
    expected = {name: spell(value) for name, value in sorted(locals().items())}
    write("values.json", json.dumps(expected))
    account.tell(); account.time.sleep(account.FOREVER)


holder()
