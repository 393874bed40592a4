"""coro.throw() through two awaits, which is what cancelling an asyncio task does; blocked while the throw is in flight.

The frames of `outer` and `middle` are on the stack without an evaluation loop of their own.
"""

import time

import account


class Cancelled(Exception):
    pass


class Gate:
    def __await__(self):
        yield


async def inner():
    try:
        await Gate()
    except Cancelled:
        clean_up()


def clean_up():
    account.tell(); time.sleep(account.FOREVER)


async def middle():
    await inner()


async def outer():
    await middle()


def cancel(coroutine):
    coroutine.throw(Cancelled())


coroutine = outer()
coroutine.send(None)
cancel(coroutine)
