from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing import budgets
from inference.metrics import exposition
from inference.metrics.flushing import Flusher
from maas_site import numbers
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


@pytest.mark.django_db
def test_the_numbers_come_without_redis_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = redis.Redis(host="127.0.0.1", port=1)
    monkeypatch.setattr(numbers, "redis_client", lambda _: away)
    monkeypatch.setattr(exposition, "redis_client", lambda _: away)

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
