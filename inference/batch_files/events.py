"""What happens to a batch file, as server-sent events: each one is its whole state.

Redis only rings: whoever watches reads the row. So nothing has to be replayed, and somebody who
comes back sees at once how things are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import orjson
import redis
from asgiref.sync import sync_to_async

from inference.connections import EVENTS_DB, async_redis_client, redis_client
from inference.models import BatchFile

_EXPIRY_SECONDS = 86_400
_RETRY_MS = 3000
_BLOCK_MS = 1000
# Without a ring the row is looked at all the same: Redis may have lost it.
_LOOK_SECONDS = 5.0
_PING_SECONDS = 15.0

logger = logging.getLogger(__name__)
Snapshot = Callable[[BatchFile], dict[str, Any]]


def _key(batch_id: UUID) -> str:
    return f"batch_file:{batch_id}"


def ring(batch_id: UUID) -> None:
    """Tell those who watch that something changed; without Redis they look by themselves."""
    try:
        pipeline = redis_client(EVENTS_DB).pipeline(transaction=False)
        pipeline.xadd(_key(batch_id), {"event": "changed"}, maxlen=1, approximate=False)
        pipeline.expire(_key(batch_id), _EXPIRY_SECONDS)
        pipeline.execute()
    except redis.RedisError as error:
        logger.warning("A ring for batch file %s is lost: %s", batch_id, error)


async def stream(batch_id: UUID, snapshot: Snapshot) -> AsyncIterator[bytes]:
    """Yield `state` now and whenever something has changed, and `end` when it has ended."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    client = async_redis_client(EVENTS_DB)
    last, sent, said_at = "0-0", b"", time.monotonic()
    try:
        while True:
            last = await _newest(client, batch_id, last)
            found = await _read(batch_id)
            if found is None:
                return
            body = orjson.dumps(snapshot(found))
            if not found.is_open:
                yield _frame("end", body, last)
                return
            if body != sent:
                sent, said_at = body, time.monotonic()
                yield _frame("state", body, last)
            elif time.monotonic() - said_at > _PING_SECONDS:
                said_at = time.monotonic()
                yield b": ping\n\n"
            await _wait(client, batch_id, last)
    finally:
        await client.aclose()


async def _newest(client: redis.asyncio.Redis, batch_id: UUID, last: str) -> str:
    newest: Any = await client.xrevrange(_key(batch_id), count=1)
    return str(newest[0][0].decode()) if newest else last


async def _wait(client: redis.asyncio.Redis, batch_id: UUID, last: str) -> None:
    deadline = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < deadline:
        if await client.xread({_key(batch_id): last}, count=1, block=_BLOCK_MS):
            return


async def _read(batch_id: UUID) -> BatchFile | None:
    return await sync_to_async(BatchFile.objects.listed().filter(pk=batch_id).first)()


def _frame(event: str, body: bytes, event_id: str) -> bytes:
    return f"id: {event_id}\nevent: {event}\ndata: ".encode() + body + b"\n\n"
