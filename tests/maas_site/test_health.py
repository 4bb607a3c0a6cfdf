from __future__ import annotations

import os
from datetime import timedelta

import pytest
import redis
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing import budgets
from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import heartbeat_key
from maas_site import health
from tests.factories import make_user


def make_worker(*, seconds_ago: int = 0, beats: bool = True, kind: str = "predict") -> Worker:
    seen_at = timezone.now() - timedelta(seconds=seconds_ago)
    worker = Worker.objects.create(
        name=f"{kind}-1@here:1",
        kind=kind,
        pool="cpu",
        pid=os.getpid(),
        started_at=seen_at,
        seen_at=seen_at,
    )
    if beats:
        redis_client(PREDICT_DB).set(heartbeat_key(worker.name), 1, px=3000)
    else:
        redis_client(PREDICT_DB).delete(heartbeat_key(worker.name))
    return worker


class Broken:
    """A Redis that cannot be reached."""

    def ping(self) -> None:
        raise redis.ConnectionError("refused")

    def exists(self, *names: str) -> int:
        raise redis.ConnectionError("refused")

    def llen(self, name: str) -> int:
        raise redis.ConnectionError("refused")


def test_the_process_is_healthy_without_a_database(client: Client) -> None:
    # Without the `db` fixture any query fails the test.
    response = client.get("/healthz")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_the_site_is_ready_with_a_live_predict_worker(client: Client) -> None:
    make_worker()

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "parts": {"database": "ok", "redis": "ok", "predict_worker": "ok"},
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    "worker",
    [
        {"seconds_ago": 60},
        # Its row is fresh, but it was killed a moment ago.
        {"beats": False},
        {"kind": "light"},
    ],
)
def test_the_site_is_not_ready_without_a_live_predict_worker(
    client: Client, worker: dict[str, int]
) -> None:
    make_worker(**worker)  # type: ignore[arg-type]  # a table of keyword arguments

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["parts"]["predict_worker"] == "none is alive"


@pytest.mark.django_db
def test_the_site_is_not_ready_without_redis(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_worker()
    monkeypatch.setattr(health, "redis_client", lambda _: Broken())

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["parts"] == {
        "database": "ok",
        "redis": "unreachable",
        "predict_worker": "unknown",
    }


@pytest.mark.django_db
def test_the_site_is_not_ready_without_a_database(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(connection, "cursor", refuse)

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["parts"]["database"] == "unreachable"


@pytest.mark.django_db
def test_only_reading_is_possible(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.post(path).status_code == 405


# Numbers ------------------------------------------------------------------------------------


def test_the_numbers_are_in_the_format_of_prometheus(
    client: Client, organization: Organization
) -> None:
    make_worker()
    wallet = budgets.wallet(organization)

    response = client.get("/metrics")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = response.content.decode().splitlines()
    assert "# TYPE mercato_holds_open gauge" in lines
    assert "mercato_holds_open 0" in lines
    assert 'mercato_workers_alive{kind="predict"} 1' in lines
    assert 'mercato_workers_alive{kind="job"} 0' in lines
    assert 'mercato_jobs{state="queued"} 0' in lines
    assert 'mercato_queue_messages{queue="predict.cpu"} 0' in lines
    assert f'mercato_wallets_nanos{{part="available"}} {wallet.available}' in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


@pytest.mark.django_db
def test_the_numbers_come_without_redis_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "redis_client", lambda _: Broken())

    response = client.get("/metrics")

    assert response.status_code == 200
    assert "mercato_queue_messages{" not in response.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "request_from",
    [
        {"REMOTE_ADDR": "203.0.113.9"},
        {"REMOTE_ADDR": ""},
        # A proxy on this machine speaks for somebody else.
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=203.0.113.9"},
    ],
)
def test_strangers_do_not_see_the_numbers(client: Client, request_from: dict[str, str]) -> None:
    assert client.get("/metrics", **request_from).status_code == 404  # type: ignore[arg-type]


@pytest.mark.django_db
def test_staff_see_the_numbers_from_anywhere(client: Client) -> None:
    client.force_login(make_user(is_staff=True))

    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 200
