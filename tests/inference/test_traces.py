"""Where the time of a call went: kept by the gateway, shown to the tenant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.keys import Caller
from accounts.models import ApiKey, Organization
from billing import bulk, ids
from inference import dispatch, lanes, versions
from inference.errors import ModelFailedError, PredictionTimeoutError
from inference.metrics import counting, traces
from inference.metrics.counting import CallTimes
from inference.metrics.flushing import Flusher
from inference.models import CallTrace
from inference.runtime.tensors import Input
from inference.wire import Reply, Result
from tests import factories
from tests.billing import calls
from tests.inference.watched import counts

__all__ = ["counts"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counts")]


def answered(hold_id: UUID) -> None:
    """A call of 10 ms, 4 of them in the model, that a gateway answered."""
    times = CallTimes(500, 1000, 1500, 1200, 4000, 1300, 3, b"")
    counting.answer("lab/digits", hold_id, 10_000, times)
    Flusher("unit", keep=traces.keep).flush()


@pytest.fixture
def called(client: Client) -> tuple[UUID, ApiKey, str]:
    """A call, with its key and its secret; its owner is signed in."""
    owner = factories.make_user()
    organization = factories.make_organization(owner=owner)
    key, secret = factories.make_key(organization)
    client.force_login(owner)
    return calls.succeed(organization, factories.make_version(), key=key), key, secret


def get(client: Client, secret: str, reference: object) -> Any:
    return client.get(f"/v1/traces/{reference}", HTTP_AUTHORIZATION=f"Bearer {secret}")


def test_the_stages_of_an_answered_call_are_kept_and_add_up(
    client: Client, called: tuple[UUID, ApiKey, str]
) -> None:
    hold_id, _, secret = called
    answered(hold_id)

    for reference in (hold_id, "req_test"):
        body = get(client, secret, reference).json()
        assert body["id"] == str(hold_id)
        assert (body["total_ms"], body["batch_requests"]) == (10.0, 3)
        stages = {stage["name"]: stage["ms"] for stage in body["stages"]}
        assert stages == {
            "gateway": 0.5,
            "lane": 1.0,
            "admit": 1.5,
            "queue": 1.2,
            "run": 4.0,
            "capture": 1.3,
            "reply": 0.5,
        }


def test_the_receipt_and_the_list_of_calls_show_them(
    client: Client, called: tuple[UUID, ApiKey, str]
) -> None:
    hold_id, _, _ = called
    for address in (f"/console/receipts/{hold_id}", "/console/usage"):
        page = client.get(address, follow=True).content.decode()
        assert '<svg class="trace' not in page
    answered(hold_id)

    receipt = client.get(f"/console/receipts/{hold_id}", follow=True).content.decode()
    assert receipt.count('<svg class="trace"') == 7
    # The model began after 4.2 of 10 ms and ran for 4.
    assert '<rect class="trace-run" x="420" width="400"' in receipt
    usage = client.get("/console/usage").content.decode()
    assert "Run 4.0 ms" in usage
    assert usage.count('<svg class="trace trace-small"') == 1


Finish = Callable[[int], list[lanes.Outcome]]


@pytest.fixture
def finish(organization: Organization) -> Iterator[Finish]:
    """Admit calls as one batch, and wait for what becomes of it."""
    loop = asyncio.new_event_loop()
    version = factories.make_version()
    caller = Caller(organization.pk, organization.slug)
    served = versions.resolve(version.model.path, caller)
    began_ns = time.perf_counter_ns()

    def run(number: int) -> list[lanes.Outcome]:
        requests = [
            lanes.Request(
                caller=caller,
                served=served,
                input=Input({"image": np.zeros((1, 28, 28), np.float32)}, 1, is_batch=False),
                source="api",
                request_id=f"request-{place}",
                accepted_at=datetime.now(UTC),
                hold_id=ids.uuid7(),
                input_bytes=0,
                loop=loop,
                future=loop.create_future(),
                began_ns=began_ns,
            )
            for place in range(number)
        ]
        return lanes.finish(requests, lanes.admit(requests))

    yield run
    loop.close()


def test_a_call_that_no_worker_answers_has_the_stages_that_it_came_to(
    client: Client,
    organization: Organization,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = PredictionTimeoutError("No answer.")
    monkeypatch.setattr(dispatch, "_send_and_wait", lambda *_: late)
    _, secret = factories.make_key(organization)

    assert finish(2) == [late, late]
    Flusher("unit", keep=traces.keep).flush()

    body = get(client, secret, "request-1").json()
    assert body["failure"] == "prediction_timeout"
    assert body["batch_requests"] == 2
    names = [stage["name"] for stage in body["stages"]]
    assert names[0] == "gateway"
    assert set(names) <= {"gateway", "lane", "admit", "queue"}
    assert {"admit", "queue"} <= set(names)
    assert body["total_ms"] == pytest.approx(sum(stage["ms"] for stage in body["stages"]))


def test_a_call_that_fails_in_the_model_has_all_stages_of_its_batch(
    client: Client,
    organization: Organization,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = Result("model_error", 0, is_ours=True, error="model_error")
    reply = Reply([failed], {}, [5], run_us=4000, batch_rows=1, start_us=[0], capture_us=1300)
    monkeypatch.setattr(dispatch, "run", lambda *_: reply)
    _, secret = factories.make_key(organization)

    [outcome] = finish(1)
    Flusher("unit", keep=traces.keep).flush()

    assert isinstance(outcome, ModelFailedError)
    stages = {
        each["name"]: each["ms"] for each in get(client, secret, "request-0").json()["stages"]
    }
    assert (stages["run"], stages["capture"]) == (4.0, 1.3)


def test_to_keep_the_traces_of_failed_calls_costs_no_query_of_their_own(
    finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait in memory for the one statement per second that stores those of all calls."""
    late = PredictionTimeoutError("No answer.")
    monkeypatch.setattr(dispatch, "_send_and_wait", lambda *_: late)

    with CaptureQueriesContext(connection) as captured:
        finish(5)
    assert not [each for each in captured if "calltrace" in each["sql"]]
    with CaptureQueriesContext(connection) as captured:
        answered(ids.uuid7())
    stored = [each for each in captured if "calltrace" in each["sql"]]
    assert CallTrace.objects.count() == 6
    # SQLite's driver shows one statement for each row of its `executemany`.
    assert len(stored) == 1


