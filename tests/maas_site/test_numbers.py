from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing import budgets, reconciliation, shares
from billing.ids import uuid7
from billing.models import Finding, ReconciliationRun
from catalog.models import PriceVersion
from inference.metrics import exposition
from inference.metrics.flushing import Flusher
from inference.models import (
    BatchChunk,
    BatchFile,
    LimiterOutage,
    Prediction,
    WebhookDelivery,
    WebhookEndpoint,
)
from inference.webhooks import endpoints
from maas_site import gauges, queues
from tests.billing import calls
from tests.factories import make_user, make_version
from tests.inference.watched import Exposed, counts
from tests.maas_site.test_health import make_worker

__all__ = ["counts"]
FAR = "203.0.113.9"
TOKEN = "a-token-for-prometheus"


def read(client: Client, **extra: Any) -> Exposed:
    response = client.get("/metrics", **extra)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Exposed(response.content.decode())


def test_the_numbers_are_in_the_format_of_prometheus(
    client: Client, organization: Organization
) -> None:
    make_worker()
    wallet = budgets.wallet(organization)

    found = read(client)

    assert found.kinds["mercato_holds_open"] == "gauge"
    assert found.value("mercato_workers_alive", kind="predict") == 1
    for name in ("mercato_holds_open", "mercato_holds_oldest_seconds"):
        assert found.labels(name) == [{}]
        assert found.value(name) == 0
    assert {"kind": "job"} in found.labels("mercato_workers_alive")
    assert {"state": "queued"} in found.labels("mercato_jobs")
    assert {"queue": "predict.cpu"} in found.labels("mercato_queue_messages")
    assert found.value("mercato_wallets_nanos", part="available") == wallet.available
    assert found.value("mercato_redis_up") == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("counts")
def test_requests_are_counted_by_route_and_not_by_address(client: Client) -> None:
    client.get("/models/nobody/nothing")
    client.get("/models/somebody/else")
    client.get("/no/such/page")
    client.get("/v1/receipts/0199")
    client.generic("BREW", "/models")
    Flusher("gateway").flush()

    found = read(client)

    name = "mercato_request_duration_seconds_count"
    model = {"method": "GET", "route": "/models/{}/{}", "status": "404"}
    assert found.value(name, **model) == 2
    assert found.value(name, method="GET", route="none", status="404") == 1
    assert found.value(name, method="GET", route="/v1/receipts/{}", status="401") == 1
    assert found.value(name, method="other", route="/models", status="405") == 1


def test_the_oldest_waiting_work_has_an_age(client: Client, organization: Organization) -> None:
    version, now = make_version(), timezone.now()
    calls.reserve(organization, version, at=now - timedelta(seconds=90))
    calls.reserve(organization, version, at=now - timedelta(seconds=30))
    calls.succeed(organization, version, at=now - timedelta(seconds=500))

    found = read(client)

    assert found.value("mercato_holds_open") == 2
    assert 90 <= found.value("mercato_holds_oldest_seconds") < 400
    assert found.value("mercato_holds_unsettled") == 1
    assert 0 < found.value("mercato_holds_unsettled_oldest_seconds") < 300


def test_what_waits_behind_the_calls_has_a_depth_and_an_age(
    client: Client, organization: Organization
) -> None:
    version, now = make_version(), timezone.now()
    for turn, status in ((1, "queued"), (2, "queued"), (None, "processing")):
        made = Prediction.objects.create(
            organization=organization,
            model_version=version,
            hold_id=uuid7(),
            input={},
            is_async=True,
            turn=turn,
            status=status,
            lease_until=None if turn else now,
            expires_at=now,
        )
        Prediction.objects.filter(pk=made.pk).update(created_at=now - timedelta(seconds=70))
    make_batch(organization, version, BatchFile.Status.PAUSED, rows=9)
    make_batch(organization, version, BatchFile.Status.PROCESSING, rows=5)
    endpoint, _ = endpoints.create(organization, "https://example.com/hook")
    gone, _ = endpoints.create(organization, "https://example.com/gone")
    WebhookEndpoint.objects.filter(pk=gone.pk).update(is_active=False)
    for number, (to, due) in enumerate([(endpoint, -50), (endpoint, 900), (gone, -800)]):
        WebhookDelivery.objects.create(
            endpoint=to,
            event_id=f"evt_{number}",
            type="webhook.ping",
            payload="{}",
            next_attempt_at=now + timedelta(seconds=due),
        )

    found = read(client)

    assert found.value("mercato_async_waiting") == 2
    assert found.value("mercato_async_running") == 1
    assert 70 <= found.value("mercato_async_oldest_seconds") < 300
    states = [found.value("mercato_batch_files", status=each) for each in ("paused", "processing")]
    assert states == [1, 1]
    assert found.value("mercato_batch_file_rows_waiting") == 5
    assert 60 <= found.value("mercato_batch_files_idle_seconds") < 300
    # Those of an endpoint that was given up wait for nobody.
    assert found.value("mercato_webhooks_waiting") == 2
    assert found.value("mercato_webhooks_due") == 1
    assert 50 <= found.value("mercato_webhooks_due_oldest_seconds") < 300


