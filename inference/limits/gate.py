"""Where a process's requests are counted against limits that all processes share.

One thread asks Redis; what arrives while it waits gathers, and leaves together as one call of the
script. So a request pays a part of a round trip, and one whose caller has no limits pays nothing.
If Redis cannot be asked, requests are let through, uncounted: see inference.limits.outages.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import redis

from accounts.limits import Limit, Unit
from accounts.rate_headers import Text
from inference.limits import watching
from inference.limits.outages import Outages
from inference.limits.script import LEASE_SECONDS, NOBODY, Batch, Holder, Refusal, Use, key_of, run
from inference.limits.standing import Standing, too_many_rows

logger = logging.getLogger(__name__)
# How often a Redis that is away is tried again.
PROBE_SECONDS = 1.0
_MOST_CLOSED = 10_000


@dataclass(slots=True, eq=False)
class Ask:
    """A request that waits to be counted; `future` gets the refusal, if any, and the standing."""

    limits: tuple[Limit, ...]
    rows: int
    # Resolved in its loop; without one it belongs to a thread.
    future: asyncio.Future[Counted] | Future[Counted]
    loop: asyncio.AbstractEventLoop | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of a request; without a standing it was let through uncounted."""

    standing: Standing | None = None
    refusal: Refusal | None = None
    # What it holds until it leaves.
    slots: tuple[Limit, ...] = ()

    @property
    def texts(self) -> tuple[Text, ...]:
        """What the caller is told of its limits."""
        return () if self.standing is None else self.standing.texts


@dataclass(frozen=True, slots=True)
class _Closed:
    """A limit that has refused: until when it refuses as much again, without asking Redis."""

    until: float
    cost: int
    quota: int
    standing: Standing


@dataclass(slots=True)
class _Gathered:
    asks: list[Ask] = field(default_factory=list)
    # Limits whose slots have changed, by key.
    changed: dict[str, Limit] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


