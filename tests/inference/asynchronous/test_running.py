"""Rows that wait are run in batches, once, and their money ends with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from accounts.models import Organization
from billing import budgets, holds, settlement
from billing.errors import InsufficientCreditError
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from inference import loading, starts
from inference.asynchronous import answering, claims, endings, running, snapshots, sweeping
from inference.asynchronous.events import SOURCE
from inference.connections import EVENTS_DB, redis_client
from inference.metrics import live, traces
from inference.metrics.flushing import Flusher
from inference.models import Prediction, PredictionBlob
from tests import factories
from tests.inference.asynchronous.conftest import LATER, Accept, call_of
from tests.inference.watched import counted, counts

__all__ = ["counts"]
Status = Prediction.Status


def run_all(owner: str = "w1") -> int:
    """Run batches until nobody waits; returns how many."""
    batches = 0
    while running.run_next(owner):
        batches += 1
    return batches


def again(prediction: Prediction) -> Prediction:
    return Prediction.objects.with_version().get(pk=prediction.pk)


def is_charged(organization: Organization, rows: int) -> bool:
    settlement.settle()
    wallet = budgets.wallet(organization)
    return (wallet.available, wallet.held) == (5 * NANOS - rows * factories.ROW_NANOS, 0)


def test_what_is_accepted_holds_its_money_until_it_is_run(
    accept: Accept, organization: Organization
) -> None:
    prediction = accept(digit=7)
    assert prediction.status == Status.QUEUED
    assert budgets.wallet(organization).held == factories.ROW_NANOS

    assert run_all() == 1

    found = snapshots.as_json(again(prediction))
    assert (found["status"], found["output"]["label"]) == ("succeeded", "7")
    assert found["cost"]["amount"] == "0.00002"
    assert found["input"] == {"image": factories.image(7)}
    assert found["started_at"] <= found["completed_at"]
    assert is_charged(organization, 1)


def test_rows_of_one_version_run_as_one_batch(
    accept: Accept, organization: Organization, settings: Any
) -> None:
    settings.ASYNC_MAX_ROWS = 4
    rows = [accept(digit=digit) for digit in range(6)]

    assert run_all() == 2

    answers = [snapshots.as_json(again(row)) for row in rows]
    assert [one["output"]["label"] for one in answers] == list("012345")
    assert [one["metrics"]["batch_rows"] for one in answers] == [4, 4, 4, 4, 2, 2]
    assert is_charged(organization, 6)


def test_without_credit_nothing_is_stored(accept: Accept) -> None:
    poor = factories.make_organization(credit_nanos=0)

    with pytest.raises(InsufficientCreditError):
        accept(organization=poor)

    assert not Prediction.objects.exists()
    assert not Hold.objects.exists()


def test_an_input_that_breaks_the_model_fails_alone(
    accept: Accept, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = accept(digit=1), accept(digit=2)
    using = loading.using

    class Fragile:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def run(self, arrays: Any) -> Any:
            if np.any(arrays["image"].reshape(-1, 784)[:, 2 * 78] == 1):
                raise ValueError
            return self.inner.run(arrays)

    @contextmanager
    def using_fragile(version_id: int) -> Iterator[Any]:
        with using(version_id) as session:
            yield Fragile(session)

    monkeypatch.setattr(loading, "using", using_fragile)

    run_all()

    assert again(good).status == Status.SUCCEEDED
    failed = snapshots.as_json(again(bad))
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert failed["error"]["code"] == "model_error"
    assert failed["cost"]["amount"] == "0"
    assert is_charged(organization, 1)


def test_a_model_that_cannot_be_loaded_fails_its_rows_for_free(
    accept: Accept, organization: Organization, version: ModelVersion
) -> None:
    version.artifacts.all().delete()
    prediction = accept()

    run_all()

    found = snapshots.as_json(again(prediction))
    assert (found["status"], found["error"]["code"]) == ("failed", "platform_error")
    assert is_charged(organization, 0)


def test_large_inputs_and_outputs_lie_beside_the_row(
    accept: Accept, organization: Organization
) -> None:
    images = [factories.image(digit % 10) for digit in range(200)]
    prediction = accept(value={"image": images})
    kept = Prediction.objects.values_list("input", flat=True).get()
    assert len(str(kept)) < 100

    run_all()

    found = snapshots.as_json(again(prediction))
    assert found["input"] == {"image": images}
    assert [row["label"] for row in found["output"]] == [str(row % 10) for row in range(200)]
    assert PredictionBlob.objects.count() == 2
    assert is_charged(organization, 200)


def test_who_is_late_fails_and_costs_nothing(accept: Accept, organization: Organization) -> None:
    prediction = accept()
    Prediction.objects.update(start_by=timezone.now() - timedelta(seconds=1))
    assert run_all() == 0

    sweeping.sweep()

    assert snapshots.error_of(again(prediction)) == {
        "code": "deadline_exceeded",
        "message": "No worker began it in time. Nothing was charged.",
    }
    assert is_charged(organization, 0)


def test_holds_do_not_expire_while_their_rows_may_still_run(accept: Accept) -> None:
    prediction = accept()

    assert prediction.start_by is not None
    assert Hold.objects.get().expires_at >= prediction.start_by + timedelta(hours=1)


def test_a_hold_that_was_given_back_meanwhile_leaves_no_output(
    accept: Accept, organization: Organization
) -> None:
    prediction = accept()
    holds.void(prediction.hold_id, "test")

    run_all()

    found = snapshots.as_json(again(prediction))
    assert (found["status"], found["output"]) == ("failed", None)
    assert found["error"]["code"] == "hold_expired"
    assert is_charged(organization, 0)


def lose(*predictions: Prediction) -> None:
    """Let the leases run out, as when a worker has died."""
    Prediction.objects.filter(pk__in=[one.pk for one in predictions]).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )
    sweeping.sweep()


def test_what_a_dead_worker_had_is_run_by_another_and_charged_once(
    accept: Accept, organization: Organization
) -> None:
    prediction = accept()
    dead = claims.claim("w1")
    assert dead is not None
    begun = claims.begin(dead)
    lose(prediction)

    run_all("w2")
    late = endings.finish([endings.Ran(begun[0], "succeeded", {}, 1, 1, "w1")])

    assert late == []
    assert again(prediction).attempt == 2
    assert snapshots.as_json(again(prediction))["output"]["label"] == "3"
    assert UsageEvent.objects.get().worker == "w2"
    assert is_charged(organization, 1)


def test_what_kills_its_workers_is_run_alone_and_given_up(
    accept: Accept, organization: Organization
) -> None:
    rows = [accept(), accept()]
    sizes = []
    for _ in range(5):
        claimed = claims.claim("w1")
        assert claimed is not None
        sizes.append(len(claimed.predictions))
        lose(*claimed.predictions)

    assert sizes == [2, 1, 1, 1, 1]
    assert [again(row).status for row in rows] == ["failed", "failed"]
    assert snapshots.as_json(again(rows[0]))["error"]["code"] == "worker_lost"
    assert is_charged(organization, 0)


def test_a_worker_that_lives_keeps_its_lease(accept: Accept) -> None:
    accept()
    claimed = claims.claim("w1")
    assert claimed is not None
    Prediction.objects.update(lease_until=timezone.now() - timedelta(seconds=1))

    assert claims.Keeper(claimed).renew() == 1
    sweeping.sweep()

    assert Prediction.objects.get().status == Status.STARTING


@pytest.mark.usefixtures("counts")
def test_predictions_that_run_later_are_counted_when_they_end(
    accept: Accept, version: ModelVersion
) -> None:
    done, given_up, late = accept(), accept(), accept()
    Prediction.objects.filter(pk=done.pk).update(created_at=timezone.now() - timedelta(seconds=40))
    assert endings.cancel(given_up)
    Prediction.objects.filter(pk=late.pk).update(start_by=timezone.now() - timedelta(seconds=1))
    sweeping.sweep()
    assert run_all() == 1

    found, path = counted(), version.model.path
    ends = {
        labels["outcome"]: found.value("mercato_calls_total", **labels)
        for labels in found.labels("mercato_calls_total")
        if labels["model"] == path
    }
    assert ends == {"succeeded": 1, "canceled": 1, "deadline_exceeded": 1}
    assert found.sum("mercato_calls_total", kind="async") == 3
    assert found.value("mercato_rows_total", model=path, kind="async") == 1
    name = "mercato_call_duration_seconds"
    # Since it was accepted: it lay for most of that.
    assert 40 <= found.value(f"{name}_sum", model=path, kind="async") < 400
    assert found.value(f"{name}_bucket", model=path, kind="async", le="30") == 0
    # A pid is no label, so a name without one is the worker's.
    assert found.value("mercato_worker_requests_total", worker="w1", outcome="succeeded") == 1
    assert found.value("mercato_worker_run_seconds_count", worker="w1") == 1
    # How long a row lay says nothing about how fast its model is.
    assert live.read(live.model_series(path), live.HOUR).total.calls == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("counts")
def test_what_is_not_accepted_is_counted_at_once(version: ModelVersion) -> None:
    poor = factories.make_organization(credit_nanos=0)

    with pytest.raises(InsufficientCreditError):
        asyncio.run(answering.answer(call_of(poor, version), LATER))

    ends = {"model": version.model.path, "kind": "async", "outcome": "insufficient_credit"}
    assert counted().value("mercato_calls_total", **ends) == 1


def test_watchers_are_told_how_long_the_load_of_a_model_takes(
    accept: Accept, version: ModelVersion
) -> None:
    starts.record(version.pk, 2500, 1)
    first = accept()
    run_all()
    second = accept()
    run_all()

    # Its model was in memory by then.
    assert events_of(first) == ["status", "status", "starting", "status", "status"]
    assert events_of(second) == ["status"] * 4
    [told] = [data for name, data in history(first) if name == "starting"]
    assert told == {"id": str(first.pk), "ready_in_seconds": 2.5}


def history(prediction: Prediction) -> list[tuple[str, dict[str, Any]]]:
    """Return what watchers were told, oldest first."""
    found: Any = redis_client(EVENTS_DB).xrange(SOURCE.key(prediction.pk))
    return [(one[b"event"].decode(), json.loads(one[b"data"])) for _, one in found]


def events_of(prediction: Prediction) -> list[str]:
    return [name for name, _ in history(prediction)]


def test_where_its_time_went_is_kept_whether_it_ran_or_not(accept: Accept, counts: None) -> None:
    ran, canceled = accept(), accept()
    assert endings.cancel(canceled)
    run_all()
    Flusher("unit", keep=traces.keep).flush()

    found = traces.of([ran.hold_id, canceled.hold_id])

    assert [step.name for step in found[canceled.hold_id].steps] == ["queue"]
    assert [step.name for step in found[ran.hold_id].steps] == ["queue", "run", "capture"]
    took = timezone.now() - ran.created_at
    assert timedelta(0) < timedelta(microseconds=found[ran.hold_id].total_us) <= took


def test_what_a_broken_model_keeps_from_running_has_a_trace_too(
    accept: Accept, counts: None, version: ModelVersion
) -> None:
    version.artifacts.update(path="nothing/here.onnx")
    failed = accept()

    run_all()
    Flusher("unit", keep=traces.keep).flush()

    assert again(failed).status == Status.FAILED
    steps = traces.of([failed.hold_id])[failed.hold_id].steps
    assert [step.name for step in steps] == ["queue", "capture"]
