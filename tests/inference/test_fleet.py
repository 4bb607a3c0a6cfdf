"""What operators do with workers: a row, an entry in the audit log, a ring."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from catalog.models import ModelVersion
from inference import placing, reaping, registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Placement, Unload, VersionStart, Worker
from inference.registry import Member
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def version() -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def worker(version: ModelVersion) -> Worker:
    now = timezone.now()
    loaded = [{"version": version.path, "id": version.pk, "runtime": "onnx", "bytes": 31_457_280}]
    return Worker.objects.create(
        name="predict-1@a:7",
        node="predict-1@a",
        kind="predict",
        pool="cpu",
        pid=7,
        started_at=now,
        seen_at=now,
        loaded=loaded,
        labels={"cpu": "2", "zone": "a"},
        capacity_bytes=104_857_600,
        gpus=[{"index": 0, "name": "GPU", "used_bytes": 1 << 30, "total_bytes": 1 << 34}],
    )


def press(client: Client, deed: str, worker: Worker, **fields: Any) -> Any:
    address = reverse(f"admin:inference_worker_{deed}", args=[worker.pk])
    client.get(address)
    form = {"reason": "maintenance", "submission": str(uuid.uuid4()), **fields}
    return client.post(address, form, follow=True)


@pytest.mark.usefixtures("operator")
def test_the_page_shows_what_each_worker_is_and_has(client: Client, worker: Worker) -> None:
    VersionStart.objects.create(
        version_id=worker.loaded[0]["id"], start_ms=412, size_bytes=1, started_at=timezone.now()
    )

    page = client.get("/admin/inference/worker/").content.decode()

    for text in ("zone=a", "30.0\xa0MB / 100.0\xa0MB", "412 ms", "1.0\xa0GB / 16.0\xa0GB", "Drain"):
        assert text in page


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("deed", "duty", "action"),
    [("drain", "drained", "worker.drained"), ("cordon", "cordoned", "worker.cordoned")],
)
def test_a_duty_is_a_row_an_entry_and_a_ring(
    client: Client, worker: Worker, deed: str, duty: str, action: str
) -> None:
    press(client, deed, worker)
    press(client, deed, worker)

    worker.refresh_from_db()
    assert worker.duty == duty
    entry = AuditEntry.objects.get(action=action)
    assert (entry.reason, entry.actor_label) == ("maintenance", "operator@example.com")
    assert redis_client(PREDICT_DB).getdel(registry.duty_key(worker.name)) == b"1"
    press(client, "uncordon", worker)
    worker.refresh_from_db()
    assert worker.duty == "active"


@pytest.mark.usefixtures("operator")
def test_what_is_pinned_is_not_unloaded_by_hand(
    client: Client, worker: Worker, version: ModelVersion
) -> None:
    wrong = press(client, "pin", worker, version=version.pk, labels="zone:a")
    assert "zone=a,gpu=1" in wrong.content.decode()
    press(client, "pin", worker, version=version.pk, labels="zone=a")
    refused = press(client, "unload", worker, version=version.pk)
    assert "Unpin it first" in refused.content.decode()
    assert not Unload.objects.exists()
    assert (placing.pinned({}), placing.pinned({"zone": "a"})) == (set(), {version.pk})

    press(client, "unpin", worker, version=version.pk)
    press(client, "unload", worker, version=version.pk)

    assert Unload.objects.get().version == version
    # It may be unloaded; where it may run has not changed.
    assert Placement.objects.get().labels == {"zone": "a"}
    assert placing.elsewhere({"zone": "b"}) == {version.pk}
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {
        "version.pinned",
        "version.unpinned",
        "worker.unloaded",
    }


@pytest.mark.usefixtures("operator")
def test_a_worker_that_is_gone_is_given_no_duty(client: Client, worker: Worker) -> None:
    Worker.objects.update(seen_at=timezone.now() - timedelta(minutes=1))

    answer = press(client, "drain", worker)

    worker.refresh_from_db()
    assert worker.duty == "active"
    assert "not a predict worker that is alive" in answer.content.decode()
    assert not AuditEntry.objects.filter(action__startswith="worker.").exists()


def test_who_may_only_look_has_no_buttons(client: Client, worker: Worker) -> None:
    person = factories.make_user(is_staff=True)
    client.force_login(person)

    assert client.get(reverse("admin:inference_worker_drain", args=[worker.pk])).status_code == 403
    assert client.get("/admin/inference/worker/").status_code == 403


def test_pinned_comes_first_then_what_is_used_as_far_as_there_is_room(settings: Any) -> None:
    versions = [factories.make_version(size_bytes=40 * 2**20) for _ in range(3)]
    Placement.objects.create(version=versions[0], is_pinned=True)
    Placement.objects.create(version=versions[1], labels={"gpu": "1"})
    settings.MODEL_CACHE_BYTES = 110 * 2**20

    assert placing.first_loads({"gpu": "0"}) == [versions[0].pk, versions[2].pk]
    assert placing.first_loads({"gpu": "1"}) == [versions[0].pk, versions[2].pk]
    settings.PRELOAD_MODELS = 0
    assert placing.first_loads({"gpu": "0"}) == [versions[0].pk]


def test_messages_of_a_dead_worker_are_taken_first_and_in_their_order(settings: Any) -> None:
    settings.PREDICT_POOL = "reaped"
    client = redis_client(PREDICT_DB)
    client.zadd(registry.members_key("reaped"), {"dead": 1, "alive": 1})
    client.set("worker:alive", registry.pack(Member("alive")), px=60_000)
    for name, messages in (("dead", b"ab"), ("alive", b"c")):
        for place in range(len(messages)):
            client.lpush(registry.queue_of(name), messages[place : place + 1])
    client.lpush("predict.reaped", b"z")

    assert reaping.reap() == 2
    assert reaping.reap() == 0

    taken = [client.rpop("predict.reaped") for _ in range(3)]
    assert taken == [b"a", b"b", b"z"]
    assert client.lrange(registry.queue_of("alive"), 0, -1) == [b"c"]
    assert [each.name for each in registry.read(client, "reaped")] == ["alive"]
    client.delete("predict.reaped", registry.queue_of("alive"), "worker:alive")
    client.delete(registry.members_key("reaped"))