def test_another_tenants_trace_is_not_there(
    client: Client, called: tuple[UUID, ApiKey, str], organization: Organization
) -> None:
    _, other = factories.make_key(organization)
    answered(called[0])

    assert get(client, other, called[0]).status_code == 404


def test_a_call_without_a_trace_says_so(client: Client, called: tuple[UUID, ApiKey, str]) -> None:
    response = get(client, called[2], called[0])

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_traces_are_forgotten_when_their_time_is_over(settings: Any) -> None:
    settings.TRACE_HOURS = 24
    now = timezone.now()
    old, young = (ids.floor(now - timedelta(hours=hours)) for hours in (25, 23))
    answered(old)
    answered(young)

    assert traces.forget() == 1
    assert list(CallTrace.objects.values_list("pk", flat=True)) == [young]


def test_nothing_is_kept_if_the_site_keeps_no_traces(settings: Any) -> None:
    settings.TRACE_HOURS = 0
    answered(ids.uuid7())

    assert not CallTrace.objects.exists()


def test_without_a_database_traces_are_lost_and_the_counts_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(bulk, "insert", refuse)
    # The test's transaction must live on.
    monkeypatch.setattr(connection, "close", lambda: None)
    counting.answer("lab/digits", ids.uuid7(), 9, CallTimes(1, 1, 1, 1, 1, 1, 1, b""))
    counting.call("lab/digits", 7, "succeeded", 9, rows=1)

    assert Flusher("unit", keep=traces.keep).flush()
    assert not CallTrace.objects.exists()
