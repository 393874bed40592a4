import ctypes  # In the first line: until 3.7 a module starts with its first statement.

# A program made by chance. Arguments: the file of the records, the number of worker threads.
#
# Words of a thread's record:
#   0  how many frames are on its stack for sure
#   1  how many may be
#   2  how many are below the coroutine that is driven
#   3  the thread's ident
#   4  its tid
#   6  how many frames are below a coroutine that is thrown into, where the awaits between are not on the stack; else 0
#   5  0 free, 1 in use, 2 a thread is being started
#   8  the frames, outermost first: id << 48 | line of the call << 32 | first line << 16 | last line
import mmap
import os
import sys
import time
from functools import reduce

try:
    import _thread
except ImportError:
    import thread as _thread

WORDS = 8192
SLOTS = 8
MEMORY = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), SLOTS * WORDS * 8)
RECORDS = [(ctypes.c_uint64 * WORDS).from_buffer(MEMORY, slot * WORDS * 8) for slot in range(SLOTS)]
SYSCALL = ctypes.CDLL(None).syscall
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: it ends with the test, also when that is killed
GETTID = {"x86_64": 186, "aarch64": 178}[os.uname()[4]]
DATA = [3, 1, 2]
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


class Stop(Exception):
    pass


def leaf(value):
    value = value * 2
    return value // 2


class Context(object):
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


class DOOMED(object):
    def __del__(self):
        self.gone = True


class Pause(object):
    def __await__(self):
        return iter([None])


def nap(s):
    k = s[0]; s[0] = k + 1
    s[0] = s[2]
    yield
    s[0] = k + 1
    s[1] = k + 1; s[0] = k


CONTEXT = Context()
PAUSE = Pause()
if sys.version_info >= (3, 5):
    import types
    nap = types.coroutine(nap)
