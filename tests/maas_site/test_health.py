from __future__ import annotations

import os
from datetime import timedelta

import pytest
import redis
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import heartbeat_key
from maas_site import health


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
