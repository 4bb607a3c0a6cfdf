"""The process dies between two lines: what was charged is answered, what is not answered is free.

Gateway and worker run here as two threads with a real Valkey between them; a worker's death is an
exception at a named line, after which it neither writes nor says that it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from pytest_django import Settings

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import Organization
from billing import budgets, holds, settlement
from billing.ids import uuid7
from billing.invariants import violations
from billing.models import Hold, UsageEvent, UsageOrphan
from billing.money import NANOS
from inference import dispatch, versions, worker
from inference.connections import PREDICT_DB, redis_client
from inference.wire import (
    Batch,
    Item,
    Reply,
    batch_key,
    heartbeat_key,
    reply_key,
    staged_key,
    taken_key,
)
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


KEYS = (batch_key, taken_key, staged_key, reply_key)


class DiedError(BaseException):
    """The end of a worker process."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.05)
    # A pool without workers: those of other tests must not take this batch.
    settings.PREDICT_POOL = "nobody"
    keys = [name("b1") for name in KEYS]
    redis_client(PREDICT_DB).delete(*keys, heartbeat_key("w1"), heartbeat_key("w2"))
    yield
    settlement.settle()
    assert violations() == []


@pytest.fixture
def tenant() -> Organization:
    return factories.make_organization()


@pytest.fixture
def batch(tenant: Organization) -> Batch:
    """Two admitted requests, as a lane would send them."""
    version = factories.make_version()
    caller = Caller(tenant.pk, tenant.slug)
    served = versions.resolve(version.model.path, caller)
    now = datetime.now(UTC)
    made = [
        holds.prepare(
            caller,
            served.terms.plan,
            share_version_id=served.share_version_id,
            quantities={"call": 1, "row": 1},
            source="api",
            accepted_at=now,
            expires_at=now + timedelta(minutes=1),
            model_version_id=version.pk,
        )
        for _ in range(2)
    ]
    assert not any(isinstance(one, MercatoError) for one in holds.reserve_many(made))
    items = [
        Item(
            hold_id=one.hold_id,
            organization_id=tenant.pk,
            price_version_id=one.price_version_id,
            share_version_id=one.share_version_id,
            reserved_nanos=one.reserved_nanos,
            accepted_at=now,
            rows=1,
        )
        for one in made
    ]
    images = np.array([factories.image(4), factories.image(6)], np.float32)
    return Batch(version.pk, items, {"image": images})


@pytest.fixture
def ask(batch: Batch) -> Iterator[Callable[[], Future[Reply | MercatoError]]]:
    """Start the gateway's side in a thread of its own."""
    pool = ThreadPoolExecutor(1)

    def run() -> Reply | MercatoError:
        try:
            return dispatch.run("b1", batch)
        finally:
            connection.close()

    yield lambda: pool.submit(run)
    pool.shutdown()


def wait_for_batch() -> None:
    client = redis_client(PREDICT_DB)
    while not client.exists("batch:b1"):
        client.blpop(["nothing"], timeout=0.01)


def die(*_: Any, **__: Any) -> None:
    raise DiedError


def run_to_death(name: str) -> None:
    """Run the batch as a worker whose heart beats until it dies."""
    redis_client(PREDICT_DB).set(heartbeat_key(name), 1)
    with pytest.raises(DiedError):
        worker.run_batch("b1", name)
    redis_client(PREDICT_DB).delete(heartbeat_key(name))


def is_charged(tenant: Organization) -> bool:
    settlement.settle()
    return budgets.wallet(tenant).available == 5 * NANOS - 2 * factories.ROW_NANOS


def test_a_living_worker_answers_and_charges(tenant: Organization, ask: Any) -> None:
    answer = ask()
    wait_for_batch()
    redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)

    worker.run_batch("b1", "w1")

    assert [one.is_ours for one in answer.result().results] == [True, True]
    assert is_charged(tenant)


