"""Asynchronous predictions over HTTP: accepted, run by a real worker, watched, canceled, killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from billing.models import Hold, UsageEvent
from inference.asynchronous import sweeping
from inference.models import Prediction
from tests import factories
from tests.live import Site

LATER = {"Prefer": "respond-async"}


@pytest.fixture
def secret() -> str:
    return factories.make_key(factories.make_organization())[1]


@pytest.fixture
def body() -> bytes:
    return factories.body(factories.make_version(), 7)


def get(site: Site, secret: str, path: str) -> httpx.Response:
    return site.client.get(path, headers={"Authorization": f"Bearer {secret}"})


def wait_ended(site: Site, seconds: float = 60) -> None:
    """Wait until every row has ended; the sweep is beat's, and here the test's."""

    def is_over() -> bool:
        sweeping.sweep()
        return not Prediction.objects.exclude(status__in=Prediction.TERMINAL).exists()

    site.wait_until(is_over, seconds=seconds)


def events_of(site: Site, secret: str, path: str, **headers: str) -> list[dict[str, Any]]:
    given = {"Authorization": f"Bearer {secret}", **headers}
    with site.client.stream("GET", path, headers=given) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["x-accel-buffering"] == "no"
        return list(_parse(stream.iter_lines()))


def _parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield {**fields, "data": json.loads(fields["data"])}
            fields = {}


def test_it_is_accepted_at_once_and_its_answer_is_read_later(
    site: Site, secret: str, body: bytes
) -> None:
    accepted = site.predict(secret, body, **LATER)

    assert accepted.status_code == 202
    assert accepted.headers["Preference-Applied"] == "respond-async"
    row = accepted.json()
    assert accepted.headers["Location"] == row["urls"]["get"]
    assert (row["status"], row["output"]) == ("queued", None)
    heard = events_of(site, secret, row["urls"]["events"])
    found = get(site, secret, row["urls"]["get"]).json()
    assert found["status"] == "succeeded"
    assert found["output"]["label"] == "7"
    assert (heard[0]["event"], heard[-1]["event"]) == ("state", "end")
    assert heard[-1]["data"] == found
    again = events_of(site, secret, row["urls"]["events"], **{"Last-Event-ID": heard[0]["id"]})
    assert again[-1]["data"] == found
    # A synchronous call gives the same answer, at the same price.
    now = site.predict(secret, body).json()
    assert now["output"] == found["output"]
    assert now["cost"]["amount"] == found["cost"]["amount"]
    assert UsageEvent.objects.count() == 2


def test_who_waits_gets_the_answer_or_the_row(site: Site, secret: str, body: bytes) -> None:
    done = site.predict(secret, body, Prefer="wait=30")

    assert (done.status_code, done.json()["status"]) == (200, "succeeded")
    assert done.headers["Mercato-Cost"] == "0.00002"
    assert done.headers["Preference-Applied"] == "wait=30"

    site.kill("predict")
    try:
        late = site.predict(secret, body, Prefer="wait=1")
        assert (late.status_code, late.json()["status"]) == (202, "queued")
    finally:
        site.start()
    wait_ended(site)
    assert get(site, secret, late.json()["urls"]["get"]).json()["status"] == "succeeded"


def test_the_same_key_gives_the_same_prediction(site: Site, secret: str, body: bytes) -> None:
    headers = {**LATER, "Idempotency-Key": "job-1"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.predict(secret, body, **headers), range(8)))
    wait_ended(site)
    last = site.predict(secret, body, **headers)
    now = site.predict(secret, body, **{"Idempotency-Key": "job-1"})

    assert {one.status_code for one in answers} <= {200, 202}
    assert len({one.json()["id"] for one in answers}) == 1
    assert sum("Idempotent-Replayed" not in one.headers for one in answers) == 1
    assert (last.status_code, last.json()["status"]) == (200, "succeeded")
    assert (now.status_code, now.json()["output"]) == (200, last.json()["output"])
    other = site.predict(secret, b" " + body, **headers)
    assert other.json()["error"]["code"] == "idempotency_mismatch"
    assert UsageEvent.objects.count() == 1


def test_killed_workers_and_gateways_lose_nothing_and_charge_once(
    site: Site, secret: str, body: bytes
) -> None:
    accepted: list[str] = []
    for round_ in range(3):
        for _ in range(20):
            try:
                accepted.append(site.predict(secret, body, **LATER).json()["id"])
            except httpx.TransportError:
                assert round_
        site.kill(("predict", "gateway", "predict")[round_])
        site.start()
    # What a killed worker had is taken over when its lease has run out.
    wait_ended(site, seconds=90)

    found = {str(one.pk): one for one in Prediction.objects.all()}
    assert {found[pk].status for pk in accepted} == {"succeeded"}
    charged = Hold.objects.filter(state=Hold.State.CAPTURED).count()
    assert UsageEvent.objects.count() == charged == len(found)
