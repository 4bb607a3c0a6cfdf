from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from inference.admin import age
from inference.models import Prediction, Worker
from tests.maas_site.rows import make_everything

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.mark.parametrize(
    ("seconds_ago", "is_stopped", "state"),
    [(0, False, "active"), (60, False, "lost"), (60, True, "stopped")],
)
def test_a_worker_is_alive_lost_or_stopped(
    client: Client, operator: User, seconds_ago: int, is_stopped: bool, state: str
) -> None:
    now = timezone.now()
    Worker.objects.create(
        name="predict-1",
        kind="predict",
        pool="cpu",
        pid=1,
        started_at=now,
        seen_at=now - timedelta(seconds=seconds_ago),
        stopped_at=now if is_stopped else None,
        loaded=[{"version": "mercato/mnist-cnn:1", "runtime": "onnx", "bytes": 1}],
    )

    page = client.get("/admin/inference/worker/").content.decode()

    assert state in page
    assert ("mercato/mnist-cnn:1" in page) == (state == "active")


def test_what_a_tenant_sent_is_not_shown(client: Client, operator: User) -> None:
    make_everything()
    prediction = Prediction.objects.get()

    page = client.get(f"/admin/inference/prediction/{prediction.pk}/change/").content.decode()

    assert "a secret of the tenant" not in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (90_000, "1 d")],
)
def test_an_age_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
