"""A thread 600 frames deep, some of which lie in a page that a userfaultfd has to bring: `gone` never brings it, `comes and
goes` brings it and takes it away all the time. It counts on while it runs, and never touches that page itself."""

import ctypes
import fcntl
import gc
import os
import struct
import sys
import threading
import time

import account

PAGE = os.sysconf("SC_PAGE_SIZE")
USERFAULTFD = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
MADV_DONTNEED = 4
DEPTH = 600

mode = sys.argv[1]
ready = threading.Event()
places = []
# It looks at frames.
gc.disable()


def again(left):
    if left == DEPTH // 2:
        # A frame object has the address of its frame behind its head and its caller.
        frame = sys._getframe()
        places.append(ctypes.c_size_t.from_address(id(frame) + object.__basicsize__ + 8).value)
        del frame
    if left == 0:
        ready.set()
        time.sleep(account.FOREVER)
    again(left - 1)


def say(name, text):
    path = os.path.join(account.WORK, name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


sys.setrecursionlimit(2 * DEPTH)
account.start(again, (DEPTH,))
ready.wait()
account.settle(1)
account.tell()

libc = ctypes.CDLL(None, use_errno=True)
libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
page = places[0] & ~(PAGE - 1)
content = ctypes.create_string_buffer(ctypes.string_at(page, PAGE), PAGE)
faults = libc.syscall(USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
if faults < 0:
    say("page", "userfaultfd: " + os.strerror(ctypes.get_errno()))
    time.sleep(account.FOREVER)
fcntl.ioctl(faults, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
fcntl.ioctl(faults, UFFDIO_REGISTER, struct.pack("QQQQ", page, PAGE, 1, 0))


def take_away():
    assert libc.madvise(page, PAGE, MADV_DONTNEED) == 0


def bring():
    fcntl.ioctl(faults, UFFDIO_COPY, struct.pack("QQQQq", page, ctypes.addressof(content), PAGE, 0, 0))


take_away()
say("page", "gone")
count = 0
while True:
    time.sleep(0.003)
    if mode != "gone":
        bring()
        time.sleep(0.003)
        take_away()
    count += 1
    say("count", str(count))
