"""Server-sent events of rows that change: for all watchers of a process one connection to Redis
listens, and one query looks which rows have ended.

What happens is written to a stream per row, so that a watcher who returns gets what was missed;
then a ring names the rows. A lost ring costs a second: the row is the truth. Of a source that is
`whole` only marks are written, and watchers read the row: many marks at once are one event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import orjson
import redis
import redis.asyncio
from asgiref.sync import sync_to_async
from django.core.exceptions import ObjectDoesNotExist
from django.db import Error, close_old_connections, connection

from inference.connections import EVENTS_DB, redis_client, redis_url

_MAX_LENGTH = 2000
_EXPIRY_SECONDS = 86_400
_RETRY_MS = 3000
# A comment keeps proxies from closing the connection.
_PING_SECONDS = 15.0
# How often the database is asked which of the watched rows have ended.
_LOOK_SECONDS = 1.0
# Looks without a watcher after which the connections are closed.
_IDLE_LOOKS = 30
_BATCH = 200
_CHANNEL = "rings"
_MAX_CONNECTIONS = 8
# After these the row may have ended.
_ENDINGS = (b"state", b"status")

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Event = tuple[str, str, Mapping[str, Any]]
Found = Sequence[tuple[bytes, Mapping[bytes, bytes]]]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A kind of row that can be watched.

    Attributes:
        read: Returns what is told of a row to those who join, and at the end.
        ended: Returns which of some rows have ended.
        is_whole: Each event is `state`, with the whole row as it is when the event is sent: who
            comes back has missed nothing.
    """

    kind: str
    read: Callable[[UUID], Mapping[str, Any]]
    ended: Callable[[Collection[UUID]], set[UUID]]
    is_whole: bool = False

    def key(self, row_id: UUID) -> str:
        """Return where the events of a row are."""
        return key_of(self.kind, row_id)


def key_of(kind: str, row_id: UUID) -> str:
    """Return where the events of a row of a kind are."""
    return f"{kind}:{row_id}"


def publish(events: Sequence[Event], *, rings: Sequence[str] = ()) -> None:
    """Add events: (key, name, data); the work goes on without Redis, watchers read the row.

    Args:
        rings: More keys to ring, such as those of lists.
    """
    if not events:
        return
    try:
        pipeline = redis_client(EVENTS_DB).pipeline(transaction=False)
        for key, name, data in events:
            fields: dict[Any, Any] = {"event": name, "data": orjson.dumps(data)}
            pipeline.xadd(key, fields, maxlen=_MAX_LENGTH, approximate=True)
            pipeline.expire(key, _EXPIRY_SECONDS)
        pipeline.publish(_CHANNEL, " ".join([*(key for key, _, _ in events), *rings]))
        pipeline.execute()
    except redis.RedisError as error:
        logger.warning("%s events are lost: %s", len(events), error)


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who waits for a row."""

    key: str
    source: Source | None = None
    row_id: UUID | None = None
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: bool = False

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring; False if there was none."""
        try:
            async with asyncio.timeout(seconds):
                await self.rung.wait()
        except TimeoutError:
            return False
        self.rung.clear()
        return True


class Hub:
    """All watchers of one event loop; it ends some seconds after the last one has left.

    Nobody waits for that: to close a connection that is being made may take for ever.
    """

    def __init__(self) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url(EVENTS_DB), max_connections=_MAX_CONNECTIONS, health_check_interval=25
        )
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
        self._watchers: dict[str, set[Watcher]] = defaultdict(set)
        self._listener = asyncio.create_task(self._listen())
        self._looker = asyncio.create_task(self._look())

    def add(self, watcher: Watcher) -> None:
        """Let a watcher hear what is rung for its key."""
        self._watchers[watcher.key].add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        watchers = self._watchers[watcher.key]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[watcher.key]

    def __len__(self) -> int:
        return sum(map(len, self._watchers.values()))

    async def _listen(self) -> None:
        while True:
            try:
                async with self.client.pubsub() as channel:
                    await channel.subscribe(_CHANNEL)
                    # What was rung while nobody listened.
                    self._ring(list(self._watchers))
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._ring(message["data"].decode().split(" "))
            except (redis.RedisError, OSError) as error:
                logger.warning("events: %s", error)
                await asyncio.sleep(_LOOK_SECONDS)

    def _ring(self, keys: Collection[str]) -> None:
        for key in keys:
            for watcher in self._watchers.get(key, ()):
                watcher.rung.set()

    async def _look(self) -> None:
        idle = 0
        while idle < _IDLE_LOOKS:
            await asyncio.sleep(_LOOK_SECONDS)
            idle = 0 if self._watchers else idle + 1
            for source, watchers_of in self._by_source().items():
                await _look_at(source, watchers_of)
        # Whoever comes now makes another hub.
        del _hubs[asyncio.get_running_loop()]
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await self.client.aclose()

    def _by_source(self) -> dict[Source, list[Watcher]]:
        found: dict[Source, list[Watcher]] = defaultdict(list)
        for watchers_of in self._watchers.values():
            for watcher in watchers_of:
                if watcher.source is not None:
                    found[watcher.source].append(watcher)
        return found


async def _look_at(source: Source, watchers: Sequence[Watcher]) -> None:
    ids = {watcher.row_id for watcher in watchers if watcher.row_id is not None}
    try:
        ended = await _in_database(source.ended, ids)
    except Error as error:
        logger.warning("events: %s", error)
        return
    for watcher in watchers:
        if watcher.row_id in ended:
            watcher.has_ended = True
            watcher.rung.set()


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def watchers() -> int:
    """Return how many watch in this process."""
    return sum(map(len, _hubs.values()))


