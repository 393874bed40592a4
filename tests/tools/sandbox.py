"""Runs a command in a sandbox: sandbox.py forbid NUMBER COMMAND…, whose system call of that number (of x86_64) fails with
EPERM as under a container's seccomp profile; sandbox.py landlock COMMAND…, which may trace nobody outside of its Landlock domain.
Exits with 77 where the kernel has no such thing."""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        print("sandbox.py:", os.strerror(ctypes.get_errno()), file=sys.stderr)
        sys.exit(77)
    return result


def forbid(number):
    """if (nr == number) return EPERM; return ALLOW;"""
    load, equal, ret = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0), (equal, 0, 1, number), (ret, 0, 0, 0x0005_0001), (ret, 0, 0, 0x7FFF_0000)]
    program = b"".join(struct.pack("=HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    filter = ctypes.create_string_buffer(struct.pack("=H6xQ", len(code), ctypes.addressof(buffer)))
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0))


def landlock():
    # A ruleset has to handle something: the making of block devices.
    handled = ctypes.create_string_buffer(struct.pack("=Q", 1 << 11))
    ruleset = check(libc.syscall(LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(8), 0))
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


kind, *rest = sys.argv[1:]
check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
if kind == "forbid":
    forbid(int(rest.pop(0)))
else:
    landlock()
os.execv(rest[0], rest)
