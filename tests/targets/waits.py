# coding: utf-8
"""Threads that sleep in a system call each, named by what they wait for. What the program knows of that (which files, how long)
is in waits.json, by the name of the thread."""

import ctypes
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

import account
from telling import WORK, write

# Longer than any test, and different for each.
LOCK, EVENT, SLEEP, SELECT, POLL = 5000, 6000, 7000, 8000, 9000

facts = {}


def opened(descriptor, **more):
    fd = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    try:
        path = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        path = ""  # A root without /proc.
    return dict(more, fd=fd, path=path)


def address(pair):
    return "%s:%d" % pair[:2]


def internet(one, protocol, state, remote=True):
    """A socket, as the program knows it."""
    known = {"protocol": protocol, "state": state, "local": address(one.getsockname()), "path": None}
    known["remote"] = address(one.getpeername()) if remote else None
    return opened(one, socket=known)


def sleeps(name, calls, function, files=(), timeout=None, **more):
    facts[name] = dict(more, calls=calls.split(), files=list(files), timeout=timeout)
    account.start(function, name=name)


def limit(kind="never", seconds=None):
    return {"kind": kind, "seconds": seconds}


# Files.
end = os.pipe()[0]
os.mkfifo("a fifo")
fifo = os.open("a fifo", os.O_RDWR)
sleeps("pipe", "read", lambda: os.read(end, 1), [opened(end)])
sleeps("fifo", "read", lambda: os.read(fifo, 1), [opened(fifo)])
held, wanted = open("lock", "w"), open("lock", "w")
fcntl.flock(held, fcntl.LOCK_EX)
sleeps("flock", "flock", lambda: fcntl.flock(wanted, fcntl.LOCK_EX), [opened(wanted)])

# Sockets.
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1)
client = socket.create_connection(server.getsockname())
served = server.accept()[0]
sleeps("accept", "accept accept4", server.accept, [internet(server, "TCP", "listening", remote=False)])
sleeps("tcp", "recvfrom", lambda: served.recv(1), [internet(served, "TCP", "established")])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
sleeps("udp", "recvfrom", lambda: udp.recv(1), [internet(udp, "UDP", "unconnected", remote=False)])
local = socket.socket(socket.AF_UNIX)
local.bind("a socket")
local.listen(1)
listening = {"protocol": "unix", "state": "listening", "local": None, "remote": None, "path": "a socket"}
sleeps("unix", "accept accept4", local.accept, [opened(local, socket=listening)])
pair = socket.socketpair()
connected = {"protocol": "unix", "state": "established", "local": None, "remote": None, "path": None}
sleeps("pair", "recvfrom", lambda: pair[0].recv(1), [opened(pair[0], socket=connected)])

if socket.has_ipv6:
    try:
        six = socket.socket(socket.AF_INET6)
        six.bind(("::1", 0))
        six.listen(1)
        port = six.getsockname()[1]
        known = {"protocol": "TCP", "state": "listening", "local": "[::1]:%d" % port, "remote": None, "path": None}
        sleeps("six", "accept accept4", six.accept, [opened(six, socket=known)])
    except (OSError, IOError):
        pass  # A machine without ::1.

# Several files. `select` has them in their order, poll in that of their registration.
three = sorted([end, fifo, client.fileno()])
wait = lambda: select.select([end, client], [], [fifo, end], SELECT)
sleeps("select", "select pselect6", wait, map(opened, three), limit("left", SELECT))
poll = select.poll()
poll.register(end, select.POLLIN)
poll.register(served, select.POLLIN)
in_order = sorted([end, served.fileno()])
sleeps("poll", "poll", lambda: poll.poll(POLL * 1000), map(opened, in_order), limit("given", POLL))
endless = select.poll()
endless.register(end, select.POLLIN)
sleeps("endless", "poll", endless.poll, [opened(end)], limit())
many = [os.dup(end) for _ in range(200)]
crowd = select.poll()
for one in many:
    crowd.register(one, select.POLLIN)
sleeps("many", "poll", crowd.poll, map(opened, sorted(many)), limit(), more=True)
if sys.version_info >= (3, 5):
    # Being stopped ends epoll_wait, and older ones do not call it again.
    epoll = select.epoll()
    epoll.register(end, select.EPOLLIN)
    epoll.register(client.fileno(), select.EPOLLIN)
    watches = sorted([end, client.fileno()])
    sleeps("epoll", "epoll_wait epoll_pwait", epoll.poll, [opened(epoll, watches=watches)], limit())

# Time and locks.
sleeps("sleep", "clock_nanosleep select pselect6", lambda: time.sleep(SLEEP), [], limit("left", SLEEP))
taken = threading.Lock()
taken.acquire()
sleeps("lock", "futex", taken.acquire, [], limit())
if sys.version_info >= (3, 2):
    sleeps("lock, for a time", "futex", lambda: taken.acquire(timeout=LOCK), [], limit("left", LOCK))
    event = threading.Event()
    sleeps("event", "futex", lambda: event.wait(EVENT), [], limit("left", EVENT))

# Others. The child ends with the pipe that this process holds.
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=True)
sleeps("child", "wait4", child.wait, pid=child.pid)
library = ctypes.CDLL(None)
paused = ctypes.c_ulong()
library.pthread_create(ctypes.byref(paused), None, ctypes.cast(library.pause, ctypes.c_void_p), None)
sleeps("join", "futex", lambda: library.pthread_join(paused, None), [], limit(), joins="pause")

account.settle(len(facts))

write("waits.json", json.dumps(facts))
account.tell(); time.sleep(account.FOREVER)
