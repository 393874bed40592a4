#!/usr/bin/env python3
"""Reads a snapshot stream from standard input and writes what it holds to standard output as JSON.

Written from schemas/snapshot.md alone, to show that the page is enough. It shares nothing with the tools: sections are listed and
their checksums verified, `capture`, `threads`, `waits` and `diagnostics` decoded, and the ranges of `memory` read.
"""

import json
import struct
import sys
import zlib

MAGIC = b"\x89PYS\r\n\x1a\n"
KINDS = {
    1: "capture", 2: "process", 3: "threads", 4: "maps", 5: "modules", 6: "runtime", 7: "unwind", 8: "symbols", 9: "source",
    10: "memory", 11: "native", 12: "python", 13: "diagnostics", 14: "calls", 16: "waits", 0xFFFF: "end",
}  # fmt: skip


class Payload:
    """A payload that is read from its first byte to its last."""

    def __init__(self, payload):
        self.payload, self.at = payload, 0

    def take(self, count):
        if count > len(self.payload) - self.at:
            raise ValueError(f"{count} bytes at {self.at} are more than there are")
        self.at += count
        return self.payload[self.at - count : self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def i64(self):
        return self.number("q")

    def bool(self):
        return {0: False, 1: True}[self.u8()]

    def bytes(self):
        return self.take(self.u64())

    def string(self):
        return self.bytes().decode()

    def option(self, read):
        return read() if self.bool() else None

    def list(self, read):
        return [read() for _ in range(self.u64())]

    def range(self):
        return [self.u64(), self.u64()]

    def end(self):
        if self.at != len(self.payload):
            raise ValueError(f"{len(self.payload) - self.at} bytes are left over")


def capture(p):
    return {
        "tool": p.string(),
        "host": p.string(),
        "kernel": p.string(),
        "captured_at_ns": p.i64(),
        "source": p.u16(),
        "blocking": p.u16(),
        "stopped_ns": p.option(p.u64),
        "stopped_bytes": p.option(p.u64),
        "complete": p.bool(),
        "arch": p.u16(),
        "pointer_width": p.u8(),
        "little_endian": p.bool(),
        "page_size": p.u32(),
        "pac_mask": p.u64(),
        "options": p.list(lambda: [p.string(), p.string()]),
    }


def threads(p):
    def registers():
        return {
            "values": p.list(lambda: [p.u16(), p.u64()]),
            "thread_pointer": p.option(p.u64),
            "system_call": p.option(p.u64),
        }

    def stack():
        return {"mapping": p.range(), "read": p.range(), "truncated": p.bool()}

    def thread():
        return {
            "tid": p.u32(),
            "namespace_tid": p.option(p.u32),
            "name": p.option(lambda: p.bytes().decode(errors="backslashreplace")),
            "state": p.option(lambda: chr(p.u8())),
            "crashed": p.bool(),
            "registers": p.option(registers),
            "stack": p.option(stack),
        }

    return p.list(thread)


def waits(p):
    def text():
        return p.bytes().decode(errors="backslashreplace")

    def system_call():
        return {"number": p.u64(), "arguments": p.list(p.u64), "program_counter": p.u64()}

    def wait():
        return {"tid": p.u32(), "wait_channel": p.option(text), "system_call": p.option(system_call)}

    def endpoint():
        return {"address": list(p.bytes()), "port": p.u16()}

    def socket():
        ends = {"protocol": p.u16(), "state": p.u16(), "local": p.option(endpoint), "remote": p.option(endpoint)}
        return dict(ends, path=p.option(text))

    def file():
        known = {"descriptor": p.number("i"), "target": text(), "socket": p.option(socket)}
        return dict(known, watched=p.option(lambda: p.list(lambda: p.number("i"))))

    return {"monotonic_ns": p.option(p.u64), "threads": p.list(wait), "files": p.list(file)}


def diagnostics(p):
    def item():
        return {"severity": p.u16(), "code": p.string(), "tid": p.option(p.u32), "message": p.string()}

    return {"stage": p.u16(), "items": p.list(item)}


def memory(p):
    count, _ = p.u32(), p.u32()
    table = [struct.unpack("<QQII", p.take(24)) for _ in range(count)]
    return [
        {"address": address, "length": length, "crc": zlib.crc32(p.take(length)) if state == 1 else None}
        for address, length, state, _ in table
    ]


DECODERS = {1: capture, 3: threads, 10: memory, 13: diagnostics, 16: waits}


def snapshots(stream):
    while header := stream.read(16):
        magic, version, _, crc = struct.unpack("<8sHHI", header)
        if magic != MAGIC or crc != zlib.crc32(header[:12]) or version != 1:
            raise ValueError("no snapshot header")
        sections = []
        while not sections or sections[-1]["kind"] != "end":
            header = stream.read(24)
            kind, flags, version, _, length, payload_crc, header_crc = struct.unpack("<HHHHQII", header)
            if header_crc != zlib.crc32(header[:20]) or length > 64 << 20:
                raise ValueError("a damaged section header")
            payload = stream.read(length)
            if len(payload) != length or payload_crc != zlib.crc32(payload):
                raise ValueError("a damaged payload")
            section = {"kind": KINDS.get(kind, kind), "flags": flags, "version": version, "length": length}
            if kind in DECODERS and version == 1:
                reader = Payload(payload)
                section["decoded"] = DECODERS[kind](reader)
                reader.end()
            sections.append(section)
        yield sections


if __name__ == "__main__":
    json.dump(list(snapshots(sys.stdin.buffer)), sys.stdout)
