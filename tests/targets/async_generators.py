"""An async generator that runs inside async comprehension, `async for` and `async with`, below coroutines that await; no event loop."""

import time

import account


class Manager:
    async def __aenter__(self):
        return await passing_on()

    async def __aexit__(self, *_):
        pass


async def passing_on():
    return 1


async def numbers():
    yield 1
    async with Manager():
        block()
    yield 2


def block():
    account.tell(); time.sleep(account.FOREVER)


async def doubled():
    async for number in numbers():
        yield number * 2


async def gather():
    return [number async for number in doubled()]


async def outer():
    return await gather()


outer().send(None)
