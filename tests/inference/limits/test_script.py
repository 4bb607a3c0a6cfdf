"""The window that slides, against a log of every request."""

from __future__ import annotations

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.limits import Limit
from inference.limits.script import NOBODY, Batch, Refusal, Use, key_of, run

START = 1_700_000_000_123
MINUTE, STEP = 60_000, 250


def once(
    store: redis.Redis, limits: list[Limit], at: int, rows: int = 1, times: int = 1
) -> tuple[list[Refusal | None], dict[str, Use]]:
    batch = Batch()
    for _ in range(times):
        batch.add(limits, rows)
    return run(store, batch, NOBODY, at)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 100, 249, 250, 1000, 20_000, 59_999, 61_000]), st.integers(1, 6)
        ),
        min_size=1,
        max_size=60,
    )
)
def test_no_minute_has_more_than_the_limit_and_nothing_is_refused_without_need(
    store: redis.Redis, who: str, steps: list[tuple[int, int]]
) -> None:
    limit = Limit(who, "rows", 10)
    store.delete(key_of(limit))
    at, log = START, list[tuple[int, int]]()

    for wait, rows in steps:
        at += wait
        [refusal], _ = once(store, [limit], at, rows)
        in_minute = sum(each for then, each in log if at - MINUTE < then)
        a_step_more = sum(each for then, each in log if at - MINUTE - STEP < then)
        if refusal is None:
            assert in_minute + rows <= 10
            log.append((at, rows))
        else:
            assert a_step_more + rows > 10


def test_who_waits_as_long_as_told_is_let_through_and_not_sooner(
    store: redis.Redis, who: str
) -> None:
    limit = Limit(who, "rows", 10)
    for second in range(5):
        once(store, [limit], START + second * 1000, 2)

    [refusal], uses = once(store, [limit], START + 10_000, 5)

    assert refusal is not None
    # Two steps of two rows are not enough for five: the third must leave as well.
    assert MINUTE - 8_000 < refusal.wait_ms <= MINUTE - 8_000 + STEP
    assert MINUTE - 10_000 < uses[key_of(limit)].opens_ms <= MINUTE - 10_000 + STEP
    early, _ = once(store, [limit], START + 10_000 + refusal.wait_ms - 1, 5)
    assert early != [None]
    due, _ = once(store, [limit], START + 10_000 + refusal.wait_ms, 5)
    assert due == [None]


def test_a_request_counts_against_all_its_limits_or_none(store: redis.Redis, who: str) -> None:
    requests, rows = Limit(who, "requests", 100), Limit(who, "rows", 10)

    refusals, uses = once(store, [requests, rows], START, rows=4, times=3)

    assert [each and each.limit for each in refusals] == [None, None, rows]
    assert (uses[key_of(requests)].used, uses[key_of(rows)].used) == (2, 8)


def test_a_clock_that_is_set_back_lets_nothing_more_through(store: redis.Redis, who: str) -> None:
    limit = Limit(who, "requests", 5)
    once(store, [limit], START, times=5)

    refusals, _ = once(store, [limit], START - 90_000, times=2)

    assert None not in refusals


def test_what_was_counted_is_forgotten_by_itself(store: redis.Redis, who: str) -> None:
    limit = Limit(who, "requests", 5)

    once(store, [limit], START)

    assert 0 < int(store.pttl(key_of(limit))) <= 61_000


def test_without_a_time_it_is_the_servers(store: redis.Redis, who: str) -> None:
    limit = Limit(who, "requests", 2)
    batch = Batch()
    for _ in range(3):
        batch.add([limit], 1)

    refusals, uses = run(store, batch, NOBODY)

    assert [each is None for each in refusals] == [True, True, False]
    assert 59_000 < uses[key_of(limit)].opens_ms <= 60_250


def test_of_several_limits_in_the_way_the_one_that_lasts_longest_is_named(
    store: redis.Redis, who: str
) -> None:
    slots, requests = Limit(who, "concurrency", 1), Limit(who, "requests", 1)
    batch = Batch()
    for _ in range(2):
        batch.add([slots, requests], rows=1)

    refusals, _ = run(store, batch, NOBODY, START)

    assert [each and each.limit for each in refusals] == [None, requests]
