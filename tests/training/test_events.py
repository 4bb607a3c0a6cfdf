"""The stream of a training."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from inference.connections import EVENTS_DB, redis_client
from training import events, leases
from training.models import Job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("rings")]
Start = Callable[..., Job]


def read(job: Job, last_event_id: str = "") -> list[dict[str, Any]]:
    """Return the events of a stream, to its end."""

    async def collect() -> list[bytes]:
        return [frame async for frame in events.stream(job, last_event_id)]

    frames = asyncio.run(collect())
    assert frames[0] == b"retry: 3000\n\n"
    found = []
    for frame in frames[1:]:
        fields = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
        found.append({**fields, "data": json.loads(fields["data"])})
    return found


def finished(start: Start) -> Job:
    job = start()
    lease = leases.claim("cpu", "worker")
    assert lease is not None
    for epoch in (1, 2, 3):
        events.publish(job.pk, "epoch", {"epoch": epoch})
    leases.write(lease, curve=[{"epoch": epoch} for epoch in (1, 2, 3)])
    leases.finish(lease, leases.failed("internal_error"))
    return job


def test_who_joins_late_gets_the_whole_curve_and_the_end(start: Start) -> None:
    job = finished(start)

    found = read(job)

    assert [item["event"] for item in found] == ["state", "end"]
    assert [point["epoch"] for point in found[0]["data"]["curve"]] == [1, 2, 3]
    assert found[1]["data"]["state"] == "failed"
    assert found[1]["data"]["error_code"] == "internal_error"


def test_who_returns_gets_what_was_missed(start: Start) -> None:
    job = finished(start)
    first: Any = redis_client(EVENTS_DB).xrange(events.key(job.pk), count=1)
    seen = first[0][0].decode()

    found = read(job, seen)

    assert [item["event"] for item in found] == ["epoch", "epoch", "end"]
    assert [item["data"]["epoch"] for item in found[:2]] == [2, 3]


@pytest.mark.parametrize("given", ["x", "1", "1-", "-", "$", "1-2-3", "9" * 30 + "-1", "１-１"])
def test_a_strange_last_event_id_is_as_none(start: Start, given: str) -> None:
    assert [item["event"] for item in read(finished(start), given)] == ["state", "end"]


def test_what_happens_later_arrives(start: Start) -> None:
    job = start()
    lease = leases.claim("cpu", "worker")
    assert lease is not None

    async def watch() -> list[str]:
        heard: list[str] = []
        async for frame in events.stream(job):
            if b"event: " not in frame:
                continue
            heard.append(frame.decode().split("event: ")[1].split("\n")[0])
            if heard == ["state"]:
                await asyncio.to_thread(events.publish, job.pk, "epoch", {"epoch": 1})
                await asyncio.to_thread(finish)
        return heard

    def finish() -> None:
        leases.finish(lease, leases.failed("internal_error"))

    assert asyncio.run(watch()) == ["state", "epoch", "end"]


def test_a_stream_does_not_grow_without_end(start: Start) -> None:
    job = start()
    for epoch in range(2500):
        events.publish(job.pk, "progress", {"epoch": epoch})

    client: Any = redis_client(EVENTS_DB)
    assert client.xlen(events.key(job.pk)) < 2300
    assert client.ttl(events.key(job.pk)) > 80_000


def test_who_missed_what_is_not_kept_is_told_so(start: Start) -> None:
    job = start()
    events.publish(job.pk, "epoch", {"epoch": 0})
    first: Any = redis_client(EVENTS_DB).xrange(events.key(job.pk), count=1)
    lease = leases.claim("cpu", "worker")
    assert lease is not None
    for epoch in range(2500):
        events.publish(job.pk, "progress", {"epoch": epoch})
    leases.finish(lease, leases.failed("internal_error"))

    found = read(job, first[0][0].decode())

    assert [item["event"] for item in found] == ["error", "state", "end"]
    assert found[0]["data"]["code"] == "history_dropped"


def test_who_returns_after_all_was_forgotten_is_told_so(start: Start) -> None:
    job = finished(start)
    redis_client(EVENTS_DB).delete(events.key(job.pk))

    assert [item["event"] for item in read(job, "1-1")] == ["error", "state", "end"]