class Gate:
    """Counts the requests of one process.

    Args:
        client: Makes the client on first use; it waits a second at most.
        now_ms: The time; None: Redis' own.
        lease_seconds: How long its slots count after it has died; renewed three times as often.
    """

    def __init__(
        self,
        client: Callable[[], redis.Redis],
        outages: Outages,
        now_ms: Callable[[], int] | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._client, self._outages, self._now_ms = client, outages, now_ms
        self._lease_seconds = lease_seconds
        self._process = secrets.token_hex(8)
        self._ready = threading.Condition()
        self._next = _Gathered()
        self._slots: dict[str, Limit] = {}
        self._renewed_at = 0.0
        self._closed: dict[str, _Closed] = {}
        self._thread: threading.Thread | None = None

    async def enter(self, limits: tuple[Limit, ...], rows: int) -> Counted:
        """Count a request; what it holds is given back by `leave`.

        Raises:
            RateLimitedError: A limit is reached.
            TooManyRowsError: It has more rows than a limit allows in a minute.
        """
        self._refuse_early(limits, rows)
        if self._outages.is_away:
            return self._uncounted()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Counted] = loop.create_future()
        self._submit(Ask(limits, rows, future, loop))
        try:
            counted = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(future.result())
            raise
        return _admitted(counted)

    def count(self, limits: tuple[Limit, ...]) -> Counted:
        """Count a request of a thread against what is counted per minute; it holds nothing.

        Raises:
            RateLimitedError: A limit is reached.
        """
        windows = tuple(each for each in limits if each.unit == Unit.REQUESTS)
        if not windows:
            return Counted()
        self._refuse_early(windows, 0)
        if self._outages.is_away:
            return self._uncounted()
        future: Future[Counted] = Future()
        self._submit(Ask(windows, 0, future))
        return _admitted(future.result())

    def leave(self, counted: Counted) -> None:
        """Give back what a request holds."""
        if not counted.slots:
            return
        with self._ready:
            for limit in counted.slots:
                key = key_of(limit)
                self._next.held[key] -= 1
                self._next.changed[key] = limit
            self._ready.notify()

    def _uncounted(self) -> Counted:
        self._outages.add(1)
        return Counted()

    def _refuse_early(self, limits: Sequence[Limit], rows: int) -> None:
        """Refuse what Redis would refuse: a caller that does not wait costs next to nothing."""
        for limit in limits:
            cost = 1
            if limit.unit == Unit.ROWS:
                cost = rows
                if rows > limit.quota:
                    watching.refused(limit)
                    raise too_many_rows(limit, rows)
            closed = self._closed.get(key_of(limit))
            if closed is None or cost < closed.cost or limit.quota != closed.quota:
                continue
            if (left := closed.until - time.monotonic()) > 0:
                watching.refused(limit)
                raise closed.standing.refuse(Refusal(limit, int(left * 1000)))

    def _submit(self, ask: Ask) -> None:
        with self._ready:
            self._next.asks.append(ask)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limits", daemon=True)
                self._thread.start()
            self._ready.notify()

    def _run(self) -> None:
        while True:
            gathered = self._gather()
            try:
                self._count(gathered)
            except redis.RedisError as error:
                _resolve([(ask, Counted()) for ask in gathered.asks], self.leave)
                self._outages.began(error, len(gathered.asks))
            except Exception:  # the thread's edge: callers must go on, uncounted
                logger.exception("limits")
                _resolve([(ask, Counted()) for ask in gathered.asks], self.leave)
                watching.let_through(len(gathered.asks))
            else:
                self._outages.ended()

    def _gather(self) -> _Gathered:
        """Wait for requests, for slots that were given back, or until it is time to report."""
        with self._ready:
            while not self._next.asks and not self._next.changed:
                if not self._ready.wait(self._patience()):
                    break
            gathered = self._next
            held = {key: number for key, number in gathered.held.items() if number}
            self._next = _Gathered(held=held)
            self._slots = {key: each for key, each in self._slots.items() if key in held}
            if time.monotonic() - self._renewed_at >= self._lease_seconds / 3:
                gathered.changed |= self._slots
                self._renewed_at = time.monotonic()
            return _Gathered(gathered.asks, gathered.changed, dict(held))

    def _patience(self) -> float | None:
        """Return how long to wait for something to count."""
        if self._outages.is_away:
            return PROBE_SECONDS
        return self._lease_seconds / 3 if any(self._next.held.values()) else None

    def _count(self, gathered: _Gathered) -> None:
        batch = Batch()
        for ask in gathered.asks:
            batch.add(ask.limits, ask.rows)
        for limit in gathered.changed.values():
            batch.touch(limit)
        now_ms = self._now_ms() if self._now_ms else None
        holder = Holder(self._process, gathered.held, self._lease_seconds)
        refusals, uses = run(self._client(), batch, holder, now_ms)
        watching.decided(zip((ask.limits for ask in gathered.asks), refusals, strict=True))
        standings: dict[int, Standing] = {}
        counted = []
        for ask, refusal in zip(gathered.asks, refusals, strict=True):
            standing = standings.get(id(ask.limits))
            if standing is None:
                standing = standings[id(ask.limits)] = Standing(ask.limits, uses)
            if refusal is not None:
                self._close(refusal, ask.rows, standing)
            counted.append((ask, Counted(standing, refusal, () if refusal else _slots(ask))))
        self._hold([each.slots for _, each in counted])
        _resolve(counted, self.leave)

    def _hold(self, taken: Sequence[tuple[Limit, ...]]) -> None:
        with self._ready:
            for limit in (limit for slots in taken for limit in slots):
                key = key_of(limit)
                self._slots[key] = limit
                self._next.held[key] = self._next.held.get(key, 0) + 1

    def _close(self, refusal: Refusal, rows: int, standing: Standing) -> None:
        limit = refusal.limit
        if not refusal.wait_ms:
            return
        if len(self._closed) >= _MOST_CLOSED:
            self._closed.clear()
        until = time.monotonic() + refusal.wait_ms / 1000
        cost = rows if limit.unit == Unit.ROWS else 1
        self._closed[key_of(limit)] = _Closed(until, cost, limit.quota, standing)


def _slots(ask: Ask) -> tuple[Limit, ...]:
    return tuple(each for each in ask.limits if each.unit == Unit.CONCURRENCY)


def _admitted(counted: Counted) -> Counted:
    if counted.refusal is not None and counted.standing is not None:
        raise counted.standing.refuse(counted.refusal)
    return counted


_Pairs = list[tuple[Ask, Counted]]


def _resolve(pairs: _Pairs, leave: Callable[[Counted], None]) -> None:
    """Wake who waits; one call into each event loop for the whole batch."""
    by_loop: dict[asyncio.AbstractEventLoop | None, _Pairs] = {}
    for ask, counted in pairs:
        by_loop.setdefault(ask.loop, []).append((ask, counted))
    for loop, mine in by_loop.items():
        if loop is None:
            _wake(mine, leave)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_wake, mine, leave)


def _wake(pairs: _Pairs, leave: Callable[[Counted], None]) -> None:
    for ask, counted in pairs:
        if ask.future.cancelled():
            # The caller went away while it was counted.
            leave(counted)
        else:
            ask.future.set_result(counted)


def peek(
    client: redis.Redis, limits: Sequence[Limit], now_ms: int | None = None
) -> Mapping[str, Use]:
    """Return how much of limits is used, by key, without counting anything.

    Raises:
        redis.RedisError: Nobody knows.
    """
    batch = Batch()
    for limit in limits:
        batch.touch(limit)
    return run(client, batch, NOBODY, now_ms)[1]
