"""Watchers come and go; nobody waits for connections of those who left."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import uvloop

from inference import streams

ENDED = streams.Source("ended", lambda _: {}, set)


def test_who_comes_and_goes_at_once_does_not_hang() -> None:
    """A connection that is closed while it is being made may never say that it is closed."""

    async def come_and_go() -> int:
        for _ in range(150):
            async with asyncio.timeout(30):
                await streams.wait_ended(ENDED, uuid4(), 5)
                async with streams.watching("list") as (_hub, watcher):
                    await watcher.wait(0.001)
        return streams.watchers()

    assert uvloop.run(come_and_go()) == 0
