"""Cold starts are told: a state, an estimate, and what was waited for is nobody's queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.keys import Caller
from catalog.models import ModelVersion
from inference import dispatch, loading, routing, starting, starts
from inference.errors import ModelStartingError
from inference.models import VersionStart
from inference.registry import Member
from inference.versions import resolve
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    """Set the picture that this process has of the workers."""
    return lambda *members: monkeypatch.setattr(
        routing, "fleet", lambda: routing._picture(settings.PREDICT_POOL, members)
    )


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ("Wait = 0", 0),
        ("", None),
        ("wait=-1", None),
        ("wait=1e9", None),
        ("wait", None),
        ("x-wait=3", None),
    ],
)
def test_patience_is_read_or_not_there(prefer: str, seconds: int | None) -> None:
    assert starting.patience(prefer) == seconds


def test_the_state_and_the_estimate_follow_what_workers_say(
    version: ModelVersion, show: Any
) -> None:
    starts.record(version.pk, 4000, 1)
    show(Member("a"))
    assert starting.state(version.pk) == {"state": "cold", "ready_in_seconds": 4.0}
    show(Member("a", starting={version.pk: 1500}), Member("b"))
    assert starting.state(version.pk) == {"state": "starting", "ready_in_seconds": 2.5}
    show(Member("a", starting={version.pk: 9000}))
    assert starting.state(version.pk)["ready_in_seconds"] == 0.001
    show(Member("a", loaded=frozenset({version.pk})))
    assert starting.state(version.pk) == {"state": "ready", "ready_in_seconds": 0.0}
    show()
    assert starting.state(version.pk)["state"] == "ready"


def test_who_will_not_wait_so_long_is_told_when_to_come_back(
    version: ModelVersion, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts.record(version.pk, 2400, 1)
    asked: list[int] = []
    monkeypatch.setattr(dispatch, "load", asked.append)
    show(Member("a"))
    tenant = factories.make_organization()
    served = resolve(version.model.path, Caller(tenant.pk, tenant.slug))

    with pytest.raises(ModelStartingError) as refused:
        starting.require_in_time(served, 2)
    starting.require_in_time(served, 3)

    assert (refused.value.status_code, refused.value.retry_after) == (503, 3)
    assert asked == [version.pk]


def test_the_estimate_leans_on_what_was_measured_last(version: ModelVersion) -> None:
    assert starts.estimate_ms(version.pk) > 0
    for took in (1000, 3000, 3000):
        starts.record(version.pk, took, 7)

    known = VersionStart.objects.get(pk=version.pk)
    assert (known.start_ms, known.starts, known.size_bytes) == (2500, 3, 7)


def test_only_the_part_of_a_wait_in_which_the_model_was_loaded_is_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    monkeypatch.setitem(loading._starts, 7, loading._Start(began, began + 3 * second))

    def start_us(since: int, until: int) -> int:
        return loading.start_us(7, began + since * second, began + until * second)

    assert start_us(-1, 5) == 3_000_000
    assert start_us(1, 2) == 1_000_000
    assert start_us(2, 9) == 1_000_000
    assert start_us(4, 9) == 0
    assert loading.start_us(8, began, began + second) == 0


def test_a_person_who_waits_can_ask_and_a_private_model_is_not_there(
    version: ModelVersion, client: Client, show: Any
) -> None:
    show(Member("a"))
    secret = factories.make_version(is_public=False)

    answer = client.get(f"/models/{version.model.path}/start")

    assert answer.json()["state"] == "cold"
    assert client.get(f"/models/{secret.model.path}/start").status_code == 404