@asynccontextmanager
async def watching(
    key: str, source: Source | None = None, row_id: UUID | None = None
) -> AsyncIterator[tuple[Hub, Watcher]]:
    """Watch a key."""
    loop, watcher = asyncio.get_running_loop(), Watcher(key, source, row_id)
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub()
    hub.add(watcher)
    try:
        yield hub, watcher
    finally:
        hub.remove(watcher)


async def wait_ended(source: Source, row_id: UUID, seconds: float) -> None:
    """Wait until a row has ended, at most so long."""
    end = time.monotonic() + seconds
    async with watching(source.key(row_id), source, row_id) as (_, watcher):
        while not await _has_ended(source, row_id):
            left = end - time.monotonic()
            if left <= 0 or not await watcher.wait(left):
                return


async def rings(key: str) -> AsyncIterator[bytes]:
    """Yield an event `changed` whenever a key was rung, once a second at most; without end."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    async with watching(key) as (_, watcher):
        while True:
            if await watcher.wait(_PING_SECONDS):
                yield b"event: changed\ndata: {}\n\n"
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                yield b": ping\n\n"


async def stream(source: Source, row_id: UUID, last_event_id: str = "") -> AsyncIterator[bytes]:
    """Yield server-sent events of a row until it has ended.

    First a `state` event with the whole row, unless the watcher says which event it saw last;
    then what happens; at last `end`, with the whole row. An `error` event says that what happened
    in between is not kept any longer; a `state` event follows it. A row that is deleted meanwhile
    ends the stream without `end`.
    """
    yield f"retry: {_RETRY_MS}\n\n".encode()
    last = last_event_id if _is_event_id(last_event_id) and not source.is_whole else ""
    async with watching(source.key(row_id), source, row_id) as (hub, watcher):
        history = _History(hub.client, source.key(row_id))
        with suppress(ObjectDoesNotExist):
            async for frame in _events(watcher, source, row_id, history, last):
                yield frame


async def _events(
    watcher: Watcher, source: Source, row_id: UUID, history: _History, last: str
) -> AsyncIterator[bytes]:
    if last and await history.is_dropped(last):
        yield _frame("error", {"code": "history_dropped", "last_event_id": last}, last)
        last = ""
    if not last:
        # Where the stream is now, before the row is read: nothing falls in between.
        last = await history.newest()
        yield _frame("state", await _in_database(source.read, row_id), last)
    async for frame in _follow(watcher, source, row_id, history, last):
        yield frame


async def _follow(
    watcher: Watcher, source: Source, row_id: UUID, history: _History, last: str
) -> AsyncIterator[bytes]:
    watcher.has_ended = await _has_ended(source, row_id)
    while True:
        # It had ended before the history is read: nothing comes after what is read now.
        is_over = watcher.has_ended
        found = await history.after(last)
        last = found[-1][0].decode() if found else last
        for frame in _told(source, found):
            yield frame
        if len(found) == _BATCH:
            continue
        if is_over:
            yield _frame("end", await _in_database(source.read, row_id), last)
            return
        if found and source.is_whole:
            yield _frame("state", await _in_database(source.read, row_id), last)
        if any(fields[b"event"] in _ENDINGS for _, fields in found):
            watcher.has_ended = await _has_ended(source, row_id)
        elif not await watcher.wait(_PING_SECONDS):
            yield b": ping\n\n"


def _told(source: Source, found: Found) -> list[bytes]:
    """Return what happened, as frames; of a whole source the row is read instead."""
    if source.is_whole:
        return []
    return [
        _frame(fields[b"event"].decode(), fields[b"data"].decode(), event_id.decode())
        for event_id, fields in found
    ]


class _History:
    """What is kept of what happened to a row; empty while Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, key: str) -> None:
        self._client = client
        self._key = key

    async def newest(self) -> str:
        """Return the id of the last event."""
        newest: Any = await self._ask(self._client.xrevrange(self._key, count=1))
        return str(newest[0][0].decode()) if newest else "0-0"

    async def after(self, last: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return the events after one."""
        found: Any = await self._ask(self._client.xrange(self._key, f"({last}", "+", count=_BATCH))
        return list(found or ())

    async def is_dropped(self, last: str) -> bool:
        """Whether events after this one may have been dropped."""
        oldest: Any = await self._ask(self._client.xrange(self._key, count=1))
        if not oldest:
            return last != "0-0"
        if _order(oldest[0][0].decode()) <= _order(last):
            return False
        about: Any = await self._ask(self._client.xinfo_stream(self._key))
        return bool(about and about["entries-added"] > about["length"])

    async def _ask(self, question: Awaitable[Result]) -> Result | None:
        try:
            return await question
        except (redis.RedisError, OSError) as error:
            logger.warning("events: %s", error)
            return None


async def _has_ended(source: Source, row_id: UUID) -> bool:
    return row_id in await _in_database(source.ended, {row_id})


async def _in_database(function: Callable[..., Result], *args: Any) -> Result:
    """Ask the database: outside Django's requests all watchers share one thread for this."""
    return await sync_to_async(_fresh)(function, *args)


def _fresh(function: Callable[..., Result], *args: Any) -> Result:
    # Inside a transaction the connection is not ours to judge.
    if not connection.in_atomic_block:
        close_old_connections()
    return function(*args)


def _is_event_id(text: str) -> bool:
    first, _, second = text.partition("-")
    return all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (first, second))


def _order(event_id: str) -> tuple[int, int]:
    first, _, second = event_id.partition("-")
    return int(first), int(second)


def _frame(event: str, data: Mapping[str, Any] | str, event_id: str) -> bytes:
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    return f"id: {event_id}\nevent: {event}\ndata: {text}\n\n".encode()
