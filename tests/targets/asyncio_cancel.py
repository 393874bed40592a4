"""An asyncio task that is cancelled through two awaits and blocks the loop while it cleans up; another one is suspended."""

import asyncio
import time

import account


async def guarded():
    try:
        await asyncio.sleep(account.FOREVER)
    except asyncio.CancelledError:
        account.tell(); time.sleep(account.FOREVER)


async def between():
    await guarded()


async def bystander():
    await asyncio.sleep(account.FOREVER)


async def main():
    tasks = [asyncio.ensure_future(between()), asyncio.ensure_future(bystander())]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    await tasks[0]


asyncio.new_event_loop().run_until_complete(main())
