"""Where the time of a call went: kept by the gateway, shown to the tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Organization
from billing import bulk, ids
from inference.metrics import counting, traces
from inference.metrics.counting import CallTimes
from inference.metrics.flushing import Flusher
from inference.models import CallTrace
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
