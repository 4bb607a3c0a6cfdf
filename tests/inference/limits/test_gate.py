"""A process's gate: what leaves together, what is given back, and what happens without Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from accounts.limits import Limit
from inference.errors import RateLimitedError, TooManyRowsError
from inference.limits.gate import Counted, Gate, peek
from inference.limits.outages import Outages
from inference.limits.script import key_of
from inference.models import LimiterOutage
from tests.inference.watched import counted as counted_until_now
from tests.inference.watched import counts

__all__ = ["counts"]


def commands(store: redis.Redis) -> int:
    found = store.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


@pytest.fixture
def gate(store: redis.Redis) -> Iterator[Gate]:
    made = Gate(lambda: store, Outages())
    yield made
    # What it still holds it would report until the tests end, and their Redis.
    with made._ready:
        made._next.held.clear()
        made._ready.notify()


async def enter_all(gate: Gate, limits: tuple[Limit, ...], number: int) -> list[Counted]:
    """Try so many at once; returns those that were let through."""
    tries = (gate.enter(limits, 1) for _ in range(number))
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    for each in outcomes:
        if isinstance(each, BaseException) and not isinstance(each, RateLimitedError):
            raise each
    return [each for each in outcomes if isinstance(each, Counted)]


def test_requests_that_come_together_cost_a_few_calls_of_redis(
    gate: Gate, store: redis.Redis, who: str
) -> None:
    limits = tuple(Limit(who, unit, 10_000) for unit in ("requests", "rows"))
    before = commands(store)

    let_through = asyncio.run(enter_all(gate, limits, 1000))

    assert len(let_through) == 1000
    assert commands(store) - before < 50


def test_who_does_not_wait_is_refused_without_asking_redis(
    gate: Gate, store: redis.Redis, who: str
) -> None:
    limits = (Limit(who, "requests", 3),)
    assert len(asyncio.run(enter_all(gate, limits, 4))) == 3
    before = commands(store)

    assert asyncio.run(enter_all(gate, limits, 1000)) == []

    assert commands(store) == before
    with pytest.raises(RateLimitedError) as refused:
        asyncio.run(gate.enter(limits, 1))
    assert 59 <= (refused.value.retry_after or 0) <= 61
    headers = dict(refused.value.headers)
    assert headers["RateLimit"].startswith('"key-requests";r=0;t=')
    assert headers["RateLimit-Policy"] == '"key-requests";q=3;w=60'
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_a_raised_limit_binds_at_once_though_the_old_one_has_refused(gate: Gate, who: str) -> None:
    assert len(asyncio.run(enter_all(gate, (Limit(who, "requests", 3),), 4))) == 3

    assert len(asyncio.run(enter_all(gate, (Limit(who, "requests", 5),), 4))) == 2


def test_a_request_larger_than_its_limit_is_told_to_be_smaller(gate: Gate, who: str) -> None:
    with pytest.raises(TooManyRowsError, match="50 rows, and the limit key-rows is 10"):
        asyncio.run(gate.enter((Limit(who, "rows", 10),), 50))


def test_slots_are_given_back(gate: Gate, store: redis.Redis, who: str) -> None:
    limit = Limit(who, "concurrency", 2)
    first = asyncio.run(enter_all(gate, (limit,), 3))
    assert len(first) == 2

    for each in first:
        gate.leave(each)

    assert len(asyncio.run(enter_all(gate, (limit,), 3))) == 2
    assert peek(store, [limit])[key_of(limit)].used == 2


def test_a_caller_that_goes_away_while_it_is_counted_keeps_no_slot(
    gate: Gate, store: redis.Redis, who: str
) -> None:
    limit = Limit(who, "concurrency", 2)

    async def go_away() -> None:
        tasks = [asyncio.create_task(gate.enter((limit,), 1)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What the gate still tells the loop about them is heard.
        assert len(await enter_all(gate, (Limit(who, "requests", 9),), 1)) == 1

    asyncio.run(go_away())

    assert len(asyncio.run(enter_all(gate, (limit,), 3))) == 2


def test_a_redis_that_was_emptied_knows_again_what_is_held(
    gate: Gate, store: redis.Redis, who: str
) -> None:
    limit = Limit(who, "concurrency", 3)
    assert len(asyncio.run(enter_all(gate, (limit,), 2))) == 2

    store.delete(key_of(limit))

    assert len(asyncio.run(enter_all(gate, (limit,), 3))) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("counts")
def test_without_redis_requests_go_on_and_operators_see_how_many(
    store: redis.Redis, who: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "inference.limits")
    nobody = redis.Redis(unix_socket_path=str(tmp_path / "nobody"))
    clients = [nobody]
    outages = Outages()
    gate = Gate(lambda: clients[0], outages)
    limits = (Limit(who, "requests", 5),)

    assert len(asyncio.run(enter_all(gate, limits, 20))) == 20
    assert len(asyncio.run(enter_all(gate, limits, 10))) == 10
    assert gate.count(limits).standing is None
    clients[0] = store

    async def counted_again() -> None:
        while outages.is_away:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(counted_again(), 10))
    assert len(asyncio.run(enter_all(gate, limits, 20))) == 5
    outage = LimiterOutage.objects.get()
    assert outage.uncounted == 31
    assert outage.ended_at is not None
    assert "Error" in outage.error
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "31" in caplog.records[1].getMessage()
    found, name = counted_until_now(), "mercato_limit_requests_total"
    assert found.value("mercato_limit_uncounted_total") == 31
    ends = [found.value(name, unit="requests", result=each) for each in ("admitted", "refused")]
    assert ends == [5, 15]


@pytest.mark.usefixtures("counts")
def test_what_limits_admit_and_refuse_is_counted_by_unit_and_not_by_owner(
    gate: Gate, who: str
) -> None:
    limits = (Limit(who, "requests", 10), Limit(who, "rows", 3))
    reads = (Limit("reads:7", "requests", 1),)

    # The fourth is refused by Redis, the fifth without asking it, the last for ever.
    for rows in (1, 1, 1, 1, 1, 4):
        with suppress(RateLimitedError, TooManyRowsError):
            asyncio.run(gate.enter(limits, rows))
    gate.count(reads)

    found = counted_until_now()
    name = "mercato_limit_requests_total"
    assert {
        (labels["unit"], labels["result"]): found.value(name, **labels)
        for labels in found.labels(name)
    } == {
        ("requests", "admitted"): 3,
        ("rows", "admitted"): 3,
        ("rows", "refused"): 3,
        ("reads", "admitted"): 1,
    }
