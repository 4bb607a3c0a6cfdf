"""What happens to a job, as a stream: Redis for those who watch, the row for those who return."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import redis
from asgiref.sync import sync_to_async

from inference.connections import EVENTS_DB, async_redis_client, redis_client
from training.models import Job

_MAX_LENGTH = 2000
_EXPIRY_SECONDS = 86_400
_RETRY_MS = 3000
# How long one read waits; then a comment keeps proxies from closing the connection.
_BLOCK_MS = 5000
_PING_SECONDS = 15.0
_BATCH = 200

logger = logging.getLogger(__name__)


def key(job_id: UUID) -> str:
    """Return where the events of a job are."""
    return f"job:{job_id}"


def publish(job_id: UUID, event: str, data: Mapping[str, Any]) -> None:
    """Add an event; a training goes on without Redis, its watchers read the row instead."""
    fields: dict[Any, Any] = {"event": event, "data": json.dumps(data)}
    try:
        pipeline = redis_client(EVENTS_DB).pipeline(transaction=False)
        pipeline.xadd(key(job_id), fields, maxlen=_MAX_LENGTH, approximate=True)
        pipeline.expire(key(job_id), _EXPIRY_SECONDS)
        pipeline.execute()
    except redis.RedisError as error:
        logger.warning("Event of training %s is lost: %s", job_id, error)


def snapshot(job: Job) -> dict[str, Any]:
    """Return the state of a job for those who join late."""
    return {
        "id": str(job.pk),
        "state": job.state,
        "progress": job.progress,
        "curve": job.curve,
        "error_code": job.error_code or None,
        "error_message": job.error_message or None,
    }


async def stream(job: Job, last_event_id: str = "") -> AsyncIterator[bytes]:
    """Yield server-sent events of a job until it has ended.

    First a `state` event with the whole curve, unless the watcher says which event it saw last;
    then what happens; at last `end`.
    """
    yield f"retry: {_RETRY_MS}\n\n".encode()
    last = last_event_id if _is_event_id(last_event_id) else ""
    client = async_redis_client(EVENTS_DB)
    try:
        if not last:
            # Where the stream is now, before the row is read: nothing falls in between.
            last = await _newest(client, job.pk)
            job = await _read(job.pk)
            yield _frame("state", snapshot(job), last)
        async for frame in _follow(client, job.pk, last):
            yield frame
    finally:
        await client.aclose()


async def _follow(client: redis.asyncio.Redis, job_id: UUID, last: str) -> AsyncIterator[bytes]:
    pinged = time.monotonic()
    while True:
        found = await _next(client, job_id, last)
        for event_id, fields in found:
            last = event_id.decode()
            yield _frame(fields[b"event"].decode(), fields[b"data"].decode(), last)
        if found:
            continue
        # Nothing new: the row says whether anything will come at all.
        job = await _read(job_id)
        if job.state in Job.TERMINAL and not await _next(client, job_id, last, block_ms=None):
            yield _frame("end", snapshot(job), last)
            return
        if time.monotonic() - pinged > _PING_SECONDS:
            pinged = time.monotonic()
            yield b": ping\n\n"


async def _next(
    client: redis.asyncio.Redis, job_id: UUID, last: str, block_ms: int | None = 1000
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = await client.xread({key(job_id): last}, count=_BATCH, block=block_ms)
    if not found:
        return []
    entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
    return list(entries)


async def _newest(client: redis.asyncio.Redis, job_id: UUID) -> str:
    newest: Any = await client.xrevrange(key(job_id), count=1)
    return str(newest[0][0].decode()) if newest else "0-0"


async def _read(job_id: UUID) -> Job:
    return await sync_to_async(partial(Job.objects.get, pk=job_id))()


def _is_event_id(text: str) -> bool:
    first, _, second = text.partition("-")
    return all(part.isascii() and part.isdigit() and len(part) <= 20 for part in (first, second))


def _frame(event: str, data: Mapping[str, Any] | str, event_id: str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"id: {event_id}\nevent: {event}\ndata: {text}\n\n".encode()
