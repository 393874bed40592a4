"""A thread 600 frames deep, some of which lie in a page that somebody else has to bring: of a userfaultfd, `gone` never brings
it and `comes and goes` brings it and takes it away all the time; with `silent` it is of a file system that answers no more. It
counts on while it runs, and never touches that page itself."""

import ctypes
import fcntl
import gc
import os
import struct
import sys
import threading
import time

import account
import silent_files

PAGE = os.sysconf("SC_PAGE_SIZE")
USERFAULTFD = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
MADV_DONTNEED = 4
PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_FIXED = 1, 2, 2, 16
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


if mode == "silent":
    files, mounted = (os.path.join(account.WORK, name) for name in ("files", "mounted"))
    os.mkdir(files)
    os.mkdir(mounted)
    try:
        be_silent, why_not = silent_files.mount(files, mounted), None
    except OSError as error:
        why_not = "FUSE: " + error.strerror

sys.setrecursionlimit(2 * DEPTH)
account.start(again, (DEPTH,))
ready.wait()
account.settle(1)
account.tell()

libc = ctypes.CDLL(None, use_errno=True)
libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mmap.restype = ctypes.c_size_t
page = places[0] & ~(PAGE - 1)
content = ctypes.create_string_buffer(ctypes.string_at(page, PAGE), PAGE)


def give_up(why):
    say("page", why)
    time.sleep(account.FOREVER)


def lose_to_userfaultfd():
    faults = libc.syscall(USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if faults < 0:
        give_up("userfaultfd: " + os.strerror(ctypes.get_errno()))
    fcntl.ioctl(faults, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
    fcntl.ioctl(faults, UFFDIO_REGISTER, struct.pack("QQQQ", page, PAGE, 1, 0))
    take_away()
    return faults


def lose_to_silent_files():
    if why_not:
        give_up(why_not)
    with open(os.path.join(files, "page"), "wb") as file:
        file.write(content.raw)
    file = os.open(os.path.join(mounted, "page"), os.O_RDONLY)
    be_silent()
    access, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED
    assert libc.mmap(page, PAGE, access, flags, file, 0) == page


def take_away():
    assert libc.madvise(page, PAGE, MADV_DONTNEED) == 0


def bring():
    fcntl.ioctl(faults, UFFDIO_COPY, struct.pack("QQQQq", page, ctypes.addressof(content), PAGE, 0, 0))


faults = lose_to_silent_files() if mode == "silent" else lose_to_userfaultfd()
say("page", "gone")
count = 0
while True:
    time.sleep(0.003)
    if mode == "comes and goes":
        bring()
        time.sleep(0.003)
        take_away()
    count += 1
    say("count", str(count))
