"""Requests and rows per minute, and requests at a time: counted across all processes.

`enter` and `leave` around what a caller asks for in an event loop, `count` where a thread asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.keys import Caller
from accounts.limits import Limit
from inference.connections import CACHE_DB, redis_url
from inference.limits import gate as _gate
from inference.limits.gate import Counted, Gate
from inference.limits.outages import Outages
from inference.limits.script import Use

# A limiter that does not answer in this time is away: see inference.limits.outages.
_TIMEOUT_SECONDS = 1.0


@cache
def _client() -> redis.Redis:
    # Not the client of everybody else: it waits longer, and tries again.
    return redis.Redis.from_url(
        redis_url(CACHE_DB),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        # Once again, if the server has closed the connection in the meantime.
        retry=Retry(NoBackoff(), 1),
    )


_the_gate = Gate(_client, Outages())


async def enter(caller: Caller, rows: int) -> Counted | None:
    """Count a request against its caller's limits; None if it has none.

    Raises:
        RateLimitedError: A limit is reached.
        TooManyRowsError: It has more rows than a limit allows in a minute.
    """
    return await _the_gate.enter(caller.limits, rows) if caller.limits else None


def leave(counted: Counted | None) -> None:
    """Give back what a request holds; it has ended."""
    if counted is not None:
        _the_gate.leave(counted)


def count(limits: tuple[Limit, ...]) -> Counted:
    """Count a request that is over at once against limits of requests per minute.

    Raises:
        RateLimitedError: A limit is reached.
    """
    return _the_gate.count(limits)


def uses(limits: Sequence[Limit]) -> Mapping[str, Use] | None:
    """Return how much of limits is used now, by key; None: it is not known."""
    try:
        return _gate.peek(_client(), limits)
    except redis.RedisError:
        return None