def make_batch(organization: Organization, version: Any, status: str, rows: int) -> None:
    now = timezone.now()
    batch = BatchFile.objects.create(
        organization=organization,
        model_version=version,
        name="rows.jsonl",
        format=BatchFile.Format.JSONL,
        size_bytes=1,
        sha256="",
        status=status,
        price_version=PriceVersion.objects.get(),
        share_version=shares.current(),
        started_at=now - timedelta(seconds=60),
        expires_at=now,
    )
    for number, state in enumerate([BatchChunk.State.DONE, BatchChunk.State.WAITING]):
        BatchChunk.objects.create(
            batch=batch,
            number=number,
            offset=0,
            size_bytes=1,
            first_row=0,
            first_line=1,
            rows=rows,
            state=state,
        )


@pytest.mark.django_db
def test_an_outage_of_limits_is_seen_while_its_process_lives(client: Client) -> None:
    now = timezone.now()
    for seen, ended in ((3, None), (2, None), (2, now), (90, None)):
        LimiterOutage.objects.create(
            process="host:1",
            error="gone",
            started_at=now - timedelta(seconds=100),
            seen_at=now - timedelta(seconds=seen),
            ended_at=ended,
        )

    assert read(client).value("mercato_limiter_away") == 2


@pytest.mark.django_db
def test_findings_in_the_books_are_counted_and_so_are_nights_without_a_look(
    client: Client,
) -> None:
    assert read(client).labels("mercato_books_checked_seconds") == []
    run, now = reconciliation.run(), timezone.now()
    ReconciliationRun.objects.filter(pk=run.pk).update(finished_at=now - timedelta(days=2))
    # One that has not finished says nothing.
    ReconciliationRun.objects.create()
    for state in (Finding.State.OPEN, Finding.State.DISMISSED):
        Finding.objects.create(
            run=run, last_run=run, check_name="books", subject=state, text="odd", state=state
        )

    found = read(client)

    assert found.value("mercato_books_findings") == 1
    assert found.value("mercato_books_checked_seconds") == pytest.approx(172_800, abs=300)


@pytest.mark.django_db
def test_the_numbers_come_without_redis_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = redis.Redis(host="127.0.0.1", port=1)
    for module in (gauges, exposition, queues):
        monkeypatch.setattr(module, "redis_client", lambda _: away)

    found = read(client)

    assert found.value("mercato_redis_up") == 0
    assert found.labels("mercato_redis_up") == [{}]
    assert found.labels("mercato_queue_messages") == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "request_from",
    [
        {"REMOTE_ADDR": FAR},
        {"REMOTE_ADDR": ""},
        # A proxy on this machine speaks for somebody else.
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": FAR},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": f"for={FAR}"},
        # Without a token of the site's, no token fits.
        {"REMOTE_ADDR": FAR, "HTTP_AUTHORIZATION": "Bearer "},
        {"REMOTE_ADDR": FAR, "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"},
    ],
)
def test_strangers_do_not_see_the_numbers(client: Client, request_from: dict[str, str]) -> None:
    assert client.get("/metrics", **request_from).status_code == 404  # type: ignore[arg-type]


@pytest.mark.django_db
def test_staff_see_the_numbers_from_anywhere(client: Client) -> None:
    client.force_login(make_user(is_staff=True))

    assert client.get("/metrics", REMOTE_ADDR=FAR).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 404),
        (f"Basic {TOKEN}", 404),
        ("Bearer é", 404),
        ("", 404),
    ],
)
def test_the_token_lets_prometheus_in_and_no_other_does(
    client: Client, settings: Any, authorization: str, status: int
) -> None:
    settings.METRICS_TOKEN = TOKEN

    response = client.get("/metrics", REMOTE_ADDR=FAR, HTTP_AUTHORIZATION=authorization)

    assert response.status_code == status
