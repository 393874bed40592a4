"""Its own code, a library of it and what one of its threads reads are on a file system, which with `silent` answers no more. With
`endless` the thread reads what the file system gives up when it is asked to."""

import ctypes
import os
import shutil
import sys
import time

import account
import silent_files
import telling

MODULE = """import account

def waits_for(path):
    with open(path, "rb") as file:
        account.time.sleep(account.FOREVER)

def reads(path, libc, ctypes, say):
    with open(path, "rb") as file:
        result = libc.read(file.fileno(), bytes(1), 1)
    say("result", "%d %d" % (result, ctypes.get_errno()))
    account.time.sleep(account.FOREVER)
"""

files, mounted = (os.path.join(account.WORK, name) for name in ("files", "mounted"))
os.mkdir(files)
os.mkdir(mounted)
try:
    be_silent = silent_files.mount(files, mounted)
except OSError as error:
    telling.write("unserved", "FUSE: " + error.strerror)
else:
    with open(os.path.join(files, "served.py"), "w") as file:
        file.write(MODULE)
    with open("/proc/self/maps") as maps:
        library = next(line.split()[-1] for line in maps if "/libm" in line)
    shutil.copy(library, os.path.join(files, "library.so"))
    for name in ("data", "endless"):
        with open(os.path.join(files, name), "wb") as file:
            file.write(b"data")

    sys.dont_write_bytecode = True
    sys.path.insert(0, mounted)
    import served

    ctypes.CDLL(os.path.join(mounted, "library.so"))
    if sys.argv[1] == "silent":
        be_silent()
        # Until the kernel asks anew.
        time.sleep(silent_files.VALID + 0.5)
    if sys.argv[1] == "endless":
        libc = ctypes.CDLL(None, use_errno=True)
        account.start(served.reads, (os.path.join(mounted, "endless"), libc, ctypes, telling.write))
    else:
        account.start(served.waits_for, (os.path.join(mounted, "data"),))
    account.settle(1)
account.tell(); time.sleep(account.FOREVER)
