"""Limits are one for all processes: counted in processes that really run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from accounts.limits import Limit
from inference.connections import CACHE_DB, redis_url
from inference.limits.gate import peek
from inference.limits.script import key_of
from tests.inference.limits.gateway import Gateway

MINUTE = 60_000


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    """Two processes; the last test kills the first of them."""
    started = [Gateway(redis_url(CACHE_DB), lease_seconds=1.5) for _ in range(2)]
    yield started
    for gateway in started:
        gateway.kill()


def test_two_processes_let_through_exactly_what_the_limit_says(
    who: str, gateways: list[Gateway]
) -> None:

    let_through = [0, 0]
    for _ in range(30):
        for gateway in gateways:
            gateway.tell(f"{who}/requests/1000 50")
        for place, gateway in enumerate(gateways):
            let_through[place] += gateway.answer()

    assert sum(let_through) == 1000
    assert min(let_through) >= 50


def test_over_minutes_two_processes_stay_within_one_percent(
    who: str, gateways: list[Gateway]
) -> None:
    """Demand is eight times the limit of 600, in steps of half a second, for three minutes."""
    begin, admitted = 1_000_000_000_000, []

    for at in range(begin, begin + 3 * MINUTE, 500):
        for gateway in gateways:
            gateway.tell(f"{who}/requests/600 20 {at}")
        admitted.append((at, sum(gateway.answer() for gateway in gateways)))

    total = sum(number for _, number in admitted)
    assert 0.99 * 3 * 600 <= total <= 3 * 600
    for last, _ in admitted:
        in_minute = sum(number for at, number in admitted if last - MINUTE < at <= last)
        assert in_minute <= 600


def test_slots_of_a_killed_process_come_back(
    who: str, gateways: list[Gateway], store: redis.Redis
) -> None:
    limit = Limit(who, "concurrency", 4)
    dead, living = gateways
    four = f"{who}/concurrency/4"
    assert dead.ask(f"{four} 3") == 3
    assert living.ask(f"{four} 3") == 1, "three of four are taken"

    dead.kill()
    tries = 1
    while living.ask(f"{four} 1") == 0:
        tries += 1
        assert not threading.Event().wait(0.05)
        assert tries < 200, "the slots did not come back"

    assert tries > 1, "they came back before the lease had ended"
    assert living.ask(f"{four} 5") == 2
    # It has held the first one for longer than a lease.
    assert peek(store, [limit])[key_of(limit)].used == 4
