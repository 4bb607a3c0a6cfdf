"""Says that this gateway process lives and listens, for every text that it passes on."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import Counter

import redis
import redis.asyncio

from inference.connections import PREDICT_DB, async_redis_client
from inference.generation.wire import (
    CANCELED,
    LISTENING_EXPIRY_MS,
    LISTENING_SECONDS,
    gone_key,
    listening_key,
    pieces_key,
)

_Loop = asyncio.AbstractEventLoop
# Text → its organization.
_open: dict[str, int] = {}
_clients: weakref.WeakKeyDictionary[_Loop, redis.asyncio.Redis] = weakref.WeakKeyDictionary()
_tasks: weakref.WeakKeyDictionary[_Loop, asyncio.Task[None]] = weakref.WeakKeyDictionary()


def client() -> redis.asyncio.Redis:
    """Return the running event loop's client."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = async_redis_client(PREDICT_DB)
    return _clients[loop]


def has_room(organization_id: int, most: int) -> bool:
    """Whether this process may pass on one more text of an organization.

    Where as many are open as may be, an organization is let in that has less than its equal part.
    """
    if len(_open) < most:
        return True
    parts = Counter(_open.values())
    return parts[organization_id] < most // len(parts | {organization_id: 1})


def add(order_id: str, organization_id: int) -> None:
    """Begin to listen for a text."""
    _open[order_id] = organization_id
    loop = asyncio.get_running_loop()
    task = _tasks.get(loop)
    if task is None or task.done():
        _tasks[loop] = loop.create_task(_say())


async def end(order_id: str) -> None:
    """Stop listening for a text whose end has come, and forget what was written."""
    _open.pop(order_id, None)
    with contextlib.suppress(redis.RedisError):
        await client().unlink(pieces_key(order_id), listening_key(order_id))


async def stop(order_id: str, why: bytes = CANCELED) -> None:
    """Stop listening for a text that is under way, and say why, so that it is not written on."""
    _open.pop(order_id, None)
    # Without Redis nothing is written either: the worker hears nobody, or is not heard.
    with contextlib.suppress(redis.RedisError):
        await client().set(gone_key(order_id), why, px=LISTENING_EXPIRY_MS)


async def _say() -> None:
    """Say it again and again while there is a text."""
    while _open:
        pipeline = client().pipeline(transaction=False)
        for order_id in _open:
            pipeline.set(listening_key(order_id), 1, px=LISTENING_EXPIRY_MS)
        with contextlib.suppress(redis.RedisError):
            await pipeline.execute()
        await asyncio.sleep(LISTENING_SECONDS)
