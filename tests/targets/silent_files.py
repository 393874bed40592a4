"""A file system (FUSE) that shows a folder, read-only, until it is told to be silent: whoever asks it for something that the
kernel does not know already waits for ever. Who reads the file `endless` in it waits until a signal comes, or a stop. Only the
process that mounts it sees it, and it is gone with that."""

import ctypes
import os
import signal
import stat
import struct

CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 1 << 14, 1 << 18
PR_SET_PDEATHSIG = 1
EINTR, ENOSYS = 4, 38
# How long the kernel may take what it was told for true, in seconds.
VALID = 1

# The requests of linux/fuse.h, and those that have no answer.
LOOKUP, GETATTR, READLINK, OPEN, READ, RELEASE, FLUSH, INIT = 1, 3, 5, 14, 15, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR = 27, 28, 29
INTERRUPT = 36
UNANSWERED = 2, 42  # FORGET, BATCH_FORGET
FOPEN_KEEP_CACHE = 2

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(folder, place):
    """Shows `folder` at `place` from a process of its own. What comes back makes it silent. Call it before there are threads."""
    device = os.open("/dev/fuse", os.O_RDWR)
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    options = "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other" % (device, stat.S_IFDIR)
    check(libc.mount(b"silent", place.encode(), b"fuse", MS_NOSUID | MS_NODEV, options.encode()))
    asked, ask = os.pipe()
    this = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(ask)
            if os.getppid() == this:
                serve(device, folder, asked)
        finally:
            os._exit(1)
    os.close(device)
    os.close(asked)

    def be_silent():
        os.write(ask, b"silence")
        # It has stopped answering when it has stopped itself.
        os.waitpid(child, os.WUNTRACED)

    return be_silent


def serve(device, folder, asked):
    import select

    paths, numbers = {1: folder}, {folder: 1}
    while True:
        ready, _, _ = select.select([device, asked], [], [])
        if asked in ready:
            # Not even the end of a process that waits gets an answer; its own end is one to all.
            os.kill(os.getpid(), signal.SIGSTOP)
        if device not in ready:
            continue
        request = os.read(device, 1 << 20)
        _, kind, unique, node = struct.unpack_from("=IIQQ", request)
        if kind == INTERRUPT:
            # As go-fuse does. Most others do not listen.
            (unique,) = struct.unpack_from("=Q", request, 40)
            os.write(device, struct.pack("=IiQ", 16, -EINTR, unique))
            continue
        if kind in UNANSWERED or (kind == READ and paths[node].endswith("/endless")):
            continue
        try:
            reply, error = answer(kind, paths.get(node, folder), request[40:], paths, numbers), 0
        except OSError as failure:
            reply, error = b"", failure.errno
        os.write(device, struct.pack("=IiQ", 16 + len(reply), -error, unique) + reply)


def answer(kind, path, said, paths, numbers):
    if kind == INIT:
        # Version 7.31; no more than it has to know.
        return struct.pack("=IIIIHHIIHH32x", 7, 31, 1 << 17, 0, 12, 9, 1 << 17, 1, 0, 0)
    if kind == LOOKUP:
        path = os.path.join(path, os.fsdecode(said.rstrip(b"\0")))
        attributes = attributes_of(path)
        number = numbers.setdefault(path, len(numbers) + 1)
        paths[number] = path
        return struct.pack("=QQQQII", number, 0, VALID, VALID, 0, 0) + attributes
    if kind == GETATTR:
        return struct.pack("=QII", VALID, 0, 0) + attributes_of(path)
    if kind == READLINK:
        return os.fsencode(os.readlink(path))
    if kind in (OPEN, OPENDIR):
        return struct.pack("=QII", 0, FOPEN_KEEP_CACHE, 0)
    if kind == READ:
        _, offset, size = struct.unpack_from("=QQI", said)
        with open(path, "rb") as file:
            return os.pread(file.fileno(), size, offset)
    if kind == READDIR:
        _, offset, size = struct.unpack_from("=QQI", said)
        return entries(path, offset, size)
    if kind in (RELEASE, RELEASEDIR, FLUSH):
        return b""
    raise OSError(ENOSYS, "not known")


def attributes_of(path):
    of = os.lstat(path)
    times = (of.st_atime_ns, of.st_mtime_ns, of.st_ctime_ns)
    seconds, rest = [time // 10**9 for time in times], [time % 10**9 for time in times]
    sizes = of.st_ino, of.st_size, of.st_blocks
    return struct.pack("=6Q10I", *sizes, *seconds, *rest, of.st_mode, of.st_nlink, of.st_uid, of.st_gid, 0, 4096, 0)


def entries(path, offset, size):
    all_of_them = b""
    for index, name in list(enumerate(sorted(os.listdir(path)), 1))[offset:]:
        name = os.fsencode(name)
        entry = struct.pack("=QQII", index, index, len(name), 0) + name
        entry += bytes(-len(entry) % 8)
        if len(all_of_them) + len(entry) > size:
            break
        all_of_them += entry
    return all_of_them