def test_a_message_that_is_delivered_twice_runs_once(
    tenant: Organization, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 9; regression 41: a message that comes again finds its batch taken."""
    answer = ask()
    wait_for_batch()
    redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)
    replies: list[tuple[str, Reply]] = []
    with monkeypatch.context() as patched:
        # Not sent before all have run: the gateway would take the batch away.
        patched.setattr(worker, "_send", lambda *one: replies.append(one))
        for name in ("w1", "w2", "w1"):
            worker.run_batch("b1", name)

    worker._send(*replies[0])

    assert len(replies) == 1
    assert isinstance(answer.result(), Reply)
    assert UsageEvent.objects.count() == 2
    assert not UsageOrphan.objects.exists()


def test_a_worker_that_dies_after_the_charge_leaves_the_answer(
    tenant: Organization, batch: Batch, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask()
    wait_for_batch()
    monkeypatch.setattr(worker, "_send", die)

    run_to_death("w1")

    reply = answer.result()
    assert isinstance(reply, Reply)
    failures = [
        dispatch.failure_of(one, item.hold_id)
        for one, item in zip(reply.results, batch.items, strict=True)
    ]
    assert failures == [None, None]
    assert reply.arrays["probabilities"].argmax(1).tolist() == [4, 6]
    assert is_charged(tenant)


def test_a_worker_that_dies_before_the_charge_costs_nothing(
    tenant: Organization, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ask()
    wait_for_batch()
    monkeypatch.setattr(worker, "_charge", die)

    run_to_death("w1")

    assert answer.result().code == "worker_lost"
    settlement.settle()
    assert budgets.wallet(tenant).available == 5 * NANOS


def test_without_its_holds_a_batch_is_neither_charged_nor_answered(batch: Batch, ask: Any) -> None:
    """The database's machine lost its power after the admission, whose commit did not wait."""
    batch.items[:] = [replace(item, hold_id=uuid7()) for item in batch.items]
    answer = ask()
    wait_for_batch()
    redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)

    worker.run_batch("b1", "w1")

    reply = answer.result()
    assert isinstance(reply, Reply)
    for one, item in zip(reply.results, batch.items, strict=True):
        failure = dispatch.failure_of(one, item.hold_id)
        assert failure is not None
        assert failure.code == "worker_lost"
    assert not UsageEvent.objects.exists()
    assert UsageOrphan.objects.count() == 2


def test_what_a_dead_worker_had_taken_is_given_to_another(
    tenant: Organization, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 11; regression 42: the work is given on, whatever was acknowledged."""
    answer = ask()
    wait_for_batch()
    with monkeypatch.context() as patched:
        patched.setattr(worker, "_stage", die)
        with pytest.raises(DiedError):
            worker.run_batch("b1", "w1")
    client = redis_client(PREDICT_DB)
    client.set(heartbeat_key("w2"), 1)
    while client.exists(taken_key("b1")):
        client.blpop(["nothing"], timeout=0.01)

    worker.run_batch("b1", "w2")

    assert isinstance(answer.result(), Reply)
    assert is_charged(tenant)


def test_a_worker_that_wakes_too_late_charges_nothing(
    tenant: Organization, batch: Batch, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: a worker that was given up."""
    answer = ask()
    wait_for_batch()
    charge = worker._charge

    def charge_late(*arguments: Any) -> list[bool]:
        redis_client(PREDICT_DB).delete(heartbeat_key("w1"))
        assert answer.result().code == "worker_lost"
        return charge(*arguments)

    monkeypatch.setattr(worker, "_charge", charge_late)
    # Its heart beats until it has put the reply aside; then it is silent for too long.
    redis_client(PREDICT_DB).set(heartbeat_key("w1"), 1)

    worker.run_batch("b1", "w1")

    settlement.settle()
    assert budgets.wallet(tenant).available == 5 * NANOS
    assert UsageOrphan.objects.count() == 2
    assert set(Hold.objects.values_list("state", flat=True)) == {"voided"}
