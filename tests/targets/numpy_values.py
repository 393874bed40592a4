"""Arrays and scalars of numpy as locals, and what pyst must show of each."""

import json

import account
import numpy
from telling import write


def spell(value):
    address = "0x%x" % id(value)
    if isinstance(value, numpy.ma.MaskedArray):
        name = "%s.%s" % (type(value).__module__, type(value).__qualname__)
        return "<%s at %s: %s %s>" % (name, address, value.dtype.name, value.shape)
    if isinstance(value, numpy.ndarray):
        if value.dtype.kind == "f" and value.dtype.itemsize == 2:
            return "<numpy.ndarray at %s: float16 %s>" % (address, value.shape)
        if value.dtype.kind not in "biufc" or value.dtype.itemsize > 8 and value.dtype.kind == "f":
            kind = {"O": "object", "U": "str", "S": "bytes", "M": "datetime64", "V": "void"}[value.dtype.kind]
            return "<numpy.ndarray at %s: %s %s>" % (address, kind, value.shape)
        shown = [number(element) for element in value.ravel()[:16]]
        more = value.size - len(shown)
        rest = ["\u2026 %d more" % more] if more else []
        return "<numpy.ndarray at %s: %s %s [%s]>" % (address, value.dtype.newbyteorder("=").name, value.shape, ", ".join(shown + rest))
    kind = type(value)
    return "numpy.%s(%s)" % (kind.__name__, number(value))


def number(value):
    if isinstance(value, numpy.float32):
        return repr(float(str(value)))
    if isinstance(value, numpy.complex64):
        return repr(complex(float(str(value.real)), float(str(value.imag))))
    return repr(value.item())


def holder():
    floats = numpy.array([0.5, -1.0, 1e300, float("nan"), 1 / 3])
    matrix = numpy.arange(6, dtype=numpy.int16).reshape(2, 3)
    turned = matrix.T
    backwards = numpy.arange(10)[::-2]
    many = numpy.linspace(0, 1, 1000)
    single = numpy.array([0.1, 2.5], dtype=numpy.float32)
    complexes = numpy.array([1 + 2j, -1j])
    small_complexes = numpy.array([0.1 + 2j], dtype=numpy.complex64)
    flags = numpy.array([True, False])
    masked = numpy.ma.array([1, 2], mask=[0, 1])
    half = numpy.array([0.5], dtype=numpy.float16)
    swapped = numpy.array([1, -2, 3], dtype=">i4")
    unsigned = numpy.array([255, 0], dtype=numpy.uint8)
    large = numpy.array([2**64 - 1], dtype=numpy.uint64)
    nothing = numpy.zeros((0, 3))
    lone = numpy.array(7)
    objects = numpy.array([None, "a"], dtype=object)
    texts = numpy.array(["a", "bc"])
    dates = numpy.array(["2026-01-02"], dtype="datetime64[D]")
    a_float = numpy.float64(0.1)
    a_single = numpy.float32(0.1)
    an_int = numpy.int64(-5)
    a_byte = numpy.uint8(200)
    a_bool = numpy.bool_(True)
    a_complex = numpy.complex128(1 - 2j)
    expected = {name: spell(value) for name, value in sorted(locals().items())}
    write("values.json", json.dumps(expected))
    account.tell(); account.time.sleep(account.FOREVER)


holder()
