"""Code without a file of its own: exec in a function, eval, nested compile, a file name that is empty or a folder, code of many lines."""

import time

import account


def wait():
    account.tell(); time.sleep(account.FOREVER)


def evaluate(names):
    return eval("(lambda: wait())()", names)


NAMES = {"wait": wait, "evaluate": evaluate}
NAMES["names"] = NAMES
exec(compile("\n" * 70000 + "def far():\n    evaluate(names)\n", "<string>", "exec"), NAMES)
exec(compile("def nameless():\n  exec(compile('far()', '/', 'exec'), names)", "", "exec"), NAMES)
exec("nameless()", NAMES)
