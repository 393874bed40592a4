# coding: utf-8
"""Blocks while a module is being imported: from a zip archive, imported by a module of a package, imported by importlib. So there are
frames of modules that are frozen (importlib, from 3.8 on zipimport) and of one in an archive."""

import importlib
import os
import sys
import zipfile

import account

ARCHIVE = os.path.join(account.WORK, "архив.zip" if sys.version_info >= (3,) else "archive.zip")
with zipfile.ZipFile(ARCHIVE, "w") as archive:
    archive.writestr("zipped/__init__.py", "import zipped.inner\n")
    archive.writestr("zipped/inner.py", "import time, account\n\ndef wait():\n    account.tell(); time.sleep(account.FOREVER)\n\nwait()\n")
with open(os.path.join(account.WORK, "plain.py"), "w") as module:
    module.write("def load():\n    import zipped\n\n\nload()\n")
sys.path.insert(0, ARCHIVE)
importlib.import_module("plain")
